"""The hue of a whole image, and the difference of two hues.

Idea: project the colour cube along its grey axis onto a plane.  In this plane a colour is a vector from the centre,
which is grey: its direction is the hue, its length the chroma, and grey pixels add nothing.  The hue of the image is
the direction of the mean of these vectors.  Hues are angles, so their difference wraps around: 350 and 10 degrees
differ by 20.
Leaves out lightness.
"""

import math

import numpy as np


def hue(images: np.ndarray) -> np.ndarray:
    """Return the hue of each image (N, H, W, 3) uint8, in degrees from -180 to 180, red being 0: (N,) float64.

        hue = atan2(y, x),     x = R - (G + B) / 2,     y = (G - B) sqrt(3) / 2,     R, G, B: means over all pixels

    x and y span the plane perpendicular to the grey axis of the colour cube.
    """
    r, g, b = (images[..., c].astype(np.float64).mean(axis=(1, 2)) for c in range(3))
    return np.degrees(np.arctan2((g - b) * math.sqrt(3) / 2, r - (g + b) / 2))


def hue_error(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the difference of hues (N,) in degrees, from 0 to 180; the median for random hues is 90."""
    return np.abs((one - other + 180) % 360 - 180)
