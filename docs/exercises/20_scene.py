"""Exercise 20: a scene of your own.

Scenes are drawn from their factors, and the factors can be replaced. Make every image
show one big red balloon in the middle, over the sea at sunset, under a clear sky, in the plain style.

Hint: `dataclasses.replace` makes a changed copy of `Factors`; each field is an array (N,) of indices into the tuples of
minidiff/scenes/factors.py. `np.full_like(factors.subject, SUBJECTS.index("balloon"))` is one such array.
"""

import sys

import numpy as np
from checking import expect, report

from minidiff.images.files import half_blocks
from minidiff.scenes import Scenes
from minidiff.scenes import factors as names
from minidiff.scenes.factors import Factors
from minidiff.scenes.scenes import render


def balloon_at_sunset(factors: Factors) -> Factors:
    """Returns factors of as many images, that show the balloon described above. Season, hue and facing are free."""
    raise NotImplementedError


ASKED = {
    "subject": (names.SUBJECTS, "balloon"), "colour": (names.COLOURS, "red"), "place": (names.PLACES, "sea"),
    "time": (names.TIMES, "sunset"), "weather": (names.WEATHERS, "clear"), "style": (names.STYLES, "plain"),
    "size": (names.SIZES, "big"), "position": (names.POSITIONS, "middle"),
}  # fmt: skip


def check() -> None:
    """Raise an error that says what is missing, unless `balloon_at_sunset` is right."""
    sample = np.arange(12)
    before = Scenes(split="test").factors(sample)
    factors = balloon_at_sunset(before)
    expect(isinstance(factors, Factors), f"return Factors, not {type(factors).__name__}")
    for field, (words, word) in ASKED.items():
        found = getattr(factors, field)
        expect(np.shape(found) == (12,), f"{field} has shape {np.shape(found)}, expected (12,)")
        expect((found == words.index(word)).all(), f"{field} should be {word} everywhere, got {words[found[0]]} first")
    expect((np.asarray(factors.count) == 1).all(), "count should be 1 everywhere")
    expect(not np.array_equal(before.subject, factors.subject), "the factors that came in were changed in place")

    rendering = render(factors, 32, 0, "test", sample)
    share = (rendering.label == names.LABELS.index("balloon")).mean(axis=(1, 2))
    expect(share.min() > 0.05, f"a big balloon covers more than 5% of an image, found {share.min():.1%}")
    print(half_blocks(np.concatenate(rendering.image[:3], axis=1)))  # three of them, for your terminal


if __name__ == "__main__":
    sys.exit(report(check))
