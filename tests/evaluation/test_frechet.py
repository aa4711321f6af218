"""The Fréchet distance against closed forms, against SciPy's matrix root, and where covariances are singular."""

import math

import numpy as np
import pytest
from scipy.linalg import sqrtm

from minidiff.evaluation.metrics.frechet import deviation, frechet_distance, gaussian_distance


def covariance(rng, n, rank=None):
    x = rng.normal(size=(n, rank or 2 * n))
    return x @ x.T / x.shape[1]


def rotation(rng, n):
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


def test_one_dimension():
    """N(0, 1) and N(3, 4): 3² + (1 - 2)² = 10."""
    one = np.ones((1, 1))
    assert gaussian_distance(np.zeros(1), one, np.full(1, 3.0), 4 * one) == pytest.approx(10, rel=1e-12)


def test_commuting_covariances():
    """With common axes it is |mu_a - mu_b|² + sum (sqrt(a) - sqrt(b))², however the axes lie."""
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0, 5, (2, 7))
    a[2] = b[4] = b[2] = 0  # singular in one of them, and in both
    V, mu = rotation(rng, 7), rng.normal(size=(2, 7))
    expected = ((mu[0] - mu[1]) ** 2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    found = gaussian_distance(mu[0], (V * a) @ V.T, mu[1], (V * b) @ V.T)
    # float64 rounds a zero eigenvalue to 1e-16, whose root is 1e-8
    assert found == pytest.approx(expected, abs=1e-6)


def test_general_covariances_against_scipy():
    rng = np.random.default_rng(2)
    a, b, mu = covariance(rng, 12), covariance(rng, 12), rng.normal(size=(2, 12))
    expected = ((mu[0] - mu[1]) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert gaussian_distance(mu[0], a, mu[1], b) == pytest.approx(expected, rel=1e-10)


def test_fewer_images_than_features():
    """A (n, D) set with n < D has a singular covariance.  tr (C_a C_b)^(1/2) is also the sum of the singular values of
    F_a F_bᵀ, F the centred features over sqrt(n - 1), which needs no root of a matrix."""
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(9, 20)), rng.normal(size=(11, 20)) + 0.5
    F_a, F_b = ((x - x.mean(0)) / math.sqrt(len(x) - 1) for x in (a, b))
    cross = np.linalg.svd(F_a @ F_b.T, compute_uv=False).sum()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + (F_a**2).sum() + (F_b**2).sum() - 2 * cross
    # the roots of eigenvalues that are zero but for rounding, 1e-16 of the largest: about 20 of them, each to 1e-8
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_is_a_distance():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(50, 6)), 2 * rng.normal(size=(60, 6)) + 1
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)
    assert frechet_distance(a + 7, b + 7) == pytest.approx(frechet_distance(a, b), rel=1e-9)
    turn = rotation(rng, 6)
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(frechet_distance(a, b), rel=1e-9)


def test_float32_features_are_summed_in_float64():
    rng = np.random.default_rng(5)
    a, b = (rng.normal(size=(500, 4)).astype(np.float32) + np.float32(1000) for _ in range(2))
    assert frechet_distance(a, b) == frechet_distance(a.astype(np.float64), b.astype(np.float64))


def test_more_images_less_bias():
    """Two sets from one distribution are at 0 only in the limit; the bias falls about as 1 / n."""
    rng = np.random.default_rng(6)
    small, large = (np.mean([frechet_distance(*rng.normal(size=(2, n, 8))) for _ in range(10)]) for n in (50, 500))
    assert 5 < small / large < 20


@pytest.mark.parametrize("shapes", [((5, 3), (5, 4)), ((1, 3), (5, 3)), ((5,), (5, 3))])
def test_wrong_shapes(shapes):
    a, b = (np.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match=r"frechet_distance: expected \(n, D\) and \(m, D\) with n, m of 2 or more"):
        frechet_distance(a, b)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_deviation_against_repetition(shift):
    """Draw the sets anew 40 times: the jackknife's estimate is not below what is seen, and not far above it.
    The deviation of 40 draws is itself uncertain by 11%."""
    rng = np.random.default_rng(7)
    distances, estimates = [], []
    for _ in range(40):
        a, b = rng.normal(size=(200, 8)), rng.normal(size=(200, 8)) + shift
        distances.append(frechet_distance(a, b))
        estimates.append(deviation(a, b))
    assert 0.75 < np.mean(estimates) / np.std(distances, ddof=1) < 3


def test_deviation_of_few():
    a, b = np.random.default_rng(8).normal(size=(2, 3, 2))
    assert math.isfinite(deviation(a, b))
    assert math.isnan(deviation(a[:2], b[:2]))
