"""Schedules: the curves fall, their ends are right, and their numbers are the papers'."""

import math

import numpy as np
import pytest

from minidiff.diffusion.schedule import KINDS, make_schedule
from minidiff.errors import MinidiffError


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("T", [2, 10, 250, 1000, 4000])
def test_alpha_bar_falls_strictly_inside_zero_and_one(kind, T):
    alpha_bar = make_schedule(kind, T).alpha_bar
    assert alpha_bar.shape == (T,)
    assert alpha_bar.dtype == np.float64
    assert np.all(np.diff(alpha_bar) < 0)
    assert 0 < alpha_bar[-1] < alpha_bar[0] < 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("T", [100, 1000, 4000])
def test_the_last_time_is_almost_pure_noise_whatever_T(kind, T):
    """sqrt(alpha_bar) is the share of the picture in x_T; a sampler starts as if it were 0."""
    assert math.sqrt(make_schedule(kind, T).alpha_bar[-1]) < 0.01


# alpha_bar at T = 1000, computed one factor after another with Python's `decimal` at 50 digits (a script of its own:
# linspace and cumprod as written in Ho et al. section 4; cos by its series for Nichol and Dhariwal eq. 17).
GOLDEN = {
    ("linear", 0): 0.9999,
    ("linear", 499): 0.07858724288177824,
    ("linear", 999): 4.0358297653756835e-05,
    ("cosine", 0): 0.9999587157751783,
    ("cosine", 499): 0.4938435904406377,
    ("cosine", 999): 2.4287669070344683e-09,
    ("sigmoid", 0): 0.9998507947991829,
    ("sigmoid", 499): 0.30193105660219516,
    ("sigmoid", 999): 3.968181990533208e-05,
}


@pytest.mark.parametrize(("kind", "t"), GOLDEN)
def test_golden_values(kind, t):
    # float64 cumprod of 1000 factors: 1000 rounding errors of 1e-16 at most
    assert make_schedule(kind).alpha_bar[t] == pytest.approx(GOLDEN[kind, t], rel=1e-12)


def test_cosine_follows_its_formula_until_beta_is_capped():
    """Nichol and Dhariwal eq. 17: alpha_bar is f(t/T) / f(0), here shifted by one since our t counts from 0."""
    f = lambda u: math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    alpha_bar = make_schedule("cosine", 1000).alpha_bar
    for t in (0, 10, 499, 900, 998):
        assert alpha_bar[t] == pytest.approx(f((t + 1) / 1000) / f(0), rel=1e-9)
    assert alpha_bar[999] / alpha_bar[998] == pytest.approx(1 - 0.999)  # f(1) = 0: the cap


def test_linear_with_fewer_times_is_the_same_curve():
    """Betas grow as T shrinks, so that the noise at t / T is about the same: log snr, which runs from 9 to -10."""
    coarse, fine = make_schedule("linear", 250), make_schedule("linear", 1000)
    assert np.log(coarse.snr) == pytest.approx(np.log(fine.snr[3::4]), abs=0.3)


def test_snr_and_sigma():
    schedule = make_schedule("linear")
    alpha_bar = schedule.alpha_bar[300]
    assert schedule.snr[300] == pytest.approx(alpha_bar / (1 - alpha_bar))
    assert schedule.sigma[300] ** -2 == pytest.approx(schedule.snr[300])
    assert schedule.T == 1000


def test_the_curve_cannot_be_overwritten():
    with pytest.raises(ValueError, match="read-only"):
        make_schedule("linear").alpha_bar[0] = 1


def test_mistakes_are_named():
    with pytest.raises(MinidiffError, match=r"^schedule must be one of linear, cosine, sigmoid, got 'quadratic'$"):
        make_schedule("quadratic")
    with pytest.raises(MinidiffError, match=r"^a schedule needs at least 2 times T, got 1$"):
        make_schedule("linear", 1)
