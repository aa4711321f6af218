"""The kernel distance (KID): an unbiased distance between two sets of images.

Idea: compare the features of every image with those of every other by a kernel, a measure of similarity.  If both sets
come from one distribution, images are on average as similar across the sets as within them, and the expected
difference is zero for any number of images.  The Fréchet distance lacks this property.
Source: Bińkowski et al. 2018, arXiv:1801.01401, section 3 ("KID").
"""

import math

import numpy as np

from minidiff.evaluation.metrics.frechet import GROUPS


def kid(a: np.ndarray, b: np.ndarray) -> float:
    """Return the unbiased squared maximum mean discrepancy of two sets of features with k(x, y) = (x . y / D + 1)^3.

        mean of k(a_i, a_j), i != j   +   mean of k(b_i, b_j), i != j   -   2 mean of k(a_i, b_j)

    a: (n, D), b: (m, D) float, n and m at least 2; computed in float64.  It may be negative.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"kid: expected (n, D) and (m, D) with n, m of 2 or more, got {a.shape}, {b.shape}")
    a, b = a.astype(np.float64), b.astype(np.float64)
    return _within(a) + _within(b) - 2 * float(_kernel(a, b).mean())


def kid_deviation(a: np.ndarray, b: np.ndarray) -> float:
    """Estimate the standard deviation of `kid` of two sets of n by the jackknife of frechet.py; nan for n below 4."""
    n, groups = len(a), min(GROUPS, len(a) // 2)
    if n < 4:
        return math.nan
    part = np.arange(n) * groups // n
    each = np.array([kid(a[part != g], b[part != g]) for g in range(groups)])
    return math.sqrt((groups - 1) / groups * ((each - each.mean()) ** 2).sum())


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _within(a: np.ndarray) -> float:
    k, n = _kernel(a, a), len(a)
    return float((k.sum() - np.trace(k)) / (n * (n - 1)))
