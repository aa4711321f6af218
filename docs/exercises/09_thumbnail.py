"""Exercise 9: from any photograph to a training image.

Cut the largest square out of the middle of an image, and shrink it so that every new pixel is the mean of the block
of old pixels that it replaces, rounded to the nearest integer. The square's side is always a multiple of the new size.

Hint: (side, side, C) reshaped to (size, side // size, size, side // size, C) has the blocks on axes 1 and 3.
"""

import sys

import numpy as np
from checking import expect, report


def thumbnail(image: np.ndarray, size: int) -> np.ndarray:
    """image: (H, W, C) uint8. Returns (size, size, C) uint8."""
    raise NotImplementedError


def check() -> None:
    """Raise an error that says what is missing, unless `thumbnail` is right."""
    rng = np.random.default_rng(0)
    for shape in ((8, 8, 3), (8, 20, 3), (21, 8, 1)):
        made = thumbnail(rng.integers(0, 256, shape).astype(np.uint8), 4)
        expect(np.shape(made) == (4, 4, shape[2]), f"{shape} became {np.shape(made)}, expected {(4, 4, shape[2])}")
        expect(made.dtype == np.uint8, f"the result is {made.dtype}, expected uint8")
    wide = np.zeros((8, 20, 1), np.uint8)
    wide[:, 6:14] = 200
    expect((thumbnail(wide, 4) == 200).all(), "of a wide image the middle is kept")
    expect((thumbnail(wide.swapaxes(0, 1), 4) == 200).all(), "of a tall image the middle is kept")
    checks = np.indices((16, 16)).sum(axis=0)[..., None] % 2 * np.uint8(255)
    grey = thumbnail(checks.astype(np.uint8), 4)
    expect(np.isin(grey, (127, 128)).all(), f"a fine chessboard becomes grey, got {np.unique(grey)}: take means")
    steps = np.array([[0, 1], [1, 1]], np.uint8)[..., None]
    expect(int(thumbnail(steps, 1)[0, 0, 0]) == 1, "0.75 is rounded to 1, not cut to 0")


if __name__ == "__main__":
    sys.exit(report(check))
