"""Exercise 10: the nearest word.

Somebody types "forrest" and means a word of the vocabulary. Which? The distance of two words is the smallest number of
letters that must be inserted, deleted or replaced to turn one into the other (Levenshtein 1966).

Hint: let d[i][j] be the distance of the first i letters of the one and the first j of the other. d[i][0] = i and
d[0][j] = j. The last letters are either kept (if they are equal), or replaced, or one of them is deleted: from which
three smaller distances does d[i][j] follow?
"""

import sys

from checking import expect, report

from minidiff.scenes.captions import TOKENIZER


def nearest(word: str, words: tuple[str, ...]) -> str:
    """Return the word with the smallest distance to `word`; the first one, if there are several."""
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
