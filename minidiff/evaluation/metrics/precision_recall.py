"""Precision and recall: the fidelity and the diversity of samples, which a distance mixes into one number.

Idea: in the space of features, draw a ball round each real image that reaches to its third nearest neighbour; together
the balls cover the region of real images.  *Precision* is the share of samples in that region.  *Recall* exchanges the
two sets: it is the share of real images in the region of the samples.  A model that draws ten fine images again and
again has a low recall.
Source: Kynkäänniemi et al. 2019, arXiv:1904.06991, eq. 1 and 2.
"""

import numpy as np

NEIGHBOURS = 3


def precision_recall(samples: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """Return precision and recall from the features of samples (n, D) and real images (m, D); n and m at least 4."""
    if min(len(samples), len(real)) <= NEIGHBOURS:
        raise ValueError(f"precision_recall: expected more than {NEIGHBOURS} each, got {len(samples)} and {len(real)}")
    between = distances(samples, real)  # (n, m)
    return (
        float((between <= _radius(real)).any(axis=1).mean()),
        float((_radius(samples) >= between.T).any(axis=1).mean()),
    )


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the Euclidean distances of features (n, D) and (m, D): (n, m) float64.

    |a|² + |b|² - 2 a·b would lose the small distances to rounding, so features are subtracted, some rows at a time.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.concatenate([np.sqrt(((part[:, None] - b) ** 2).sum(-1)) for part in np.array_split(a, len(a) // 50 + 1)])


def _radius(x: np.ndarray) -> np.ndarray:
    """Return the distance of each image to its third nearest neighbour: (n,)."""
    return np.sort(distances(x, x), axis=1)[:, NEIGHBOURS]  # column 0 is the image itself
