"""Has the network learnt its images by heart?

Idea: who copies is nearer to what was copied than a stranger is.  The distance of samples to the nearest training
image stands beside that of held-out images, which nobody can have copied.
After precision_recall.py.  Leaves out copies of parts, and copies that are mirrored.
"""

import numpy as np

from minidiff.evaluation.metrics.precision_recall import distances

MOST = 60_000  # training images that are looked through: a copy of one that is left out looks like none


def nearest(images: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Return how far the nearest training image is from each, by features (n, D) and (m, D): (n,) float64."""
    parts = np.array_split(training, len(training) // 1000 + 1)
    return np.min([distances(images, part).min(axis=1) for part in parts], axis=0)
