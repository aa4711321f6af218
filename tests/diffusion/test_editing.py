"""From an image that is there: drawn anew from some noise, cleaned of the noise that it has."""

import math
from functools import cache

import numpy as np
import pytest

from minidiff import backend
from minidiff.diffusion import CLEAN, Noise, editing, levels, make_schedule
from minidiff.errors import MinidiffError
from minidiff.scenes import Scenes
from tests.diffusion.known import CORRELATED, STEADY, TWO_HILLS, WAYS, ideal, process_of, sampler

PROCESS = process_of("cosine", "v")
LEVELS = levels(PROCESS.schedule, 50)


def rms(x):
    return np.sqrt((x**2).mean())


# -- redraw -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("strength", "steps"), [(0.0, 0), (0.02, 1), (0.04, 2), (0.5, 25), (0.99, 50), (1.0, 50)])
def test_strength_is_the_share_of_the_steps(strength, steps):
    rest = editing.last_levels(LEVELS, strength, PROCESS.schedule)
    assert len(rest) == steps + 1
    assert rest == LEVELS[-steps - 1 :]


@pytest.mark.parametrize("kind", ["cosine", "flow"])
@pytest.mark.parametrize("steps", [1, 10])
def test_less_than_a_step_begins_with_so_much_less_noise(kind, steps):
    """Without a jump from nothing to the step; of one step on the flow, which is from infinity, too."""
    schedule = make_schedule(kind)
    path = levels(schedule, steps)
    starts = [editing.last_levels(path, share / steps, schedule) for share in (1e-6, 0.01, 0.1, 0.5, 0.99, 1 - 1e-9)]
    assert all(len(rest) == 2 and rest[1] is CLEAN for rest in starts)
    sigma = np.array([rest[0].sigma for rest in starts])
    assert (np.diff(sigma) > 0).all()
    assert sigma[0] < 1e-5
    share = np.array([1e-6, 0.01, 0.1, 0.5, 0.99, 1 - 1e-9])
    assert np.arctan(sigma) == pytest.approx(share * np.arctan(path[-2].sigma), rel=1e-9)
    assert [rest[0].t for rest in starts] == pytest.approx([schedule.at_sigma(each).t for each in sigma])


@pytest.mark.parametrize("strength", [-0.1, 1.1, math.nan])
def test_strength_is_from_0_to_1(strength):
    with pytest.raises(MinidiffError, match=rf"^strength must be from 0 to 1, got {strength:g}$"):
        editing.last_levels(LEVELS, strength, PROCESS.schedule)


@pytest.mark.parametrize("way", WAYS)
def test_redrawn_images_are_of_the_distribution_and_as_far_off_as_asked(way):
    """Images of a distribution, noised and denoised, are of it again: whatever the strength, for every sampler."""
    x0, noise = CORRELATED.draw((200, 4, 4)), Noise(0, np.arange(200))
    moved = []
    with backend.using("numpy"):
        for strength in (0.02, 0.1, 0.3, 0.6):
            rest = editing.last_levels(LEVELS, strength, PROCESS.schedule)
            *_, last = editing.img2img(sampler(way, PROCESS, ideal(PROCESS, CORRELATED)), rest, x0, noise)
            moved.append(rms(last.x_prev - x0))
            y = last.x_prev.reshape(-1, 2)
            # 3200 vectors: five standard deviations, see test_distribution.py; 50 steps narrow the spread by 0.02
            assert np.abs(y.mean(0) - CORRELATED.mean).max() < 5 * 0.48 / np.sqrt(len(y)) + 0.0035
            assert np.abs(np.cov(y.T) - CORRELATED.covariance).max() < 5 * 0.25 / np.sqrt(len(y)) + 0.02
    # One step from sigma = 0.042, churned 0.06, leaves that much; two independent draws would be 0.65 apart
    assert moved[0] < 0.06
    assert moved[0] < moved[1] < moved[2] < moved[3] < 0.7


@pytest.mark.parametrize("way", WAYS)
def test_less_and_less_noise_gives_the_image_back(every_backend, way):
    x0 = TWO_HILLS.draw((3, 4, 4)).astype(np.float32)
    fine = levels(PROCESS.schedule, 1000)
    for strength, far in (
        (0.0001, 0.005),
        (0.001, 0.05),
        (0.005, 0.15),
    ):  # sigma = 0.0006, 0.006 and 0.02, five of them; churn adds 1.4 times that
        *_, last = editing.img2img(
            sampler(way, PROCESS, ideal(PROCESS, TWO_HILLS)),
            editing.last_levels(fine, strength, PROCESS.schedule), backend.to_device(x0), Noise(0, np.arange(3)),
        )  # fmt: skip
        assert last.prev is CLEAN
        assert last.x_prev.dtype == np.float32
        assert np.abs(backend.to_numpy(last.x_prev) - x0).max() < far


def test_noise_on_a_known_image_is_the_levels(every_backend):
    """a x0 + s eps with eps of its own for each image and draw, the same in every batch."""
    x0 = np.full((2, 50, 50, 1), 0.5, np.float32)
    level = PROCESS.schedule.level(500)
    x, again, other = (
        backend.to_numpy(editing.add_noise_at(backend.to_device(x0), level, Noise(0, np.arange(2)), draw))
        for draw in (0, 0, 1)
    )
    assert x.mean() == pytest.approx(level.a * 0.5, abs=5 * level.s / np.sqrt(5000))
    assert x.std() == pytest.approx(level.s, abs=5 * level.s / np.sqrt(10000))
    assert np.array_equal(x, again)
    assert np.abs(np.corrcoef(x.ravel(), other.ravel())[0, 1]) < 5 / np.sqrt(5000)
    assert np.abs(np.corrcoef(x[0].ravel(), x[1].ravel())[0, 1]) < 5 / np.sqrt(2500)
    alone = editing.add_noise_at(backend.to_device(x0[1:]), level, Noise(0, np.arange(1, 2)))
    assert np.array_equal(backend.to_numpy(alone)[0], x[1])


# -- clean --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sigma", [0.1, 0.3, 1.0])
def test_cleaning_finds_what_can_be_known(way, sigma):
    """The first guess is the mean of the posterior, the best there is; what comes out is a draw from it, or less far.

    Two draws from a posterior lie sqrt(2) times its spread apart, and the true image is one.
    """
    x0, noise = CORRELATED.draw((60, 4, 4)), Noise(0, np.arange(60))
    y = x0 + sigma * np.random.default_rng(1).standard_normal(x0.shape)
    with backend.using("numpy"):
        run = sampler(way, PROCESS, ideal(PROCESS, CORRELATED))
        first, *_, last = editing.denoise(run, LEVELS, y, sigma, PROCESS.schedule, noise)
    level = PROCESS.schedule.at_sigma(sigma)
    least = rms(CORRELATED.guess(level.a * y, level) - x0)
    assert least < rms(y - x0)
    if "churn" in way:  # it begins with more noise, at most sqrt(2) sigma: then the error is what is known of that
        assert first.level.sigma > sigma
        assert rms(first.x0_hat - x0) < 1.5 * least
        assert rms(last.x_prev - x0) < 2.1 * least  # sqrt(2) of it
        return
    assert first.level.sigma == pytest.approx(sigma, rel=1e-9)
    assert rms(first.x0_hat - x0) == pytest.approx(least, rel=1e-9)
    # 1920 values: the error's size is known to 1 / sqrt(3840) = 1.6%, of which five; and few steps: 3 from 0.1
    assert rms(last.x_prev - x0) < least * (1.25 if way in STEADY else np.sqrt(2)) * 1.08
    assert last.prev is CLEAN


def test_cleaning_starts_from_the_noise_that_is_there():
    """Between the levels, if need be; and skips those that are noisier or as good as it."""
    sigma = LEVELS[20].sigma * 1.01  # within 2% of a level: that one is left out
    visited = []
    note = lambda x, given, noise: visited.extend(given) or iter(())
    list(editing.denoise(note, LEVELS, np.zeros((1, 2, 2, 1)), sigma, PROCESS.schedule, Noise(0, np.arange(1))))
    assert visited[0].sigma == pytest.approx(sigma, rel=1e-9)
    assert visited[1:] == LEVELS[21:]


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
def test_cleaning_needs_some_noise(sigma):
    with pytest.raises(MinidiffError, match=rf"^sigma, the noise on the image, must be above 0, got {sigma:g}$"):
        editing.denoise(None, LEVELS, np.zeros((1, 2, 2, 1)), sigma, PROCESS.schedule, Noise(0, np.arange(1)))


# -- how much noise -----------------------------------------------------------------------------------------------


@cache
def scenes(size):
    falling = np.arange(64)[::-1]  # rising numbers would be rendered ahead, 256 images
    return Scenes(size, "test").batch(falling)[0][::-1].astype(np.float32) / 127.5 - 1


@pytest.mark.parametrize(("size", "texture"), [(32, 0.016), (64, 0.007)])
@pytest.mark.parametrize("sigma", [0.02, 0.05, 0.1, 0.2, 0.5, 1.0])
def test_the_noise_of_drawn_scenes_is_estimated(every_backend, size, texture, sigma):
    """64 scenes together: a few percent too much, and what their own texture adds, more where pixels are coarser."""
    x0 = scenes(size)
    y = x0 + sigma * np.random.default_rng(0).standard_normal(x0.shape).astype(np.float32)
    found = editing.estimate_sigma(backend.to_device(y))
    assert 0.99 * sigma < found < 1.01 * sigma + texture  # 3e5 values: the estimate itself is known to 0.3%
    alone = [editing.estimate_sigma(backend.to_device(y[i : i + 1])) for i in range(0, 64, 8)]
    # one image's 3,000 or more values are known to 7% at most; busy scenes add up to 0.046
    assert all(0.93 * sigma < each < 1.07 * sigma + 0.046 for each in alone)


def test_a_image_without_noise_has_none(every_backend):
    y, x = np.mgrid[:16, :16].astype(np.float32) / 16
    smooth = np.stack([x, y, x + y], -1)[None]
    assert editing.estimate_sigma(backend.to_device(smooth)) < 1e-6  # float32's rounding of ramps
