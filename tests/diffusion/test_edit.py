"""The request for an edit: what it asks of editing.py, and what it refuses."""

import numpy as np
import pytest

from minidiff import backend
from minidiff.diffusion import Noise, ddim, editing, levels
from minidiff.diffusion.edit import STRENGTH, Edit
from minidiff.errors import MinidiffError
from tests.diffusion.known import TWO_HILLS, ideal, process_of, sampler

PROCESS = process_of("cosine", "v")
LEVELS = levels(PROCESS.schedule, 20)
SHAPE = (4, 4, 1)
IMAGE, OTHER = TWO_HILLS.draw((2, 4, 4)).astype(np.float32)
MASK = np.zeros(SHAPE, np.float32)
MASK[:2] = 1
ASK = ideal(PROCESS, TWO_HILLS)


def steps(edit, n=3):
    """All steps of an edit by DDIM, whose arrays are on the host at the end."""
    run = sampler("ddim", PROCESS, ASK)
    return list(edit.start(run, ASK, PROCESS, LEVELS, Noise(0, np.arange(n)), SHAPE))


def drawn(path):
    return backend.to_numpy(path[-1].x_prev)


def test_without_anything_said_it_is_drawn_anew(every_backend):
    path = steps(Edit(IMAGE))
    assert len(path) == round(20 * STRENGTH)
    assert np.array_equal(drawn(path), drawn(steps(Edit(IMAGE, strength=STRENGTH))))
    assert np.abs(drawn(path)[0] - drawn(path)[1]).max() > 1e-3  # each with noise of its own
    assert len(steps(Edit(IMAGE, strength=0.0))) == 1


def test_under_a_mask_all_steps_are_taken_unless_told(every_backend):
    path = steps(Edit(IMAGE, mask=MASK))
    assert len(path) == 20
    assert np.array_equal(drawn(path)[:, 2:], np.repeat(IMAGE[None, 2:], 3, 0))
    assert len(steps(Edit(IMAGE, mask=MASK, strength=0.5))) == 10
    assert len(steps(Edit(IMAGE, mask=MASK, resample=3))) == 60


def test_noise_is_removed_from_where_it_is(every_backend):
    path = steps(Edit(IMAGE, sigma=0.5))
    assert path[0].level.sigma == pytest.approx(0.5, rel=1e-9)
    noisy = np.zeros((32, 32, 1), np.float32) + np.random.default_rng(0).normal(0, 0.3, (32, 32, 1)).astype(np.float32)
    edit = Edit(noisy, sigma="estimate")
    # 961 values, each counted four times: about 1.17 / sqrt(961) of it, five times
    assert edit.noise_level() == pytest.approx(0.3, rel=0.2)
    assert Edit(noisy * 0, sigma="estimate").noise_level() == 1e-3  # never none at all
    with pytest.raises(MinidiffError, match=r"^sigma, the noise on the image, must be above 0, got nan$"):
        steps(Edit(IMAGE, sigma=0.0))


def test_varied_by_nothing_the_image_comes_back(every_backend):
    """By DDIM there and back: with 20 steps of "cosine" to 1e-4, and float32's rounding."""
    assert np.abs(drawn(steps(Edit(IMAGE, vary=0.0))) - IMAGE).max() < 1e-3
    some, more = (np.abs(drawn(steps(Edit(IMAGE, vary=amount))) - IMAGE).mean() for amount in (0.2, 0.9))
    assert 1e-3 < some < more


def test_the_way_to_another_image_starts_and_ends_there(every_backend):
    path = drawn(steps(Edit(IMAGE, to=OTHER, frames=4), n=4))
    assert np.abs(path[0] - IMAGE).max() < 1e-3
    assert np.abs(path[-1] - OTHER).max() < 1e-3
    for frame in path[1:-1]:
        assert np.abs(frame - IMAGE).max() > 0.05
        assert np.abs(frame - OTHER).max() > 0.05
    further = drawn(steps(Edit(IMAGE, to=OTHER, frames=2), n=4))  # images after the last frame are the last
    assert np.abs(further[1:] - OTHER).max() < 1e-3


def test_it_is_asked_without_guidance_where_the_noise_is_sought():
    """`ask` is the network for `invert`; the sampler has its own, maybe guided."""
    asked = []

    def ask(x, t):
        asked.append(t)
        return ASK(x, t)

    with backend.using("numpy"):
        run = sampler("ddim", PROCESS, ASK)
        first = next(Edit(IMAGE, vary=0.0).start(run, ask, PROCESS, LEVELS, Noise(0, np.arange(1)), SHAPE))
        x_T = editing.invert(ASK, PROCESS, IMAGE[None], LEVELS)
        assert np.array_equal(first.x_t, x_T)
    assert asked == [level.t for level in reversed(LEVELS[:-1]) for _ in range(4)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"sigma": 0.1, "vary": 0.5},
            "an image can be edited in one way at a time, got sigma and vary",
        ),
        (
            {"strength": 0.3, "to": OTHER},
            "an image can be edited in one way at a time, got strength or mask and to",
        ),
        ({"resample": 2}, "resample needs a mask, got resample 2 without a mask"),
        ({"to": OTHER, "frames": 1}, "frames must be 2 or more, got 1"),
        ({"sigma": "guess"}, "sigma must be a number or \"estimate\", got 'guess'"),
        ({"to": OTHER[:2]}, "to must be (4, 4, 1) to fit the image, got (2, 4, 1)"),
        ({"mask": MASK[..., 0]}, "mask must be (4, 4, 1) to fit the image, got (4, 4)"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(MinidiffError) as caught:
        Edit(IMAGE, **settings)
    assert str(caught.value) == message


def test_the_image_must_fit_the_model():
    with pytest.raises(MinidiffError, match=r"^the image must be \(8, 8, 3\) as the model's are, got \(4, 4, 1\)$"):
        Edit(IMAGE).start(ddim, ASK, PROCESS, LEVELS, Noise(0, np.arange(1)), (8, 8, 3))
