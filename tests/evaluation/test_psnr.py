"""PSNR, against values that can be worked out by hand."""

import re

import numpy as np
import pytest

from minidiff.evaluation.metrics.psnr import psnr


def test_each_image_has_its_own():
    images = np.full((3, 4, 5, 3), 100, np.uint8)
    others = images.copy()
    others[1] += 10
    others[2, 0, 0, 0] = 40  # 60 levels in one of 60 numbers
    found = psnr(images, others)
    np.testing.assert_allclose(found[1:], [10 * np.log10(255**2 / 100), 10 * np.log10(255**2 / 60)], rtol=1e-12)
    np.testing.assert_array_equal(psnr(others, images), found)


def test_equal_images_are_finite_and_better_than_all_others():
    images = np.zeros((2, 4, 5, 3), np.uint8)
    others = images.copy()
    others[1, 2, 2, 1] = 2
    equal, nearly = psnr(images, others)
    assert np.isfinite(equal) and equal > nearly


def test_black_and_white_are_as_far_apart_as_images_can_be():
    assert psnr(np.zeros((1, 2, 2, 1), np.uint8), np.full((1, 2, 2, 1), 255, np.uint8)) == [0]


def test_what_it_refuses():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    for other in (images[:1], images.astype(np.float32), images[0]):
        with pytest.raises(ValueError, match=re.escape("psnr: expected two (N, H, W, C) uint8, got (2, 4, 4, 3)")):
            psnr(images, other)
