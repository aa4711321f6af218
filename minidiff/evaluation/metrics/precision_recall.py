"""Are samples good, and is there one of each kind?  Two numbers for what a distance mixes into one.

Idea: around every real image lies a ball that reaches to its third neighbour; together they cover where images
are.  *Precision* is the share of samples that lie there.  Turned round, *recall* is the share of real images that
lie in the balls of the samples: what a model that draws ten fine images again and again does not have.
After kid.py.
Source: Kynkäänniemi et al. 2019, arXiv:1904.06991, eq. 1 and 2.
"""

import numpy as np

NEIGHBOURS = 3


def precision_recall(samples: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """Return precision and recall of samples (n, D), given real images (m, D), as features; n and m above 3."""
    if min(len(samples), len(real)) <= NEIGHBOURS:
        raise ValueError(f"precision_recall: expected more than {NEIGHBOURS} each, got {len(samples)} and {len(real)}")
    between = distances(samples, real)  # (n, m)
    return (
        float((between <= _radius(real)).any(axis=1).mean()),
        float((_radius(samples) >= between.T).any(axis=1).mean()),
    )


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the Euclidean distances of features (n, D) and (m, D): (n, m) float64.

    The difference of squares could lose what is near; features are few, so they are subtracted, some at a time.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.concatenate([np.sqrt(((part[:, None] - b) ** 2).sum(-1)) for part in np.array_split(a, len(a) // 50 + 1)])


def _radius(x: np.ndarray) -> np.ndarray:
    """How far each one's third neighbour is: (n,)."""
    return np.sort(distances(x, x), axis=1)[:, NEIGHBOURS]  # the nearest is itself
