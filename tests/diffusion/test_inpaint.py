"""Drawing anew under a mask: what is kept stays to the bit, and what is drawn gets to know it."""

from itertools import pairwise

import numpy as np
import pytest

from minidiff import backend
from minidiff.diffusion import Noise, editing, levels
from minidiff.errors import MinidiffError
from tests.diffusion.known import TWO_HILLS, WAYS, Mixture, ideal, process_of, sampler

PROCESS = process_of("cosine", "v")
LEVELS = levels(PROCESS.schedule, 50)
MASK = np.zeros((4, 4, 1), np.float32)
MASK[:, 2:] = 1  # the right half is drawn


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("resample", [1, 2])
def test_the_known_part_is_kept_to_the_bit(every_backend, way, resample):
    x0 = TWO_HILLS.draw((2, 4, 4)).astype(np.float32)
    run = sampler(way, PROCESS, ideal(PROCESS, TWO_HILLS))
    noise, few = Noise(0, np.arange(2)), levels(PROCESS.schedule, 6)
    given = backend.to_device(x0), backend.to_device(MASK)
    path = list(editing.inpaint(run, few, *given, noise, resample=resample, jump=4))
    assert [step.index for step in path] == list(range(6 * resample))
    assert all(step.steps == 6 * resample for step in path)
    y = backend.to_numpy(path[-1].x_prev)
    assert y.dtype == np.float32
    assert np.array_equal(y[:, :, :2], x0[:, :, :2])
    assert np.abs(y[:, :, 2:] - x0[:, :, 2:]).min() > 0
    asked = [step.evaluations for step in path]
    assert all(before < after for before, after in pairwise(asked))
    # Heun asks twice but for the step to the image: once for every time that the last part is gone over
    assert asked[-1] == (12 - 1) * resample if way.startswith("heun") else asked[-1] == 6 * resample


def test_going_over_again_starts_where_the_part_started(every_backend):
    x0 = backend.to_device(TWO_HILLS.draw((1, 4, 4)).astype(np.float32))
    run = sampler("ddpm", PROCESS, ideal(PROCESS, TWO_HILLS))
    few = levels(PROCESS.schedule, 5)
    path = list(editing.inpaint(run, few, x0, backend.to_device(MASK), Noise(0, np.arange(1)), resample=3, jump=2))
    times = [level.t for level in few]
    parts = [times[0:2], times[2:4], times[4:5]]
    assert [step.t for step in path] == [t for part in parts for _ in range(3) for t in part]


def test_noise_put_back_on_is_one_step_of_noising(every_backend):
    """From one level to a noisier one: for images 0, the spread grows from s to s'."""
    level, towards = PROCESS.schedule.level(300), PROCESS.schedule.level(700)
    noise = Noise(0, np.arange(4))
    x = editing.add_noise_at(backend.to_device(np.ones((4, 50, 50, 1), np.float32)), level, noise)
    y = backend.to_numpy(editing.noisier(x, level, towards, noise, 0))
    assert y.mean() == pytest.approx(towards.a, abs=5 * towards.s / 100)  # 10,000 values
    assert y.std() == pytest.approx(towards.s, abs=5 * towards.s / 141)


@pytest.mark.parametrize("way", WAYS)
def test_strength_keeps_something_of_what_was_there(way):
    x0, noise = TWO_HILLS.draw((20, 4, 4)), Noise(0, np.arange(20))
    with backend.using("numpy"):
        run = sampler(way, PROCESS, ideal(PROCESS, TWO_HILLS))
        ends = {
            strength: list(
                editing.inpaint(run, editing.last_levels(LEVELS, strength, PROCESS.schedule), x0, MASK, noise)
            )[-1].x_prev
            for strength in (0.02, 0.2, 1.0)
        }
    far = [np.abs(y - x0)[:, :, 2:].mean() for y in ends.values()]
    assert far[0] < far[1] < far[2]
    assert far[0] < 0.06  # one step from sigma = 0.042


def test_a_mask_between_0_and_1_mixes():
    x0, noise = TWO_HILLS.draw((2, 4, 4)), Noise(0, np.arange(2))
    seen = []

    def run(x, visited, noise):
        for step in sampler("ddim", PROCESS, ideal(PROCESS, TWO_HILLS))(x, visited, noise):
            seen.append(step.x_prev)
            yield step

    with backend.using("numpy"):
        *_, last = editing.inpaint(run, levels(PROCESS.schedule, 3), x0, MASK * 0 + 0.25, noise)
    assert last.x_prev == pytest.approx(0.25 * seen[-1] + 0.75 * x0, abs=1e-12)


# -- the drawn part fits the kept one -----------------------------------------------------------------------------

PLACES = np.stack(np.meshgrid(np.arange(4), np.arange(4), indexing="ij"), -1).reshape(-1, 2)
NEAR = np.exp(-np.linalg.norm(PLACES[:, None] - PLACES, axis=-1) / 2)  # neighbours are 0.6 alike
SMOOTH = Mixture(np.ones(1), np.full((1, 16), 0.2), 0.25 * NEAR[None])


@pytest.mark.parametrize(
    "way",
    [
        *("ddim", "heun", "dpm-solver-sde"),
        *(pytest.param(way, marks=pytest.mark.release) for way in ("ddpm", "euler churn", "dpm-solver", "unipc")),
    ],
)
def test_resampling_draws_what_the_kept_part_makes_likely(way):
    """Images of 4 x 4 values, each like its neighbours, as one normal distribution whose conditional one is known.

    Without resampling the kept part is heard too late; with it the drawn part's mean comes close to the right one.
    """
    of_pixels = ideal(PROCESS, SMOOTH)
    denoise = lambda x, t: of_pixels(x.reshape(len(x), 1, 1, 16), t).reshape(x.shape)
    new, old = (np.flatnonzero(MASK.ravel() == side) for side in (1, 0))
    C, one = SMOOTH.covariances[0], SMOOTH.draw((1,), 3).ravel()
    by_old = C[np.ix_(new, old)] @ np.linalg.inv(C[np.ix_(old, old)])
    mean = 0.2 + by_old @ (one[old] - 0.2)
    covariance = C[np.ix_(new, new)] - by_old @ C[np.ix_(old, new)]
    x0, noise = np.repeat(one.reshape(1, 4, 4, 1), 300, 0), Noise(0, np.arange(300))
    off = {}
    with backend.using("numpy"):
        for resample in (1, 5, 15):
            *_, last = editing.inpaint(
                sampler(way, PROCESS, denoise), levels(PROCESS.schedule, 40), x0, MASK, noise,
                resample=resample, jump=8,
            )  # fmt: skip
            drawn = last.x_prev.reshape(300, 16)[:, new]
            off[resample] = np.sqrt(((drawn.mean(0) - mean) ** 2).mean())
    # The unconditional mean is 0.46 off. 300 images know a mean to 0.45 / sqrt(300) = 0.026, and a covariance to
    # 0.2 sqrt(2 / 300) = 0.016, five of which; measured are 0.2 … 0.3, then 0.09 … 0.16, then 0.04 … 0.09.
    assert off[15] < off[5] < off[1] < 0.46
    assert off[15] < 0.11
    assert np.abs(np.cov(drawn.T) - covariance).max() < 0.08


@pytest.mark.parametrize(("resample", "jump"), [(0, 10), (1, 0), (-1, 5)])
def test_mistakes_are_named(resample, jump):
    with pytest.raises(MinidiffError) as caught:
        editing.inpaint(None, LEVELS, np.zeros((1, 4, 4, 1)), MASK, Noise(0, np.arange(1)), resample, jump)
    assert str(caught.value) == f"resample and jump must be 1 or more, got {resample} and {jump}"
