"""How a guessed image is brought back to [-1, 1]."""

import numpy as np
import pytest

from minidiff import backend
from minidiff.diffusion.clipping import Clipping, clip_x0


def clipped(x0, clip):
    return backend.to_numpy(clip_x0(backend.to_device(np.asarray(x0, np.float32)), clip))


def test_clip_cuts_and_none_does_not(every_backend):
    x0 = [[-3.0, -0.5, 0.5, 1.5]]
    assert clipped(x0, "clip").tolist() == [[-1, -0.5, 0.5, 1]]
    assert clipped(x0, "none").tolist() == x0


def test_dynamic_thresholding_by_hand(every_backend):
    """201 values 0 … 200 sorted: the 99.5% quantile is the value at place 0.995 x 200 = 199."""
    ramp = np.linspace(0, 2, 201)
    small = ramp / 4  # a second image inside the range is left alone
    y = clipped(np.stack([-ramp, small])[:, :, None, None], "dynamic")[:, :, 0, 0]
    c = 199 * 0.01
    assert y[0] == pytest.approx(-np.minimum(ramp, c) / c, abs=1e-6)  # float32
    assert np.array_equal(y[1], small.astype(np.float32))


def test_dynamic_thresholding_with_other_numbers_by_hand(every_backend):
    """Of 0 … 2.4 the median is 1.2 and the tenth below 1; a largest c below the quantile wins, below 1 as well."""
    ramp = np.linspace(0, 2.4, 201)[None, :, None, None]
    for share, most, c in ((0.5, np.inf, 1.2), (0.5, 1.1, 1.1), (0.995, 0.5, 0.5), (0.1, 9.0, 1.0)):
        y = clipped(-ramp, Clipping("dynamic", share=share, most=most))
        assert y == pytest.approx(-np.minimum(ramp, c) / c, abs=1e-6), (share, most)  # float32


def test_clip_may_cut_elsewhere(every_backend):
    assert clipped([[-3.0, -0.5, 0.5, 1.5]], Clipping("clip", 0.25)).tolist() == [[-0.25, -0.25, 0.25, 0.25]]
    assert clipped([[-3.0, 1.5]], Clipping("clip", 2.0)).tolist() == [[-2.0, 1.5]]


def test_every_image_has_a_threshold_of_its_own(every_backend):
    """A bright image does not darken its neighbour."""
    bright = np.random.default_rng(0).uniform(-9, 9, (1, 8, 8, 3)).astype(np.float32)
    both = clipped(np.concatenate([bright, bright / 10]), "dynamic")
    assert np.array_equal(both[1], bright[0] / 10)
    assert np.array_equal(both[:1], clipped(bright, "dynamic"))
    assert np.abs(both[0]).max() == 1


def test_dynamic_thresholding_keeps_float32(every_backend):
    assert clip_x0(backend.to_device(np.full((1, 2, 2, 1), 3, np.float32)), "dynamic").dtype == np.float32
