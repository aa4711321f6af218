"""How far apart are two heaps of images?  The Fréchet distance between Gaussians fitted to their features.

Idea: a classifier turns each image into a few dozen numbers that say what is on it.  If the samples are as good and
as varied as real images, these numbers have the same mean and the same covariance in both heaps.
After split.py.  Leaves out where the features come from: classifier.py.

A distance of samples means nothing alone.  It depends on the classifier, so it compares with no other tool's number;
and it is biased upwards, the more so the fewer images there are (Chong and Forsyth 2020, arXiv:1911.07023): two heaps
of *real* images are not at 0 either.  That distance, at the same size, is what the samples' stands beside.
"""

import math

import numpy as np

GROUPS = 10


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the squared Fréchet distance between the Gaussians fitted to two sets of features.

        d² = |mu_a - mu_b|² + tr(C_a + C_b - 2 (C_a C_b)^(1/2))

    a: (n, D), b: (m, D) float, n and m of 2 or more; computed in float64.  It is d², as the field reports it.
    Source: Heusel et al. 2017, arXiv:1706.08500, eq. 6; Dowson and Landau 1982, doi:10.1016/0047-259X(82)90077-X.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            f"frechet_distance: expected (n, D) and (m, D) with n, m of 2 or more, got {a.shape}, {b.shape}"
        )
    a, b = a.astype(np.float64), b.astype(np.float64)
    covariance_a, covariance_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))  # (D, D)
    return gaussian_distance(a.mean(0), covariance_a, b.mean(0), covariance_b)


def gaussian_distance(mu_a: np.ndarray, C_a: np.ndarray, mu_b: np.ndarray, C_b: np.ndarray) -> float:
    """Return d² of two Gaussians: means (D,), covariances (D, D), symmetric and positive semi-definite, float64.

    C_a C_b is not symmetric, and a general matrix root of it breaks down where a covariance is singular, as it is with
    fewer images than features.  But with A = C_a^(1/2) and B = C_b^(1/2), both symmetric, it has the eigenvalues of
    A B B A = (A B)(A B)ᵀ, so the trace of its root is the sum of the singular values of A B: no root of a product is
    ever taken, and a tiny eigenvalue's rounding is not blown up by a square root.
    """
    product = _root(C_a) @ _root(C_b)
    trace = np.trace(C_a) + np.trace(C_b) - 2 * np.linalg.svd(product, compute_uv=False).sum()
    # Equal Gaussians are at a distance of 0 but for rounding, which may fall on either side.
    return max(0.0, float(((mu_a - mu_b) ** 2).sum() + trace))


def deviation(a: np.ndarray, b: np.ndarray) -> float:
    """Return the standard deviation of the distance between two sets of n features, by leaving parts of both out.

        s² = (G - 1) / G  sum over g of (d_g - mean d)²,      d_g: the distance without the g-th of G parts

    Parts are stretches of the sets, G = 10.  It errs on the safe side: where both sets come from one distribution it is
    about twice too large, elsewhere up to a half.  (The bootstrap, which holds images twice, errs more.)
    a, b: (n, D).  Returns nan for n of 2.
    Source: the jackknife with groups; Efron and Stein 1981, doi:10.1214/aos/1176345462, for its bias upwards.
    """
    n, groups = len(a), min(GROUPS, len(a))
    if n < 3:
        return math.nan
    part = np.arange(n) * groups // n  # (n,)
    distances = np.array([frechet_distance(a[part != g], b[part != g]) for g in range(groups)])
    return math.sqrt((groups - 1) / groups * ((distances - distances.mean()) ** 2).sum())


def _root(C: np.ndarray) -> np.ndarray:
    """The symmetric root of a symmetric positive semi-definite matrix V diag(w) Vᵀ: V diag(sqrt(w)) Vᵀ."""
    w, V = np.linalg.eigh(C)
    return (V * np.sqrt(np.maximum(w, 0))) @ V.T  # rounding makes zeros negative
