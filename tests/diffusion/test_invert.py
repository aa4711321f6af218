"""The noise that an image would have come from: found, varied, and mixed with another's."""

import math

import numpy as np
import pytest

from minidiff import backend
from minidiff.diffusion import Noise, Process, Run, ddim, editing, levels, make_schedule
from minidiff.diffusion.process import TARGETS
from minidiff.errors import MinidiffError
from tests.covering import pairs_first
from tests.diffusion.known import TWO_HILLS, ideal, normal, process_of

KINDS = ["linear", "cosine", "karras", "flow"]


def there_and_back(process, known, steps, iterations=4, spacing="trailing", n=8):
    """Return images, the noise found for them, and what DDIM draws from it, all float64."""
    visited, x0, denoise = levels(process.schedule, steps, spacing), known.draw((n, 4, 4)), ideal(process, known)
    with backend.using("numpy"):
        x_T = editing.invert(denoise, process, x0, visited, iterations)
        *_, last = ddim(Run(denoise, process, visited, Noise(0, np.arange(n)), clip="none"), x_T)
    return x0, x_T, last.x_prev


FAR = {10: 0.15, 20: 5e-3, 50: 2e-4, 200: 1e-6}


@pytest.mark.parametrize(("kind", "target", "steps"), pairs_first(KINDS, TARGETS, FAR))
def test_ddim_draws_the_image_from_its_noise(kind, target, steps):
    """Four iterations; the shorter the steps, the more each of them helps.

    Measured at most: 0.10, 3e-3, 8e-5, 4e-7, all with "karras", whose steps in ln(sigma) are the longest.
    """
    x0, _, back = there_and_back(process_of(kind, target), TWO_HILLS, steps)
    assert np.abs(back - x0).max() < FAR[steps]


@pytest.mark.parametrize("kind", KINDS)
def test_every_iteration_comes_closer(kind):
    process = process_of(kind, "v")
    off = [np.subtract(*there_and_back(process, TWO_HILLS, 20, iterations)[::2]) for iterations in (1, 2, 4, 8)]
    off = [np.abs(difference).max() for difference in off]
    assert off[0] / 3 > off[1] > 3 * off[2] > 9 * off[3]
    assert off[3] < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_the_noise_found_is_the_images_place(kind):
    """For N(mu, s0^2) DDIM keeps a value's place in its distribution; so the noise of x0 is (x0 - mu) / s0.

    But for the length of 400 steps, and as far as the noisiest level is noise: x_T = a mu + ...
    """
    mu, s0, process = 0.3, 0.5, process_of(kind, "v")
    x0, x_T, _ = there_and_back(process, normal(mu, s0), 400)
    level = process.schedule.level(999)
    place = (x_T - level.a * mu) / np.hypot(level.a * s0, level.s)
    # of order 1: 0.02 at three standard deviations, and the last leap's, see test_order.py; "karras" leaps the farthest
    assert np.abs(place - (x0 - mu) / s0).max() < 0.1


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace", "karras"])
def test_any_spacing_can_be_gone_backwards(spacing):
    x0, _, back = there_and_back(process_of("linear", "v"), TWO_HILLS, 50, 8, spacing)
    assert np.abs(back - x0).max() < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_can_be_gone_backwards(kind):
    """Then x0_hat of some noise is to be the image; from pure noise it is always the mean, and there is no way."""
    process = Process(make_schedule(kind), "v")
    x0, x_T, _ = there_and_back(process, TWO_HILLS, 1)
    assert np.isfinite(x_T).all()
    assert x_T.shape == x0.shape


def test_on_every_backend(every_backend):
    """float32, and to the device's arrays; close enough to see no difference in 8 bits, which are 0.004 apart."""
    process, visited = process_of("cosine", "v"), levels(make_schedule("cosine"), 50)
    x0 = TWO_HILLS.draw((4, 4, 4)).astype(np.float32)
    denoise = ideal(process, TWO_HILLS)
    x_T = editing.invert(denoise, process, backend.to_device(x0), visited)
    assert x_T.dtype == np.float32
    *_, last = ddim(Run(denoise, process, visited, Noise(0, np.arange(4)), clip="none"), x_T)
    assert np.abs(backend.to_numpy(last.x_prev) - x0).max() < 1e-3


# -- vary ---------------------------------------------------------------------------------------------------------


def test_varied_by_nothing_it_is_the_same_noise(every_backend):
    noise = Noise(0, np.arange(3))
    x_T = Noise(1, np.arange(3)).start((4, 4, 1))
    assert np.array_equal(*map(backend.to_numpy, (editing.vary(x_T, 0.0, noise), x_T)))
    assert np.array_equal(*map(backend.to_numpy, (editing.vary(x_T, 1.0, noise), noise.start((4, 4, 1)))))


def test_varied_noise_is_noise_and_as_much_like_the_first_as_asked(every_backend):
    shape, noise = (100, 100, 1), Noise(0, np.arange(1))
    x_T = Noise(1, np.arange(1)).start(shape)
    for amount in (0.2, 0.5, 0.9):
        y = editing.vary(x_T, amount, noise)
        assert y.dtype == np.float32
        x, y = backend.to_numpy(x_T).ravel(), backend.to_numpy(y).ravel()
        # five standard deviations of 10,000 values' spread and of a correlation
        assert y.std() == pytest.approx(1, abs=5 / np.sqrt(2e4))
        assert np.corrcoef(x, y)[0, 1] == pytest.approx(math.sqrt(1 - amount**2), abs=5 / 100)


@pytest.mark.parametrize("amount", [-0.1, 1.1, math.nan])
def test_vary_is_from_0_to_1(amount):
    with pytest.raises(MinidiffError) as caught:
        editing.vary(np.zeros((1, 2, 2, 1)), amount, Noise(0, np.arange(1)))
    assert str(caught.value) == f"vary must be from 0, the image itself, to 1, any image, got {amount:g}"


# -- between ------------------------------------------------------------------------------------------------------


def test_the_ends_of_the_way_are_the_ends_and_its_length_is_kept(every_backend):
    """Noises of the same length stay as long; others go evenly from one length to the other, or nearly so."""
    x, y = (Noise(seed, np.arange(5)).start((16, 16, 3)) for seed in (0, 1))
    weight = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    z = editing.slerp(x, y, weight)
    assert z.dtype == np.float32
    x, y, z = (backend.to_numpy(array).reshape(5, -1).astype(np.float64) for array in (x, y, z))
    assert z[0] == pytest.approx(x[0], abs=1e-6)  # float32
    assert z[-1] == pytest.approx(y[-1], abs=1e-6)
    lengths = np.linalg.norm(z, axis=1)
    shorter, longer = np.minimum(*(np.linalg.norm(a, axis=1) for a in (x, y))), np.linalg.norm(x, axis=1)
    longer = np.maximum(longer, np.linalg.norm(y, axis=1))
    assert np.all(lengths > 0.999 * shorter)
    assert np.all(lengths < 1.001 * longer)
    assert np.linalg.norm((x + y)[2] / 2) < 0.75 * shorter[2]  # what the straight line would do


def test_the_way_is_an_arc_of_even_steps():
    rng = np.random.default_rng(0)
    x, y = (a / np.linalg.norm(a) for a in rng.standard_normal((2, 1, 2, 2, 1)))
    weight = np.linspace(0, 1, 7)
    with backend.using("numpy"):
        z = editing.slerp(np.repeat(x, 7, 0), np.repeat(y, 7, 0), weight).reshape(7, -1)
    assert np.linalg.norm(z, axis=1) == pytest.approx(np.ones(7), abs=1e-12)
    angles = np.arccos(np.sum(z[1:] * z[:-1], 1))
    assert angles == pytest.approx(np.full(6, np.arccos(np.sum(x * y)) / 6), abs=1e-9)


def test_between_a_noise_and_itself_is_that_noise(every_backend):
    x = Noise(0, np.arange(200)).start((16, 16, 3))
    flat = backend.to_numpy(x).reshape(200, -1).astype(float)
    cosine = (flat * flat).sum(1) / np.linalg.norm(flat, axis=1) ** 2
    assert cosine.max() > 1 > cosine.min()  # by rounding
    z = editing.slerp(x, x, np.linspace(0, 1, 200))
    assert np.abs(backend.to_numpy(z) - backend.to_numpy(x)).max() < 1e-6
