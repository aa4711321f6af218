"""The Fréchet distance between two sets of images: the distance between Gaussians fitted to their features.

Idea: a classifier turns each image into a few dozen numbers, its features.  The distance compares the means and the
covariances of the features of both sets.  If the samples are as good and as varied as real images, both agree.
Leaves out where the features come from: labels/classifier.py.

One distance means nothing alone.  It depends on the classifier, so it cannot be compared with another tool's number.
And it is biased upwards, more so for fewer images (Chong and Forsyth 2020, arXiv:1911.07023): the distance between two
sets of *real* images is above 0, too.  So that distance, for sets of the same size, is reported beside the distance of
the samples.  Both come with a standard deviation from the jackknife (`deviation`).
"""

import math
from dataclasses import dataclass

import numpy as np

GROUPS = 10


@dataclass(frozen=True)
class Frechet:
    """Fréchet distances between two sets of n images, each with its jackknife standard deviation.

    samples: from the samples to real images.  real: from other real images to the same ones.  A model cannot be
    expected to reach a smaller distance than `real`.
    """

    n: int
    samples: tuple[float, float]
    real: tuple[float, float]


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the squared Fréchet distance between the Gaussians fitted to two sets of features.

        d² = |mu_a - mu_b|² + tr(C_a + C_b - 2 (C_a C_b)^(1/2))

    a: (n, D), b: (m, D) float, n and m at least 2; computed in float64.  Like other tools it returns d², not d.
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

    C_a C_b is not symmetric, and a general matrix square root fails when a covariance is singular, as with fewer images
    than features.  But with the symmetric roots A = C_a^(1/2) and B = C_b^(1/2), the product C_a C_b has the
    eigenvalues of A B B A = (A B)(A B)ᵀ.  So the trace of its root is the sum of the singular values of A B.  No root
    of a product is taken, and the rounding error of a tiny eigenvalue is not enlarged by a square root.
    """
    product = _root(C_a) @ _root(C_b)
    trace = np.trace(C_a) + np.trace(C_b) - 2 * np.linalg.svd(product, compute_uv=False).sum()
    # The distance of equal Gaussians is 0 up to rounding, which may make it negative.
    return max(0.0, float(((mu_a - mu_b) ** 2).sum() + trace))


def deviation(a: np.ndarray, b: np.ndarray) -> float:
    """Estimate the standard deviation of the distance between two sets of n features by the grouped jackknife.

        s² = (G - 1) / G  sum over g of (d_g - mean d)²,      d_g: the distance without the g-th of G parts

    A part is a run of consecutive images of both sets; G = 10.  The estimate is too large rather than too small: by
    about a factor of 2 if both sets come from one distribution, otherwise by up to a half.  (The bootstrap, which
    repeats images, errs more.)
    a, b: (n, D).  Returns nan for n = 2.
    Source: Efron and Stein 1981, doi:10.1214/aos/1176345462, for its bias upwards.
    """
    n, groups = len(a), min(GROUPS, len(a))
    if n < 3:
        return math.nan
    part = np.arange(n) * groups // n  # (n,)
    distances = np.array([frechet_distance(a[part != g], b[part != g]) for g in range(groups)])
    return math.sqrt((groups - 1) / groups * ((distances - distances.mean()) ** 2).sum())


def compare_frechet(features: np.ndarray, real: np.ndarray) -> Frechet | None:
    """Compare samples with real images by the Fréchet distance; None if there are fewer than 2 of either.

    features: (N, D), of the samples.  real: (2 n, D), n at most N.  The first half of the real images is compared with
    n samples, and with the second half.
    """
    n = len(real) // 2
    if n < 2:
        return None
    pairs = ((features[:n], real[:n]), (real[n:], real[:n]))
    samples, others = ((frechet_distance(a, b), deviation(a, b)) for a, b in pairs)
    return Frechet(n, samples, others)


def _root(C: np.ndarray) -> np.ndarray:
    """Return the symmetric root V diag(sqrt(w)) Vᵀ of a symmetric positive semi-definite matrix V diag(w) Vᵀ."""
    w, V = np.linalg.eigh(C)
    return (V * np.sqrt(np.maximum(w, 0))) @ V.T  # rounding may make a zero eigenvalue negative
