"""The tokenizer: it turns captions into token ids, and refuses prompts with unknown words.

Idea: the vocabulary consists of the most frequent words in the training captions, in alphabetical order.  The id of a
word is its position in this list, counted from 1.  A caption becomes the ids of its words, filled up with zeros to a
fixed length.  The network could only ignore an unknown word.  So an unknown word in a prompt is an error, whose message
names the most similar known word.  In training, random parts of a caption are dropped, so that short prompts work too.
Leaves out subword units, with which large models read any text (Sennrich et al. 2015, arXiv:1508.07909).
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from minidiff.errors import MinidiffError, did_you_mean, listed

PADDING = 0  # the id of "no word"; a caption of PADDING alone is no caption
MAX_VOCAB_SIZE = 4096  # ids, PADDING included
MAX_TOKENS = 32  # words of a caption; training ignores further words
MAX_LETTERS = 64  # of a word; longer words are ignored


class Tokenizer:
    """The vocabulary of a network, and the length of its captions.

    words: the vocabulary in lower case, each word once; they have the ids 1, 2, …  max_tokens: L, the ids per caption.
    """

    def __init__(self, words: Sequence[str], max_tokens: int) -> None:
        self.words, self.max_tokens = tuple(words), max_tokens
        self._ids = {word: number for number, word in enumerate(self.words, 1)}

    def __len__(self) -> int:
        """The number of ids, PADDING included."""
        return len(self.words) + 1

    def encode(self, captions: Iterable[str]) -> np.ndarray:
        """Return the ids of captions: (N, L) int64; unknown words, and words beyond L, are left out."""
        rows = [[self._ids[word] for word in split(caption) if word in self._ids] for caption in captions]
        return self._fill(rows)

    def caption_parts(self, captions: Iterable[str]) -> np.ndarray:
        """Return the part of the caption that each word belongs to: (N, L) int64, word by word as in `encode`.

        Commas and semicolons separate parts, as in "cat, small animal, pet".  Parts are numbered 0, 1, …; parts without
        a known word are not counted.
        """
        rows = []
        for caption in captions:
            parts = [[word for word in split(part) if word in self._ids] for part in re.split("[,;]", caption)]
            rows.append([number for number, part in enumerate(filter(None, parts)) for _ in part])
        return self._fill(rows)

    def encode_prompt(self, prompt: str) -> np.ndarray:
        """Return the ids of a prompt of a user: (L,) int64.

        Raises MinidiffError if the prompt has no word, more than L words, or unknown words, which the message names.
        """
        words = split(prompt)
        if not words:
            raise MinidiffError(f"a prompt must have words, such as {self._example()}; got {shorten(prompt)!r}")
        if len(words) > self.max_tokens:
            raise MinidiffError(
                f"a prompt may have up to {self.max_tokens} words, got {len(words)}: {shorten(prompt)!r}"
            )
        if unknown := list(dict.fromkeys(word for word in words if word not in self._ids)):
            raise MinidiffError(f"unknown {'words' if len(unknown) > 1 else 'word'} in the prompt: "
                                f"{', '.join(map(self._offer, unknown[:5]))}; {self._known()}")  # fmt: skip
        return self._fill([[self._ids[word] for word in words]])[0]

    def decode(self, ids: np.ndarray) -> str:
        """Return the words of ids (L,), separated by spaces."""
        return " ".join(self.words[number - 1] for number in ids.tolist() if number != PADDING)

    def _fill(self, rows: list[list[int]]) -> np.ndarray:
        filled = np.full((len(rows), self.max_tokens), PADDING, np.int64)
        for row, numbers in zip(filled, rows):
            row[: len(numbers)] = numbers[: self.max_tokens]
        return filled

    def _offer(self, word: str) -> str:
        hint = did_you_mean(word, self.words)
        return repr(shorten(word, 30)) + (f" ({hint})" if hint else "")

    def _known(self, most: int = 150) -> str:
        return f"known are {listed(sorted(self.words), most, ' ')}"

    def _example(self) -> str:
        return "'a dog'" if "dog" in self._ids else repr(self.words[0])


def drop_caption_parts(ids: np.ndarray, parts: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Drop random parts of captions, so that the network also learns single keywords; returns ids, (N, L) int64.

    ids, parts: (N, L), from `Tokenizer.encode` and `Tokenizer.caption_parts`.  u: (N, 1 + L), uniform in [0, 1).
    Part k stays if u[1 + k] < u[0].  So each number of remaining parts, 0 included, has the same probability.  If none
    would remain, the part with the smallest u stays; one part therefore has twice the probability of any other number,
    which is 40% for a caption of four parts.  A caption of one part never changes.
    """
    u_of_word = np.where(ids == PADDING, 1, np.take_along_axis(u[:, 1:], parts, axis=1))
    stays = (u_of_word < u[:, :1]) | ((u_of_word == u_of_word.min(axis=1, keepdims=True)) & (u_of_word < 1))
    order = np.argsort(~stays, axis=1, kind="stable")  # the remaining words first, in their order
    return np.take_along_axis(np.where(stays, ids, PADDING), order, axis=1)


def split(text: str) -> list[str]:
    """Return the words of a text in lower case: runs of letters, digits and accents, in any script.

    Chinese and Japanese are written without spaces; each of their characters is a word.
    """
    text = unicodedata.normalize("NFC", text.lower())  # an é may be written as one character or as two
    words = "".join(map(_spaced, text)).split()
    return [word for word in words if any(map(str.isalnum, word))]


def _spaced(character: str) -> str:
    """Return a letter or digit as it is, a Chinese or Japanese character between spaces, and a space for all else."""
    if "\u3040" <= character <= "\u30ff" or "\u3400" <= character <= "\u9fff":
        return f" {character} "
    return character if character.isalnum() or unicodedata.category(character)[0] == "M" else " "


def build_tokenizer(captions: Iterable[str]) -> Tokenizer:
    """Return a tokenizer for training captions: at most their 4,095 most frequent words, in alphabetical order.

    Raises MinidiffError if no caption has a word.
    """
    counts: Counter[str] = Counter()
    longest = 0
    for caption in captions:
        words = [word for word in split(caption)[:MAX_TOKENS] if len(word) <= MAX_LETTERS]
        counts.update(words)
        longest = max(longest, len(words))
    if not counts:
        raise MinidiffError("the captions have no words")
    words = sorted(word for word, _ in counts.most_common(MAX_VOCAB_SIZE - 1))
    return Tokenizer(words, longest)


def shorten(text: str, most: int = 60) -> str:
    """Return a text, cut to `most` characters, for a message."""
    return text if len(text) <= most else text[: most - 1] + "…"
