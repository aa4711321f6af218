"""Exercise 12: the hue of an image.

Every pixel is a vector from grey: its direction is its hue, its length its saturation. The direction of the mean vector
is the hue of the image.

Hint: seen along its grey axis the colour cube is a hexagon, with red at 0 degrees, green at 120 and blue at 240. Where
in the plane does a colour (R, G, B) lie, then? Add up R times the direction of red, and so on.
"""

import sys

import numpy as np
from checking import expect, report

from minidiff.evaluation.scenes.hue import hue as ours


def hue(image: np.ndarray) -> float:
    """image: (H, W, 3) uint8. Returns degrees, of which 0 and 360 are the same."""
    raise NotImplementedError


def check() -> None:
    """Raise an error that says what is missing, unless `hue` is right."""

    def apart(one: float, other: float) -> float:
        return abs((one - other + 180) % 360 - 180)

    pure = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)}
    for (name, rgb), degrees in zip(pure.items(), (0, 120, 240, 60)):
        found = hue(np.full((4, 4, 3), rgb, np.uint8))
        expect(apart(found, degrees) < 0.1, f"{name} is {degrees} degrees, found {found:.1f}")
    half = np.zeros((2, 2, 3), np.uint8)
    half[0] = 255, 0, 0
    half[1] = 0, 0, 255
    expect(apart(hue(half), 300) < 0.1, "half red and half blue is 300 degrees, not the mean of 0 and 240")
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    expect(apart(hue(image), float(ours(image[None])[0])) < 0.1, "it differs from what references are judged by")


if __name__ == "__main__":
    sys.exit(report(check))
