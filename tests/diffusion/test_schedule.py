"""Schedules: the curves a and s, their ends, and that their numbers are the papers'."""

import math

import numpy as np
import pytest

from minidiff.diffusion.schedule import CLEAN, KINDS, Level, karras, make_schedule
from minidiff.errors import MinidiffError

PRESERVING = [kind for kind in KINDS if kind != "flow"]  # a^2 + s^2 = 1
BY_BETA = ["linear", "scaled_linear", "cosine", "sigmoid"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("T", [2, 10, 250, 1000, 4000])
def test_noise_rises_strictly_and_the_curves_stay_on_their_line(kind, zero_snr, T):
    schedule = make_schedule(kind, T, zero_snr=zero_snr)
    assert schedule.T == T
    assert schedule.a.dtype == schedule.s.dtype == np.float64
    assert np.all(np.diff(schedule.a) < 0)
    assert np.all(np.diff(schedule.s) >= 0)  # the last s of "cosine" are 1 but for 1e-9
    assert np.all(np.diff(schedule.all.log_snr) < 0)
    assert schedule.a[0] < 1
    assert schedule.s[0] > 0
    assert schedule.a[-1] == 0 if zero_snr or kind == "flow" else schedule.a[-1] > 0
    power = 1 if kind == "flow" else 2
    assert np.abs(schedule.a**power + schedule.s**power - 1).max() < 1e-15  # one rounding each


@pytest.mark.parametrize("kind", BY_BETA)
@pytest.mark.parametrize("T", [100, 1000, 4000])
def test_the_last_time_is_almost_pure_noise_whatever_T(kind, T):
    """a is the image's share of x_T; a sampler starts as if it were 0."""
    assert make_schedule(kind, T).a[-1] < (0.07 if kind == "scaled_linear" else 0.01)


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


def test_scaled_linear_is_linear_in_the_root_of_beta():
    """Rombach et al.'s ends, 0.00085 and 0.012: what Stable Diffusion was trained with."""
    alpha_bar = make_schedule("scaled_linear", betas=(0.00085, 0.012)).alpha_bar
    roots = np.sqrt(1 - alpha_bar / np.concatenate([[1], alpha_bar[:-1]]))
    assert roots[0] ** 2 == pytest.approx(0.00085, rel=1e-12)
    assert roots[-1] ** 2 == pytest.approx(0.012, rel=1e-12)
    # 1 - (1 - beta) loses what is below 1e-16 of 1: 1e-13 of a beta of 1e-3, and less of its root
    assert np.abs(np.diff(roots) - np.diff(roots).mean()).max() < 1e-13


def test_linear_with_fewer_times_is_the_same_curve():
    """Betas grow as T shrinks, so that the noise at t / T is about the same: 2 log_snr, which runs from 9 to -10."""
    coarse, fine = make_schedule("linear", 250), make_schedule("linear", 1000)
    assert 2 * coarse.all.log_snr == pytest.approx(2 * fine.all.log_snr[3::4], abs=0.3)


def test_edm_spaces_sigma_from_0_002_to_80():
    """Karras et al. eq. 5 with the ends and rho of their table 1, one value after another, largest first."""
    sigma = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)]
    schedule = make_schedule("karras", 18)
    assert schedule.all.sigma[::-1] == pytest.approx(np.array(sigma), rel=1e-12)
    assert schedule.a == pytest.approx(1 / np.sqrt(1 + np.array(sigma[::-1]) ** 2), rel=1e-12)
    assert karras(80, 0.002, 18) == pytest.approx(np.array(sigma), rel=1e-12)
    ratio = make_schedule("exponential", 18).all.sigma
    assert ratio[[0, -1]] == pytest.approx([0.002, 80], rel=1e-12)
    assert ratio[1:] / ratio[:-1] == pytest.approx(np.full(17, 40_000 ** (1 / 17)), rel=1e-12)


@pytest.mark.parametrize("shift", [1.0, 0.5, 3.0])
def test_the_flow_and_its_shift(shift):
    """Esser et al. eq. 23: the shift multiplies sigma = s / a, as if the image were that much smaller."""
    plain, shifted = make_schedule("flow", 20), make_schedule("flow", 20, shift=shift)
    assert plain.s == pytest.approx(np.arange(1, 21) / 20, abs=1e-15)
    even = plain.s
    assert shifted.s == pytest.approx(shift * even / (1 + (shift - 1) * even), rel=1e-14)
    assert shifted.all.sigma[:-1] == pytest.approx(shift * plain.all.sigma[:-1], rel=1e-12)
    assert np.isinf(shifted.all.sigma[-1])


@pytest.mark.parametrize("kind", PRESERVING)
def test_zero_snr_is_lin_et_als_algorithm_1(kind):
    """In their words, with the roots of alpha_bar: shift so that the last is 0, scale so that the first stays."""
    before, after = make_schedule(kind, 100), make_schedule(kind, 100, zero_snr=True)
    root = np.sqrt(before.alpha_bar)
    shifted = root - root[-1]
    scaled = shifted * (root[0] / (root[0] - root[-1]))
    assert after.a == pytest.approx(scaled, abs=1e-15)
    assert after.alpha_bar[-1] == 0
    assert after.a[0] == pytest.approx(before.a[0], rel=1e-15)


def test_a_flow_ends_in_noise_with_and_without_zero_snr():
    one, other = make_schedule("flow", 9), make_schedule("flow", 9, zero_snr=True)
    assert np.array_equal(one.a, other.a)


def test_a_level_says_the_same_in_several_ways():
    level = make_schedule("linear").level(300)
    alpha_bar = make_schedule("linear").alpha_bar[300]
    assert (level.a**2, level.s**2) == pytest.approx((alpha_bar, 1 - alpha_bar), rel=1e-12)
    assert level.snr == pytest.approx(alpha_bar / (1 - alpha_bar), rel=1e-12)
    assert level.sigma**-2 == pytest.approx(level.snr, rel=1e-12)
    assert 2 * level.log_snr == pytest.approx(np.log(level.snr), rel=1e-12)
    assert CLEAN.sigma == 0
    assert CLEAN.log_snr == np.inf
    assert Level(9, 0.0, 1.0).sigma == np.inf
    assert Level(9, 0.0, 1.0).snr == 0


def test_levels_of_many_times_are_those_of_each():
    schedule = make_schedule("cosine")
    many = schedule.level(np.array([3, 999, 3]))
    for index, t in enumerate((3, 999, 3)):
        one = schedule.level(t)
        assert (many.t[index], many.a[index], many.s[index]) == (one.t, one.a, one.s)
    assert isinstance(one.t, int)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sigma_finds_its_level_between_the_times(kind):
    schedule = make_schedule(kind, 200)
    for t in (0, 1, 100, 198):
        level = schedule.at_sigma(schedule.level(t).sigma)
        assert (level.t, level.a, level.s) == pytest.approx((t, schedule.a[t], schedule.s[t]), rel=1e-9, abs=1e-9)
    low, high = schedule.level(50), schedule.level(51)
    middle = schedule.at_sigma(math.sqrt(low.sigma * high.sigma))  # half the way in ln(sigma)
    assert middle.t == pytest.approx(50.5, abs=1e-9)
    assert middle.s / middle.a == pytest.approx(math.sqrt(low.sigma * high.sigma), rel=1e-12)
    assert low.a > middle.a > high.a


@pytest.mark.parametrize("kind", KINDS)
def test_sigmas_beyond_the_schedule_keep_their_a_and_s_but_no_new_time(kind):
    schedule = make_schedule(kind, 50)
    far = schedule.at_sigma(1e9)
    assert far.t == pytest.approx(49, abs=1e-7)  # on the flow it is on the way from 48, sigma 49, to 49, infinity
    assert far.sigma == pytest.approx(1e9, rel=1e-6)  # tan(arctan(1e9)): 1e-16 of pi / 2 is 1e-7 of the angle left
    near = schedule.at_sigma(1e-9)
    assert near.t == 0
    assert near.sigma == pytest.approx(1e-9, rel=1e-9)
    assert (schedule.at_sigma(np.inf).a, schedule.at_sigma(np.inf).t) == (0, 49)
    many = schedule.at_sigma(np.array([1e-9, 1.0, np.inf]))
    assert many.t.shape == many.a.shape == many.s.shape == (3,)


@pytest.mark.parametrize("schedule", [make_schedule("flow", 50), make_schedule("cosine", 50, zero_snr=True)])
def test_the_way_to_an_infinite_sigma_is_a_time_too(schedule):
    """From the last time with a finite sigma the time goes on without a jump, rises, and ends at pure noise."""
    last = schedule.all.sigma[-2]
    t = schedule.at_sigma(last * np.array([0.999, 1, 1.001, 2, 10, 1e6, np.inf])).t
    assert (np.diff(t) > 0).all()
    assert t[:3] == pytest.approx(48, abs=1.1e-3)
    assert t[3] == pytest.approx(48.5)
    assert t[-1] == 49


def test_the_curve_cannot_be_overwritten():
    for curve in (make_schedule("linear").a, make_schedule("flow").s):
        with pytest.raises(ValueError, match="read-only"):
            curve[0] = 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"kind": "quadratic"},
            "schedule must be one of linear, scaled_linear, cosine, sigmoid, karras, exponential, flow, "
            "got 'quadratic'",
        ),
        ({"kind": "linear", "T": 1}, "a schedule needs T of 2 timesteps or more, got 1"),
        ({"kind": "flow", "shift": 0.0}, "shift must be above 0, got 0"),
        ({"kind": "flow", "shift": math.nan}, "shift must be above 0, got nan"),
        ({"kind": "flow", "shift": math.inf}, "shift must be above 0, got inf"),
        ({"kind": "cosine", "shift": 3.0}, "shift is a setting of the flow schedule; cosine has none, got 3"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(MinidiffError) as caught:
        make_schedule(**arguments)
    assert str(caught.value) == message
