"""Were training images memorised?

Idea: a copy is closer to its training image than an independent image is.  So the distance of samples to the nearest
training image is reported beside that of held-out images, which cannot be copies.  These are distances between the
features of a classifier, not between pixels.
A gap between the losses on training and on held-out images is the other sign: heldout.py.
Leaves out copies of parts of an image, mirrored copies, and training images after the first 60,000.
"""

import numpy as np

from minidiff.evaluation.metrics.precision_recall import distances

MAX_TRAINING_IMAGES = 60_000  # the first ones, which are searched; copies of the others are not found


def nearest(images: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Return each image's distance to its nearest training image, (n,) float64, from features (n, D) and (m, D)."""
    parts = np.array_split(training, len(training) // 1000 + 1)
    return np.min([distances(images, part).min(axis=1) for part in parts], axis=0)
