"""Which hue does an image have as a whole, and how far are two apart?

Idea: grey has no hue and pure colours have one each, so every pixel is an arrow from grey: its direction is the hue,
its length how colourful the pixel is.  The mean of all arrows points to the hue of the image; two such directions
are compared as angles are, 350 degrees being 20 from 10.
Beside edges.py.  Leaves out lightness.
"""

import math

import numpy as np


def hue(images: np.ndarray) -> np.ndarray:
    """Return the hue of each image (N, H, W, 3) uint8, in degrees from -180 to 180, red being 0: (N,) float64.

    The plane of the arrows: x = R - (G + B) / 2,  y = (G - B) sqrt(3) / 2, across the grey axis of the colour cube.
    """
    r, g, b = (images[..., c].astype(np.float64).mean(axis=(1, 2)) for c in range(3))
    return np.degrees(np.arctan2((g - b) * math.sqrt(3) / 2, r - (g + b) / 2))


def hue_error(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return how far hues are apart, (N,) degrees from 0 to 180; between hues by chance it is 90 in the median."""
    return np.abs((one - other + 180) % 360 - 180)
