"""Which times are trained: uniform, stratified, lognormal."""

import numpy as np
import pytest

from minidiff.diffusion.process import DRAWS, Process
from minidiff.diffusion.schedule import make_schedule


def drawn(timestep_sampling, n, kind="linear", T=1000, seed=0, step=0, **more):
    process = Process(make_schedule(kind, T), "v", timestep_sampling=timestep_sampling, **more)
    return process.draw_level(seed, step, np.arange(n), n)


def test_uniform_times_are_uniform(every_backend):
    n = 20_000
    t = drawn("uniform", n).t
    counts = np.bincount(t, minlength=1000).reshape(10, 100).sum(1)
    # ten bins of 2,000 expected, each with a standard deviation of sqrt(n 0.1 0.9) = 42; five of those
    assert np.abs(counts - n / 10).max() < 5 * 42
    assert t.min() >= 0
    assert t.max() <= 999


@pytest.mark.parametrize("batch", [1, 7, 64, 1000])
def test_stratified_batches_cover_all_strata(every_backend, batch):
    """One t from every 1 / batch of the schedule, whatever the step; but for the start the distances are even."""
    for step in range(5):
        t = np.sort(drawn("stratified", batch, step=step).t)
        gaps = np.diff(np.concatenate([t, [t[0] + 1000]]))  # around the circle
        assert gaps.sum() == 1000
        assert np.abs(gaps - 1000 / batch).max() < 1 + 1e-9  # t is cut to integers: each end by less than one
        assert t.min() >= 0
        assert t.max() <= 999


def test_stratified_times_are_uniform_over_the_steps(every_backend):
    t = np.concatenate([drawn("stratified", 2, step=step).t for step in range(1000)])
    counts = np.bincount(t, minlength=1000).reshape(10, 100).sum(1)
    # both of a step lie half the schedule apart: 1000 independent pairs, each bin hit with probability 0.2 by one
    assert np.abs(counts - 200).max() < 5 * np.sqrt(1000 * 0.2 * 0.8)
    assert np.array_equal(counts[:5], counts[5:])


@pytest.mark.parametrize("timestep_sampling", DRAWS)
def test_parts_of_a_batch_are_the_batch(every_backend, timestep_sampling):
    process = Process(make_schedule("cosine"), "v", timestep_sampling=timestep_sampling)
    whole = process.draw_level(3, 5, np.arange(12), 12)
    parts = [process.draw_level(3, 5, np.arange(12)[part], 12) for part in (slice(0, 4), slice(4, 12))]
    for name in ("t", "a", "s"):
        assert np.array_equal(getattr(whole, name), np.concatenate([getattr(part, name) for part in parts]))


@pytest.mark.parametrize("kind", ["karras", "flow"])
def test_lognormal_draws_sigma_as_edm_does(every_backend, kind):
    """On the flow it is the logit-normal draw of sigma_flow, ln(sigma) being its logit."""
    n, mean, std = 20_000, -1.2, 1.2
    level = drawn("lognormal", n, kind, sigma_mean=mean, sigma_std=std)
    log_sigma = np.log(level.sigma) if kind == "karras" else np.log(level.s / (1 - level.s))
    # five standard deviations of a mean, std / sqrt(n), and of a spread, std / sqrt(2 n); the cut at 0.002 and 80 lies
    # four standard deviations out and moves both by less than 1e-4
    assert abs(log_sigma.mean() - mean) < 5 * std / np.sqrt(n)
    assert abs(log_sigma.std() - std) < 5 * std / np.sqrt(2 * n)
    third = np.mean(((log_sigma - mean) / std) ** 3)
    assert abs(third) < 5 * np.sqrt(15 / n)  # the sixth moment of a normal is 15: no skew


def test_lognormal_is_cut_at_the_schedules_ends(every_backend):
    schedule = make_schedule("linear")
    level = drawn("lognormal", 5000, sigma_mean=0.0, sigma_std=8.0)
    least, most = schedule.all.sigma[[0, -1]]
    assert level.sigma.min() == pytest.approx(least, rel=1e-9)
    assert level.sigma.max() == pytest.approx(most, rel=1e-9)
    assert (level.t.min(), level.t.max()) == pytest.approx((0, 999))
    for end in (least, most):  # far wider than the schedule: much of it is cut
        assert np.mean(np.isclose(level.sigma, end, rtol=1e-9)) > 0.2


@pytest.mark.parametrize("timestep_sampling", DRAWS)
def test_seeds_and_steps_draw_anew(timestep_sampling):
    first = drawn(timestep_sampling, 16).t
    assert np.array_equal(first, drawn(timestep_sampling, 16).t)
    assert not np.array_equal(first, drawn(timestep_sampling, 16, seed=1).t)
    assert not np.array_equal(first, drawn(timestep_sampling, 16, step=1).t)
