"""Were training images memorised?

Idea: a copy lies closer to its training image than an independent image does.  So the distance of samples to the
nearest training image is reported beside that of held-out images, which cannot be copies.
A gap between the losses on training and on held-out images is the other sign: heldout.py.
Leaves out copies of parts of an image and mirrored copies.
"""

import numpy as np

from minidiff.evaluation.metrics.precision_recall import distances

MAX_TRAINING_IMAGES = 60_000  # that are searched; copies of further images are not found


def nearest(images: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Return each image's distance to its nearest training image, (n,) float64, from features (n, D) and (m, D)."""
    parts = np.array_split(training, len(training) // 1000 + 1)
    return np.min([distances(images, part).min(axis=1) for part in parts], axis=0)
