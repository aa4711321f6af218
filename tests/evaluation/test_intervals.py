"""How sure a measured number is: the intervals against published values and against simulation."""

import math

import numpy as np
import pytest

from minidiff.evaluation.metrics.intervals import mean_and_error, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_published(successes, n, low, high):
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3: four digits."""
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_ends_and_symmetry():
    assert wilson(0, 7)[0] == 0.0
    assert wilson(7, 7)[1] == 1.0
    low, high = wilson(3, 10)
    mirrored_low, mirrored_high = wilson(7, 10)
    assert (1 - mirrored_high, 1 - mirrored_low) == pytest.approx((low, high), abs=1e-12)


def test_wilson_contains_the_truth_95_times_in_100():
    rng = np.random.default_rng(0)
    for p in (0.5, 0.95):
        inside = [low <= p <= high for low, high in (wilson(int(k), 200) for k in rng.binomial(200, p, 4000))]
        assert 0.93 < np.mean(inside) < 0.97  # the exact coverage at n = 200 stays within 0.94 … 0.96


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_wilson_refuses_what_is_no_share(successes, n):
    with pytest.raises(ValueError, match="wilson: expected 0 <= successes <= n and n of 1 or more"):
        wilson(successes, n)


def test_mean_and_error():
    mean, error = mean_and_error(np.array([1.0, 2.0, 3.0, 4.0], np.float32))
    assert mean == 2.5
    assert error == pytest.approx(math.sqrt(5 / 3) / 2)  # variance 5/3, n = 4
    assert math.isnan(mean_and_error(np.array([3.0]))[1])
    with pytest.raises(ValueError, match="mean_and_error: expected"):
        mean_and_error(np.empty(0))
