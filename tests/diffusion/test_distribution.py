"""What comes out is distributed as it should be: of the data after many steps, of the papers' formulas after few."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from minidiff import backend
from minidiff.diffusion import ddim, ddpm
from minidiff.diffusion.process import Process
from minidiff.diffusion.run import Noise, Run
from minidiff.diffusion.schedule import make_schedule
from tests.diffusion.known import CORRELATED, SCHEDULES, WAYS, end, ideal, normal, process_of, sample

MU, S0 = 0.3, 0.5


@pytest.mark.parametrize("way", WAYS)
def test_mean_and_covariance_of_a_mixture(way):
    """Two hills in the plane, correlated each and apart: a sampler that draws each channel for itself would fail."""
    with backend.using("numpy"):
        x0 = end(way, process_of("cosine", "v"), CORRELATED, 200, 400).reshape(-1, 2).astype(np.float64)
    n = len(x0)  # 6400
    # Five standard deviations of a mean, 0.48 / sqrt(n), and of a covariance, 0.25 / sqrt(n), the spread of a product
    # of two values' deviations. And what 200 steps instead of infinitely many do: measured with n = 32,000, at most
    # 0.0035 of the mean and 0.007 of the covariance, which is narrower by that for all of order 1.
    assert np.abs(x0.mean(0) - CORRELATED.mean).max() < 5 * 0.48 / np.sqrt(n) + 0.0035
    assert np.abs(np.cov(x0.T) - CORRELATED.covariance).max() < 5 * 0.25 / np.sqrt(n) + 0.007


def few_steps(way, schedule, steps):
    """Mean and variance after few steps, by the papers' formulas.

    For the perfect denoiser of N(MU, S0^2) each step maps a normal distribution to a normal one.
    """
    m, var = 0.0, 1.0
    times = [t - 1 for t in range(schedule.T, 0, -schedule.T // steps)]
    bars = [*schedule.alpha_bar[times], 1.0]
    for bar, prev in pairwise(bars):
        k = np.sqrt(bar) * S0**2 / (bar * S0**2 + 1 - bar)  # x0_hat = MU + k (x_t - sqrt(bar) MU)
        alpha, eta = bar / prev, {"ddim": 0.0, "ddim 0.5": 0.5, "ddim 1": 1.0}.get(way)
        if prev == 1:
            on_x, on_x0, fresh = 0.0, 1.0, 0.0
        elif way.startswith("ddpm"):
            # the posterior of x_prev as a product of two normal densities: one around sqrt(prev) x0 from the forward
            # process, one from x_t, which is sqrt(alpha) x_prev plus noise of variance beta
            fresh = 1 / (1 / (1 - prev) + alpha / (1 - alpha))
            on_x, on_x0 = fresh * np.sqrt(alpha) / (1 - alpha), fresh * np.sqrt(prev) / (1 - prev)
            if way == "ddpm large":
                fresh = 1 - alpha
        elif way == "euler-ancestral":
            # k-diffusion's get_ancestral_step, in sigma, for y = x_t / sqrt(bar)
            sigma, sigma_prev = np.sqrt(1 / bar - 1), np.sqrt(1 / prev - 1)
            up = np.sqrt(sigma_prev**2 * (sigma**2 - sigma_prev**2) / sigma**2)
            down = np.sqrt(sigma_prev**2 - up**2)
            on_x, on_x0 = np.sqrt(prev / bar) * down / sigma, np.sqrt(prev) * (1 - down / sigma)
            fresh = prev * up**2
        else:
            fresh = eta**2 * (1 - prev) / (1 - bar) * (1 - bar / prev)
            on_eps = np.sqrt(1 - prev - fresh)
            on_x, on_x0 = on_eps / np.sqrt(1 - bar), np.sqrt(prev) - on_eps * np.sqrt(bar / (1 - bar))
        m = on_x * m + on_x0 * (MU + k * (m - np.sqrt(bar) * MU))
        var = (on_x + on_x0 * k) ** 2 * var + fresh
    return m, np.sqrt(var)


@cache
def after_few_steps(way, kind):
    with backend.using("numpy"):
        return end(way, process_of(kind, "eps"), normal(MU, S0), 10, 1024)


FEW_STEPS = pytest.mark.parametrize("way", ["ddpm", "ddpm large", "ddim", "ddim 0.5", "ddim 1", "euler-ancestral"])


@FEW_STEPS
@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_mean_and_spread_after_few_steps_are_those_of_the_papers_formulas(way, kind):
    """Ten steps are far from exact, a spread of 0.34 to 0.6; how far, is known."""
    mean, spread = few_steps(way, SCHEDULES[kind], 10)
    x0 = after_few_steps(way, kind)
    assert abs(x0.mean() - mean) < 5 * spread / 128  # 1024 x 16 values
    assert abs(x0.std() - spread) < 5 * spread / 181


@FEW_STEPS
@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_every_backend_draws_these_images(every_backend, way, kind):
    """The first few of them, so that what is known of all of them holds on every backend."""
    x0 = end(way, process_of(kind, "eps"), normal(MU, S0), 10, 8)
    # ten steps of float32 at values of a few, whose last bit is 2.4e-7
    assert np.abs(x0 - after_few_steps(way, kind)[:8]).max() < 1e-5


# -- one sampler is another's special case ------------------------------------------------------------------------


def coefficients(sampler, process, steps, **settings):
    """The four numbers of every step, read off what is asked of the noise."""
    seen = []

    class Noted(Noise):
        def mix(self, x, x0_hat, x0_hat_last, c, index):
            seen.append(c)
            return x

    x_T = np.zeros((1, 1, 1, 1))
    run = Run(lambda x, t: 0 * x, process, steps, Noted(0, np.arange(1)), "none")
    list(sampler(run, x_T, **settings))
    return np.array(seen)


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize(("T", "steps"), [(2, 2), (9, 9), (1000, 1000), (1000, 13)])
def test_coefficients_of_ddim_with_eta_one_are_ddpms(kind, T, steps):
    """For every schedule, the flow too; to float64's rounding."""
    process = Process(make_schedule(kind, T), "x0")
    with backend.using("numpy"):
        a, b = coefficients(ddpm, process, steps), coefficients(ddim, process, steps, eta=1.0)
    # DDIM takes the root of a difference of numbers near 1: sqrt(1e-16) where x_t counts for nothing
    assert a == pytest.approx(b, abs=1e-7)
    assert a[-1].tolist() == [0, 1, 0, 0]  # the last step is the guess itself


@pytest.mark.parametrize("clip", ["none", "clip", "dynamic"])
@pytest.mark.parametrize(
    ("one", "other"), [("ddpm", "ddim 1"), ("ddpm", "euler-ancestral"), ("ddim", "euler")], ids=str
)
@pytest.mark.parametrize("kind", ["linear", "flow"])
def test_two_names_for_the_same_step(kind, one, other, clip):
    """The same image from the same noise, step by step, clipped or not."""
    process = process_of(kind, "v")
    with backend.using("numpy"):
        paths = [sample(way, process, normal(MU, S0), 10, 2, clip=clip, dtype=np.float64) for way in (one, other)]
    for a, b in zip(*paths):
        assert a.t == b.t
        assert np.abs(a.x_prev - b.x_prev).max() < 1e-6  # the root of a rounded difference, as above


def test_on_the_flow_euler_follows_its_velocity():
    """x_prev = x_t + (sigma_flow' - sigma_flow) (eps_hat - x0_hat), which is what the network said."""
    process = Process(make_schedule("flow", shift=3.0), "flow")
    denoise = ideal(process, normal(MU, S0))
    with backend.using("numpy"):
        for step in sample("euler", process, normal(MU, S0), 9, dtype=np.float64):
            velocity = denoise(step.x_t, step.t)
            assert velocity == pytest.approx(step.eps_hat - step.x0_hat, abs=1e-9)  # it divides by s, once 0.03
            assert step.x_prev == pytest.approx(step.x_t + (step.prev.s - step.level.s) * velocity, abs=1e-12)
