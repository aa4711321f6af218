"""The hue of an image, and how far two are apart."""

import numpy as np
import pytest

from minidiff.evaluation.scenes.hue import hue, hue_error


def plain(*rgb):
    return np.full((1, 4, 4, 3), rgb, np.uint8)


PURE = {(255, 0, 0): 0, (255, 255, 0): 60, (0, 255, 0): 120, (0, 0, 255): -120, (200, 100, 100): 0}


@pytest.mark.parametrize(("rgb", "degrees"), PURE.items())
def test_pure_colours(rgb, degrees):
    assert hue_error(hue(plain(*rgb)), np.array([degrees])) == pytest.approx(0, abs=1e-9)


def test_colourful_pixels_count_more_than_grey_ones():
    image = plain(128, 128, 128).copy()
    image[0, 0, 0] = 0, 0, 255
    assert hue(image)[0] == pytest.approx(-120, abs=1e-9)


def test_angles_are_compared_round_the_circle():
    one, other = np.array([350.0, 10.0, 180.0, -170.0, 0.0]), np.array([20.0, 350.0, -180.0, 170.0, 180.0])
    assert hue_error(one, other) == pytest.approx([30, 20, 0, 20, 180])
    assert np.array_equal(hue_error(one, other), hue_error(other, one))


def test_by_chance_it_is_ninety():
    a, b = np.random.default_rng(0).uniform(0, 360, (2, 20000))
    assert np.median(hue_error(a, b)) == pytest.approx(90, abs=3)
