"""Exercise 14: the nearest word.

Somebody types "forrest" and means a word of the vocabulary. Which? The distance of two words is the least number of
letters that must be put in, taken out or exchanged to turn one into the other (Levenshtein 1966).

Hint: let d[i][j] be the distance of the first i letters of the one and the first j of the other. d[i][0] = i and
d[0][j] = j. The last letters are either kept (if they are equal), or exchanged, or one of them is left out: of what
three smaller distances is d[i][j] made?
"""

import sys

from checking import expect, report

from minidiff.scenes.captions import TOKENIZER


def nearest(word: str, words: tuple[str, ...]) -> str:
    """Return the word with the least distance to `word`, of several the first."""
    raise NotImplementedError


def check() -> None:
    """Raise an error that says what is missing, unless `nearest` is right."""
    expect(
        nearest("abc", ("xyz", "abd", "ab")) == "abd", '"abd" and "ab" are both one away from "abc": the first counts'
    )
    expect(nearest("cart", ("cat", "dart", "card")) == "cat", "one letter may be left out")
    expect(nearest("ab", ("ba", "abcd", "a")) == "a", "two letters exchanged cost two")
    for typed, meant in {"forrest": "forest", "doggo": "dog", "sunst": "sunset", "mountans": "mountains"}.items():
        found = nearest(typed, TOKENIZER.words)
        expect(found == meant, f"{typed!r} means {meant!r}, found {found!r}")


if __name__ == "__main__":
    sys.exit(report(check))
