"""Samplers against distributions whose perfect denoiser is known, against each other, and against golden numbers.

Where every value of a picture is drawn from N(mu, s0^2), the best guess of x0 is the mean of the posterior,

    E[x0 | x_t] = mu + a s0^2 / (a^2 s0^2 + 1 - a^2) (x_t - a mu),      a = sqrt(alpha_bar)

so that a sampler has no network to blame.
"""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from minidiff import backend
from minidiff.diffusion import samplers
from minidiff.diffusion.process import TARGETS, Process
from minidiff.diffusion.samplers import clip_x0, ddim, ddpm, start_noise, trailing
from minidiff.diffusion.schedule import make_schedule
from minidiff.errors import MinidiffError

MU, S0 = 0.3, 0.5
SHAPE = (4, 4, 1)


def ideal(process, mu=MU, s0=S0):
    """The perfect denoiser of N(mu, s0^2), in the form that the process's target asks for."""

    def denoise(x_t, t):
        alpha_bar = process.schedule.alpha_bar[t]
        a, x = np.sqrt(alpha_bar), x_t.astype(np.float64)
        x0 = mu + a * s0**2 / (alpha_bar * s0**2 + 1 - alpha_bar) * (x - a * mu)
        eps = (x - a * x0) / np.sqrt(1 - alpha_bar)
        return process.target_of(x0, eps, np.full(len(x), t)).astype(x_t.dtype)

    return denoise


def run(sampler, process, count, steps, seed=0, dtype=np.float32, clip="none", first=0, **settings):
    """All steps of a sampler with the perfect denoiser, on pictures first … first + count - 1."""
    samples = np.arange(first, first + count)
    x_T = start_noise(seed, samples, SHAPE).astype(dtype)
    return list(sampler(ideal(process), process, x_T, steps, seed, samples, clip, **settings))


# -- the distribution ---------------------------------------------------------------------------------------------

WAYS = {
    "ddpm": (ddpm, {}),
    "ddim 0": (ddim, {"eta": 0.0}),
    "ddim 0.5": (ddim, {"eta": 0.5}),
    "ddim 1": (ddim, {"eta": 1.0}),
}


@pytest.mark.parametrize("way", WAYS)
def test_mean_and_spread_of_samples(each_backend, way):
    sampler, settings = WAYS[way]
    x0 = run(sampler, Process(make_schedule("cosine"), "v"), 256, 200, **settings)[-1].x_prev
    # 256 x 16 values: the mean is known to s0 / 64 and the spread to s0 / 90, of which five; 200 steps instead of
    # infinitely many narrow the spread by up to 0.0093 (computed with the recursion of the next test).
    assert abs(x0.mean() - MU) < 5 * S0 / 64
    assert abs(x0.std() - S0) < 5 * S0 / 90 + 0.0093


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_mean_and_spread_after_few_steps_are_those_of_the_papers_formulas(each_backend, way, kind):
    """Ten steps are far from exact (a spread of 0.34 to 0.43), but for the perfect denoiser each step maps a normal
    distribution to a normal one, so that what the papers' formulas give can be computed without sampling."""
    sampler, settings = WAYS[way]
    process, steps = Process(make_schedule(kind), "eps"), 10
    m, var = 0.0, 1.0
    times = [t - 1 for t in range(1000, 0, -100)]
    for t, t_prev in zip(times, [*times[1:], None]):
        bar, prev = process.schedule.alpha_bar[t], 1.0 if t_prev is None else process.schedule.alpha_bar[t_prev]
        k = np.sqrt(bar) * S0**2 / (bar * S0**2 + 1 - bar)  # x0_hat = mu + k (x_t - sqrt(bar) mu)
        if t_prev is None:
            on_x, on_x0, fresh = 0.0, 1.0, 0.0
        elif sampler is ddpm:
            # the posterior of x_prev as a product of two normal densities: one around sqrt(prev) x0 from the forward
            # process, one from x_t, which is sqrt(alpha) x_prev plus noise of variance beta
            alpha = bar / prev
            fresh = 1 / (1 / (1 - prev) + alpha / (1 - alpha))
            on_x, on_x0 = fresh * np.sqrt(alpha) / (1 - alpha), fresh * np.sqrt(prev) / (1 - prev)
        else:
            fresh = settings["eta"] ** 2 * (1 - prev) / (1 - bar) * (1 - bar / prev)
            on_eps = np.sqrt(1 - prev - fresh)
            on_x, on_x0 = on_eps / np.sqrt(1 - bar), np.sqrt(prev) - on_eps * np.sqrt(bar / (1 - bar))
        m = on_x * m + on_x0 * (MU + k * (m - np.sqrt(bar) * MU))
        var = (on_x + on_x0 * k) ** 2 * var + fresh
    x0 = run(sampler, process, 1024, steps, **settings)[-1].x_prev
    spread = np.sqrt(var)
    assert abs(x0.mean() - m) < 5 * spread / 128  # 1024 x 16 values
    assert abs(x0.std() - spread) < 5 * spread / 181


def test_ddim_converges_with_order_one(each_backend):
    """With eta = 0 the path from x_T to x0 has a closed form: x_t's place in its distribution never changes.

        (x_t - a mu) / sqrt(a^2 s0^2 + 1 - a^2) = const

    Twice the steps, half the error. The schedule's times are a grid themselves; 160 of 1000 steps are well above it.
    """
    process = Process(make_schedule("cosine"), "x0")
    counts, errors = [10, 20, 40, 80, 160], []
    for steps in counts:
        path = run(ddim, process, 16, steps)
        alpha_bar = process.schedule.alpha_bar[-1]
        place = (path[0].x_t - np.sqrt(alpha_bar) * MU) / np.sqrt(alpha_bar * S0**2 + 1 - alpha_bar)
        errors.append(np.abs(path[-1].x_prev - (MU + S0 * place)).max())
    order = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert order == pytest.approx(1, abs=0.1)  # the next order still shows at 10 steps; computed exactly: 0.97


@pytest.mark.parametrize("steps", [10, 1000])
@pytest.mark.parametrize("clip", ["none", "clip", "dynamic"])
def test_ddim_with_eta_one_is_ddpm(steps, clip):
    """Over all steps, and over some, clipped or not: the same picture from the same noise, step by step."""
    process = Process(make_schedule("linear"), "eps")
    with backend.using("numpy"):  # float64: only rounding remains; the fresh noise itself is float32, hence 1e-6
        a = run(ddpm, process, 2, steps, dtype=np.float64, clip=clip)
        b = run(ddim, process, 2, steps, dtype=np.float64, clip=clip, eta=1.0)
    assert len(a) == len(b) == steps
    for one, other in zip(a, b):
        assert one.t == other.t
        assert np.abs(one.x_prev - other.x_prev).max() < 1e-6


@pytest.mark.parametrize("kind", ["linear", "cosine", "sigmoid"])
@pytest.mark.parametrize("T", [2, 9, 1000])
def test_coefficients_of_ddim_with_eta_one_are_ddpms(monkeypatch, kind, T):
    """The four numbers of every step, to float64's rounding."""
    process = Process(make_schedule(kind, T), "x0")
    seen = []
    table = backend.get("numpy")

    def note(x, x0_hat, x0_hat_prev, c, key, sample):
        seen.append(c)
        return table.sampler_update(x, x0_hat, x0_hat_prev, c, key, sample)

    monkeypatch.setattr(samplers.backend, "current", lambda: dataclasses.replace(table, sampler_update=note))
    for sampler, settings in ((ddpm, {}), (ddim, {"eta": 1.0})):
        x_T = np.zeros((1, 1, 1, 1))
        list(sampler(lambda x, t: 0 * x, process, x_T, T, 0, np.arange(1), "none", **settings))
    a, b = np.array(seen[:T]), np.array(seen[T:])
    # DDIM takes the root of a difference of numbers near 1: sqrt(1e-16) where x_t counts for nothing
    assert a == pytest.approx(b, abs=1e-7)
    assert a[-1].tolist() == [0, 1, 0, 0]  # the last step is the guess itself


@pytest.mark.parametrize("target", TARGETS)
def test_targets_draw_the_same_picture(target):
    with backend.using("numpy"):
        x0 = run(ddim, Process(make_schedule("cosine"), target), 2, 20, dtype=np.float64)[-1].x_prev
        v = run(ddim, Process(make_schedule("cosine"), "v"), 2, 20, dtype=np.float64)[-1].x_prev
    assert np.abs(x0 - v).max() < 1e-9  # eps divides by sqrt(alpha_bar) = 5e-5 at first


# -- golden numbers -----------------------------------------------------------------------------------------------


def fixture():
    """The deterministic sample of diffusers' scheduler tests, 4 pictures of 8 x 8 x 3, channels last."""
    n, h, w, c = np.meshgrid(*map(np.arange, (4, 8, 8, 3)), indexing="ij")
    return (((8 * c + h) * 8 + w) * 4 + n) / 768


def torch_randn(n, seed):
    """PyTorch's CPU randn of n values (n a multiple of 16), again and again from one seed.

    It takes 24 bits of each word of the Mersenne Twister and pairs the first eight of sixteen uniforms with the last
    eight, by Box and Muller.
    """
    twister = np.random.RandomState(seed)
    while True:
        u = (twister.randint(0, 2**32, n, dtype=np.uint32) & 0xFFFFFF) * 2.0**-24
        u = u.reshape(-1, 2, 8)
        r, theta = np.sqrt(-2 * np.log(1 - u[:, 0])), 2 * np.pi * u[:, 1]
        yield np.stack([r * np.cos(theta), r * np.sin(theta)], 1).ravel()


@pytest.mark.parametrize(("target", "golden"), [("eps", 0.223967), ("v", 0.0684)])
def test_ddim_full_loop_of_diffusers(each_backend, target, golden):
    """tests/schedulers/test_scheduler_ddim.py: 10 "leading" times, network x t / (t + 1), mean absolute value.

    No value leaves [-1, 1] there, so that how clipping treats eps does not matter."""
    process = Process(make_schedule("linear"), target)
    x_T = fixture().astype(np.float32)
    denoise = lambda x, t: (x * (t / (t + 1))).astype(np.float32)
    *_, last = ddim(denoise, process, x_T, range(900, -1, -100), 0, np.arange(4))
    assert np.abs(last.x_prev).mean() == pytest.approx(golden, abs=1e-4 if target == "v" else 2e-6)  # digits given


@pytest.mark.parametrize(("target", "golden"), [("eps", 0.3372), ("v", 0.2631)])
def test_ddpm_full_loop_of_diffusers(monkeypatch, target, golden):
    """tests/schedulers/test_scheduler_ddpm.py: 1000 steps with PyTorch's noise in place of ours."""
    noise = torch_randn(768, seed=0)

    def update(x, x0_hat, x0_hat_prev, c, key, sample):
        z = next(noise).reshape(4, 3, 8, 8).transpose(0, 2, 3, 1) if c[3] else 0  # drawn channels first
        return c[0] * x + c[1] * x0_hat + c[3] * z

    table = dataclasses.replace(backend.get("numpy"), sampler_update=update)
    monkeypatch.setattr(samplers.backend, "current", lambda: table)
    process = Process(make_schedule("linear"), target)
    *_, last = ddpm(lambda x, t: x * t / (t + 1), process, fixture(), 1000, 0, np.arange(4))
    assert np.abs(last.x_prev).mean() == pytest.approx(golden, abs=1e-4)  # four digits are given


# -- what a sampler yields ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", [ddpm, ddim])
@pytest.mark.parametrize("clip", ["none", "clip", "dynamic"])
def test_steps_fit_together(each_backend, sampler, clip):
    process = Process(make_schedule("linear"), "eps")
    path = run(sampler, process, 3, 7, clip=clip)
    assert [step.index for step in path] == list(range(7))
    assert [step.t for step in path] == trailing(1000, 7)
    assert [step.t_prev for step in path] == [*trailing(1000, 7)[1:], -1]
    for step, following in pairwise(path):
        assert step.x_prev is following.x_t
    for step in path:
        alpha_bar = process.schedule.alpha_bar[step.t]
        again = np.sqrt(alpha_bar) * step.x0_hat + np.sqrt(1 - alpha_bar) * step.eps_hat
        assert np.abs(again - step.x_t).max() < 1e-5  # float32 at values of a few
        for array in (step.x_t, step.x0_hat, step.eps_hat, step.x_prev):
            assert array.dtype == np.float32
            assert array.shape == (3, *SHAPE)
        if clip != "none":
            assert np.abs(step.x0_hat).max() <= 1
    assert np.array_equal(path[-1].x_prev, path[-1].x0_hat)


@pytest.mark.parametrize("way", WAYS)
def test_a_picture_does_not_depend_on_its_batch(each_backend, way):
    sampler, settings = WAYS[way]
    process = Process(make_schedule("cosine"), "v")
    whole = run(sampler, process, 5, 6, **settings)[-1].x_prev
    parts = [run(sampler, process, n, 6, first=first, **settings)[-1].x_prev for first, n in ((0, 2), (2, 3))]
    assert np.array_equal(whole, np.concatenate(parts))


def test_seeds_differ_and_repeat(each_backend):
    process = Process(make_schedule("cosine"), "v")
    one, again, other = (run(ddpm, process, 1, 5, seed=seed)[-1].x_prev for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_eta_zero_takes_no_noise_and_eta_half_does(each_backend):
    """Same start, other seed for the noise on the way."""
    process, samples = Process(make_schedule("cosine"), "v"), np.arange(1)
    x_T = start_noise(0, samples, SHAPE)
    for eta, same in ((0.0, True), (0.5, False)):
        ends = [list(ddim(ideal(process), process, x_T, 5, seed, samples, eta=eta))[-1].x_prev for seed in (0, 1)]
        assert np.array_equal(*ends) == same


# -- clipping -----------------------------------------------------------------------------------------------------


def test_clip_cuts_and_none_does_not():
    x0 = np.array([[-3.0, -0.5, 0.5, 1.5]])
    assert clip_x0(x0, "clip").tolist() == [[-1, -0.5, 0.5, 1]]
    assert clip_x0(x0, "none") is x0


def test_dynamic_thresholding_by_hand():
    """201 values 0 … 200 sorted: the 99.5% quantile is the value at place 0.995 x 200 = 199."""
    ramp = np.linspace(0, 2, 201).reshape(1, 201)
    small = ramp / 4  # a second picture inside the range is left alone
    y = clip_x0(np.concatenate([ramp, small]), "dynamic")
    c = 199 * 0.01
    assert y[0] == pytest.approx(np.minimum(ramp[0], c) / c, abs=1e-12)
    assert np.array_equal(y[1], small[0])


def test_dynamic_thresholding_keeps_float32():
    assert clip_x0(np.full((1, 2, 2, 1), 3, np.float32), "dynamic").dtype == np.float32


# -- times and mistakes -------------------------------------------------------------------------------------------


def test_trailing_times():
    assert trailing(1000, 10) == [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]
    assert trailing(1000, 1) == [999]
    assert trailing(1000, 3) == [999, 666, 332]  # round(arange(T, 0, -T / N)) - 1
    assert trailing(4, 4) == [3, 2, 1, 0]
    for T in (2, 10, 37, 1000):
        for steps in range(1, T + 1):
            times = trailing(T, steps)
            assert len(times) == steps
            assert times[0] == T - 1
            assert times[-1] >= 0
            assert all(a > b for a, b in pairwise(times))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be from 1 to 1000, the schedule's length, got 0"),
        ({"steps": 1001}, "steps must be from 1 to 1000, the schedule's length, got 1001"),
        ({"steps": [500, 500]}, "times must fall and lie in 0 … 999, got [500, 500]"),
        ({"steps": [1000, 500]}, "times must fall and lie in 0 … 999, got [1000, 500]"),
        ({"steps": []}, "times must fall and lie in 0 … 999, got []"),
        ({"clip": "soft"}, "clip must be one of none, clip, dynamic, got 'soft'"),
        ({"eta": 1.5}, "eta must be in [0, 1], got 1.5"),
        ({"eta": float("nan")}, "eta must be in [0, 1], got nan"),
    ],
)
def test_mistakes_are_named_at_once(settings, message):
    """By the call itself, before anybody asks for the first step."""
    process = Process(make_schedule("linear"))
    settings = {"steps": 10, **settings}
    with pytest.raises(MinidiffError) as caught:
        ddim(ideal(process), process, np.zeros((1, *SHAPE), np.float32), seed=0, samples=np.arange(1), **settings)
    assert str(caught.value) == message
