"""How much each time counts in the loss, said as what an error of x0 costs."""

import numpy as np
import pytest

from minidiff.diffusion.process import TARGETS, Process
from minidiff.diffusion.schedule import make_schedule
from tests.diffusion.known import process_of

T = np.array([0, 100, 400, 600, 990])


def x0_error_per_output_error(process, level):
    """|d x0_hat / d output| at a fixed x_t: read off to_x0_eps, which is linear in the output."""
    x_t, one = np.full((len(T), 1), 0.7), np.ones((len(T), 1))
    return np.abs(process.to_x0_eps(one, x_t, level)[0] - process.to_x0_eps(0 * one, x_t, level)[0]).ravel()


@pytest.mark.parametrize("kind", ["linear", "cosine", "karras", "flow"])
@pytest.mark.parametrize("target", TARGETS)
def test_an_error_of_x0_costs_the_same_whatever_is_predicted(kind, target):
    """weight |output's error|^2 = w |x0's error|^2, with w = min(snr, gamma) or EDM's lambda(sigma)."""
    for weighting, gamma in (("min_snr", 5.0), ("min_snr", 0.5), ("edm", 5.0)):
        process = process_of(kind, target, weighting=weighting, gamma=gamma)
        level = process.schedule.level(T)
        sigma, snr = level.sigma, level.snr
        w = {"min_snr": np.minimum(snr, gamma), "edm": (sigma**2 + 0.25) / (sigma * 0.5) ** 2}[weighting]
        # the slope is the difference of two numbers of up to 1 / a = 2e3: 1e-13 of it is rounding
        slope = x0_error_per_output_error(process, level)
        assert process.loss_weight(level) == pytest.approx(w * slope**2, rel=1e-9)


@pytest.mark.parametrize(
    ("target", "formula"),
    [
        ("eps", lambda snr: np.minimum(snr, 5) / snr),
        ("x0", lambda snr: np.minimum(snr, 5)),
        ("v", lambda snr: np.minimum(snr, 5) / (snr + 1)),
    ],
)
def test_min_snr_as_its_paper_writes_it(target, formula):
    """Hang et al. 2023, section 3.4 and its appendix for the other targets."""
    process = Process(make_schedule("cosine"), target, "min_snr", gamma=5.0)
    level = process.schedule.level(T)
    assert process.loss_weight(level) == pytest.approx(formula(level.snr), rel=1e-9)


@pytest.mark.parametrize("kind", ["karras", "cosine"])
def test_edm_weighs_its_own_target_plainly(kind):
    """Karras et al.: lambda(sigma) c_out^2 = 1, so that all sigmas count alike."""
    process = Process(make_schedule(kind), "edm", "edm")
    assert process.loss_weight(process.schedule.all) == pytest.approx(np.ones(1000), rel=1e-9)


@pytest.mark.parametrize("target", TARGETS)
def test_plain_weights_are_one(target):
    process = Process(make_schedule("linear"), target)
    assert np.array_equal(process.loss_weight(process.schedule.level(T)), np.ones(5))


@pytest.mark.parametrize("target", ["x0", "v", "flow"])
@pytest.mark.parametrize("weighting", ["min_snr", "edm"])
def test_pure_noise_has_a_finite_weight(target, weighting):
    """Where a = 0: min-SNR gives up on x0 there, EDM's weight does not."""
    process = Process(make_schedule("flow"), target, weighting)
    weight = process.loss_weight(process.schedule.level(np.array([999])))
    assert weight[0] == pytest.approx(0 if weighting == "min_snr" else 4.0)  # x0's error is the output's; 1 / 0.5^2
