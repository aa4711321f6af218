"""The golden numbers of diffusers' own tests, from our samplers: one number for a whole loop, given to 1e-3 or better.

Its loops start from an image that is counted up, ask the network x t / (t + 1), and have a mean absolute value at the
end.  Source: diffusers, tests/schedulers/test_scheduler_*.py.
"""

from itertools import pairwise

import numpy as np
import pytest

from minidiff import backend
from minidiff.diffusion import CLEAN, SAMPLERS, Process, Run, levels, make_schedule
from minidiff.diffusion.schedule import Level, karras
from tests.diffusion.cases import Recorded


def fixture():
    """The deterministic sample of diffusers' scheduler tests, 4 images of 8 x 8 x 3, channels last."""
    n, h, w, c = np.meshgrid(*map(np.arange, (4, 8, 8, 3)), indexing="ij")
    return (((8 * c + h) * 8 + w) * 4 + n) / 768


def network(x, t):
    return x * (t / (t + 1))


class TorchNoise:
    """PyTorch's CPU randn from seed 0, one draw of 768 a step, drawn channels first.

    It takes 24 bits of each word of the Mersenne Twister and pairs the first eight of sixteen uniforms with the last
    eight, by Box and Muller.
    """

    def __init__(self):
        self.twister = np.random.RandomState(0)

    def __getitem__(self, index):
        u = (self.twister.randint(0, 2**32, 768, dtype=np.uint32) & 0xFFFFFF) * 2.0**-24
        u = u.reshape(-1, 2, 8)
        r, theta = np.sqrt(-2 * np.log(1 - u[:, 0])), 2 * np.pi * u[:, 1]
        z = np.stack([r * np.cos(theta), r * np.sin(theta)], 1)
        return z.reshape(4, 3, 8, 8).transpose(0, 2, 3, 1)


def run(name, x, visited, target="eps", clip="none", z=None, **settings):
    process = Process(make_schedule("linear", 1100), target)
    noise = Recorded(z if z is not None else np.zeros((len(visited), 1, 1, 1, 1)))
    with backend.using("numpy"):
        return list(SAMPLERS[name](Run(network, process, visited, noise, clip=clip), x, **settings))


def mean_abs(x):
    return np.abs(x).mean()


@pytest.mark.parametrize(("target", "golden", "digits"), [("eps", 0.223967, 2e-6), ("v", 0.0684, 1e-4)])
def test_ddim(target, golden, digits):
    """No value leaves [-1, 1] there, so that how clipping treats eps does not matter."""
    visited = levels(make_schedule("linear"), 10, "leading")
    last = run("ddim", fixture(), visited, target, "clip")[-1]
    assert mean_abs(last.x_prev) == pytest.approx(golden, abs=digits)


@pytest.mark.parametrize(("target", "golden"), [("eps", 0.3372), ("v", 0.2631)])
def test_ddpm(target, golden):
    last = run("ddpm", fixture(), levels(make_schedule("linear"), 1000), target, "clip", TorchNoise())[-1]
    assert mean_abs(last.x_prev) == pytest.approx(golden, abs=1e-4)


# -- noise beside the image -------------------------------------------------------------------------------------

LONG = make_schedule("linear", 1100, betas=(0.00011, 0.022))  # the usual betas for 1100 times, not rescaled


def scaled(t, sigma):
    a = 1 / np.sqrt(1 + sigma**2)
    return Level(t, a, sigma * a)


def interpolated():
    """Ten times from end to end, unrounded, with sigma interpolated between ours, and the image at last."""
    visited = np.linspace(0, 1099, 10)[::-1]
    return [*(scaled(t, np.interp(t, np.arange(1100), LONG.all.sigma)) for t in visited), CLEAN]


def karras_spaced(schedule, rounded):
    """Ten sigmas by Karras and the times they belong to."""
    visited = [schedule.at_sigma(sigma) for sigma in karras(*schedule.all.sigma[[-1, 0]], 10)]
    return [Level(round(level.t) if rounded else level.t, level.a, level.s) for level in visited]


def overwritten(name, visited, target="eps", z=None):
    """Return x at the end of a loop that gives each step the *scaled* input, x / sqrt(1 + sigma^2), in place of x.

    What is scaled for the network is our x_t as it should be; what the step starts from is, in our scale, smaller by a
    once more. So each step is a run of its own, and the first question in it is asked about what the loop shows.
    """
    x = fixture() * visited[0].sigma
    for level, prev in pairwise(visited):
        shown = x * level.a
        ask = lambda x, t, shown=shown, level=level: network(shown if t == level.t else x, t)
        noise = Recorded([0 * x if z is None else z[0]])  # z gives the next draw whatever it is asked for
        with backend.using("numpy"):
            (step,) = SAMPLERS[name](
                Run(ask, Process(LONG, target), [level, prev], noise, clip="none"), level.a * shown
            )
        x = step.x_prev / prev.a
    return x


@pytest.mark.parametrize(
    ("visited", "golden"), [(interpolated(), 0.0131), ([*karras_spaced(LONG, False), CLEAN], 0.162139)]
)
def test_euler(visited, golden):
    assert mean_abs(overwritten("euler", visited)) == pytest.approx(golden, abs=5e-5)


@pytest.mark.parametrize(("target", "golden"), [("eps", 0.1983), ("v", 0.1412)])
def test_euler_ancestral(target, golden):
    assert mean_abs(overwritten("euler-ancestral", interpolated(), target, TorchNoise())) == pytest.approx(
        golden, abs=1e-4
    )


def test_heun():
    """Its second question is scaled by the loop, too, as our x_prev is anyway. The number is a sum."""
    assert np.abs(overwritten("heun", interpolated())).sum() == pytest.approx(0.1233, abs=1e-4)


# -- multistep ----------------------------------------------------------------------------------------------------

SHORT = make_schedule("linear")
ELEVEN = [SHORT.level(int(t)) for t in np.linspace(999, 0, 11).round()]  # the last is not visited, but gone to


@pytest.mark.parametrize(
    ("visited", "target", "golden"),
    [
        (ELEVEN, "eps", 0.3301),
        (ELEVEN, "v", 0.2251),
        # it ends at the smallest sigma, which was the last of Karras' already: a step of length 0
        (karras_spaced(SHORT, True), "v", 0.2092),  # diffusers 0.42; its test says 0.2096, and allows 1e-3
    ],
)
def test_dpm_solver(visited, target, golden):
    last = run("dpm-solver", fixture(), visited, target)[-1]
    assert mean_abs(last.x_prev) == pytest.approx(golden, abs=1e-4)


def test_dpm_solver_with_thresholding():
    """Their quantile is at most 0.5, below the least of 1, and wins: x0_hat is cut at 0.5 and doubled."""
    level_of = {level.t: level for level in ELEVEN}

    def cut(x, t):
        level = level_of[t]
        return np.clip((x - level.s * network(x, t)) / level.a, -0.5, 0.5) / 0.5

    process, noise = Process(SHORT, "x0"), Recorded(np.zeros((10, 1, 1, 1, 1)))
    with backend.using("numpy"):
        *_, last = SAMPLERS["dpm-solver"](Run(cut, process, ELEVEN, noise, clip="none"), fixture())
    assert mean_abs(last.x_prev) == pytest.approx(1.1364, abs=1e-4)


@pytest.mark.parametrize(("target", "golden"), [("eps", 0.2464), ("v", 0.1014)])
def test_unipc(target, golden):
    """Its last step goes to the smallest sigma with order 1, which is DDIM's; ours would keep order 2."""
    last = run("unipc", fixture(), [*ELEVEN[:-1], CLEAN], target)[-1]
    x = ELEVEN[-1].a * last.x0_hat + ELEVEN[-1].s * last.eps_hat
    assert mean_abs(x) == pytest.approx(golden, abs=1e-4)


@pytest.mark.parametrize(("target", "golden"), [("eps", 0.2925), ("v", 0.1962)])
def test_unipc_karras(target, golden):
    """There the last step has length 0: what is left is the corrected x_t.

    0.1962 is of diffusers 0.42; its test says 0.1966, and allows 1e-3.
    """
    last = run("unipc", fixture(), [*karras_spaced(SHORT, True), CLEAN], target)[-1]
    assert mean_abs(last.x_t) == pytest.approx(golden, abs=1e-4)
