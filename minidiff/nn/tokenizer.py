"""Words become numbers: the vocabulary of a network, and how a sentence is read with it.

Idea: a network that was trained on a hundred words knows a hundred words.  Each has a number, a sentence is the row of
its words' numbers, filled up with zeros, and a word without a number is said to be unknown, with the nearest one that
is known, rather than passed over in silence.
First file of conditioning/.  Leaves out pieces of words, by which large models read anything at all (Sennrich et al.
2015, arXiv:1508.07909), and grammar: word order is left to the network.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from minidiff.errors import MinidiffError, did_you_mean, listed

PADDING = 0  # the number of "no word"; a caption of nothing else is none
MAX_WORDS = 4096
LONGEST = 32  # words that a caption may have; the rest of a longer one is not learnt
LETTERS = 64  # that a word may have; what is longer is none


class Tokenizer:
    """The words that a network knows, in the order of their numbers 1, 2, …, and how long a caption may be.

    words: lower case, each once.  length: L, the numbers in a row.
    """

    def __init__(self, words: Sequence[str], length: int) -> None:
        self.words, self.length = tuple(words), length
        self._number = {word: number for number, word in enumerate(self.words, 1)}

    def __len__(self) -> int:
        """How many numbers there are, with that of no word."""
        return len(self.words) + 1

    def encode(self, captions: Iterable[str]) -> np.ndarray:
        """Return the numbers of captions from the data: (N, L) int64; what is unknown or too long is left out."""
        rows = [[self._number[word] for word in split(caption) if word in self._number] for caption in captions]
        return self._fill(rows)

    def parts(self, captions: Iterable[str]) -> np.ndarray:
        """Return in which of a caption's parts each of its words stands: (N, L) int64, as `tokens` has them.

        What commas or semicolons part, as in "cat, small animal, pet", is numbered 0, 1, …; what has no word is none.
        """
        rows = []
        for caption in captions:
            parts = [[word for word in split(part) if word in self._number] for part in re.split("[,;]", caption)]
            rows.append([number for number, part in enumerate(filter(None, parts)) for _ in part])
        return self._fill(rows)

    def read(self, prompt: str) -> np.ndarray:
        """Return the numbers of what a user asks for: (L,) int64.

        Raises MinidiffError in one line if it is empty or too long, or names its unknown words.
        """
        words = split(prompt)
        if not words:
            raise MinidiffError(f"a prompt must have words, such as {self._example()}; got {shorten(prompt)!r}")
        if len(words) > self.length:
            raise MinidiffError(f"a prompt may have up to {self.length} words, got {len(words)}: {shorten(prompt)!r}")
        if unknown := list(dict.fromkeys(word for word in words if word not in self._number)):
            raise MinidiffError(f"unknown {'words' if len(unknown) > 1 else 'word'} in the prompt: "
                                f"{', '.join(map(self._offer, unknown[:5]))}; {self._known()}")  # fmt: skip
        return self._fill([[self._number[word] for word in words]])[0]

    def decode(self, tokens: np.ndarray) -> str:
        """Return a row of numbers (L,) as words again."""
        return " ".join(self.words[number - 1] for number in tokens.tolist() if number != PADDING)

    def _fill(self, rows: list[list[int]]) -> np.ndarray:
        tokens = np.full((len(rows), self.length), PADDING, np.int64)
        for row, numbers in zip(tokens, rows):
            row[: len(numbers)] = numbers[: self.length]
        return tokens

    def _offer(self, word: str) -> str:
        hint = did_you_mean(word, self.words)
        return repr(shorten(word, 30)) + (f" ({hint})" if hint else "")

    def _known(self, most: int = 150) -> str:
        return f"known are {listed(sorted(self.words), most, ' ')}"

    def _example(self) -> str:
        return "'a dog'" if "dog" in self._number else repr(self.words[0])


def thinned(tokens: np.ndarray, parts: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Leave out parts of captions, so that one keyword alone is learnt as well as all of them: (N, L) int64.

    tokens, parts: (N, L), from `Tokenizer`.  u: (N, 1 + L) in [0, 1); part k stays if u[1 + k] < u[0], so that every
    number of them is as likely, none included.  In place of none, the one with the least u stays; so one is twice as
    likely as any other number, 40% of the time of four parts.  A caption of one part stays as it is.
    """
    mine = np.where(tokens == PADDING, 1, np.take_along_axis(u[:, 1:], parts, axis=1))
    stays = (mine < u[:, :1]) | ((mine == mine.min(axis=1, keepdims=True)) & (mine < 1))
    front = np.argsort(~stays, axis=1, kind="stable")  # words that stay move up, in their order
    return np.take_along_axis(np.where(stays, tokens, PADDING), front, axis=1)


def split(text: str) -> list[str]:
    """Return the words of a text, in lower case: runs of letters and digits of any script, with their accents.

    Chinese and Japanese are written without spaces; there every character is a word.
    """
    text = unicodedata.normalize("NFC", text.lower())  # an é may be written as one character or as two
    words = "".join(map(_part, text)).split()
    return [word for word in words if any(map(str.isalnum, word))]


def _part(character: str) -> str:
    """Return a character as it stands in words: a space for what parts them."""
    if "\u3040" <= character <= "\u30ff" or "\u3400" <= character <= "\u9fff":
        return f" {character} "
    return character if character.isalnum() or unicodedata.category(character)[0] == "M" else " "


def build_tokenizer(captions: Iterable[str]) -> Tokenizer:
    """Return the vocabulary of a training: its words, at most the 4,095 most frequent, in alphabetical order.

    Raises MinidiffError if there is no word in any caption.
    """
    counts: Counter[str] = Counter()
    longest = 0
    for caption in captions:
        words = [word for word in split(caption)[:LONGEST] if len(word) <= LETTERS]
        counts.update(words)
        longest = max(longest, len(words))
    if not counts:
        raise MinidiffError("the captions have no words")
    words = sorted(word for word, _ in counts.most_common(MAX_WORDS - 1))
    return Tokenizer(words, longest)


def shorten(text: str, most: int = 60) -> str:
    """Cut a text for a message."""
    return text if len(text) <= most else text[: most - 1] + "…"
