"""Curves stand where their numbers say."""

import numpy as np
import pytest

from minidiff.images.chart import _Axis, _mean, _number, line_chart

BLUE, ORANGE = (0, 114, 178), (213, 94, 0)


def where(image, colour):
    """Return rows and columns of the pixels of about this colour."""
    return np.nonzero(np.abs(image.astype(int) - colour).max(-1) < 40)


def test_a_rising_line_rises_from_corner_to_corner():
    image = line_chart({"a": (range(11), range(11))}, "title", "x", "y", size=(480, 270))
    assert image.shape == (270, 480, 3) and image.dtype == np.uint8
    rows, columns = where(image, BLUE)
    assert np.corrcoef(rows, columns)[0, 1] < -0.99
    assert columns.min() < 90 and columns.max() > 440 and rows.min() < 80 and rows.max() > 190


def test_a_falling_power_is_straight_on_a_logarithmic_axis():
    x = np.arange(100)
    for log, straight in ((True, True), (False, False)):
        rows, columns = where(line_chart({"a": (x, 0.9**x)}, log_y=log), BLUE)
        assert (np.corrcoef(rows, columns)[0, 1] > 0.999) == straight


def test_a_power_is_straight_on_two_logarithmic_axes():
    x = np.geomspace(1, 1000, 60)
    for log, straight in ((True, True), (False, False)):
        rows, columns = where(line_chart({"a": (x, x**-2.0)}, log_x=log, log_y=True), BLUE)
        assert (np.corrcoef(rows, columns)[0, 1] > 0.999) == straight


def test_the_legend_can_stand_below():
    image = line_chart({"a": ([0, 1], [1, 0]), "b": ([0, 1], [1, 0.5])}, legend_below=True)
    above, below = image[60:120, 840:930], image[420:478, 90:180]
    assert len(where(above, BLUE)[0]) == 0 and len(where(below, BLUE)[0])


def test_curves_have_colours_and_a_legend():
    one = line_chart({"a": ([0, 1], [0, 0])})
    two = line_chart({"a": ([0, 1], [0, 0]), "b": ([0, 1], [1, 1])})
    assert len(where(one, ORANGE)[0]) == 0 and len(where(two, ORANGE)[0]) > 100
    legend = two[60:120, 840:930]  # the corner that the legend is written into
    assert len(where(legend, BLUE)[0]) and len(where(legend, ORANGE)[0])


def test_smoothing_draws_the_mean_over_the_noise():
    x = np.arange(2000)
    y = 1 + np.random.default_rng(0).normal(size=2000)
    rough, smooth = line_chart({"a": (x, y)}), line_chart({"a": (x, y)}, smooth=100)
    assert np.ptp(where(rough, BLUE)[0]) > 300  # the noise fills the image
    assert np.ptp(where(smooth, BLUE)[0]) < 60  # its mean does not


def test_mean():
    assert _mean(np.array([1.0, 2, 3, 4, 10]), 3).tolist() == [1.5, 2, 3, 17 / 3, 7]
    assert _mean(np.array([1.0, 2]), 0).tolist() == [1, 2]


@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize("smooth", [0, 10])
@pytest.mark.parametrize(
    "x, y",
    [
        ([], []),
        ([3], [4]),
        ([1, 2], [5, 5]),
        ([1, 2, 3], [np.nan, np.inf, -1]),
        ([0, 1], [0, 0]),
        ([1, 2], [1e-30, 1e30]),
    ],
)
def test_odd_curves_are_drawn(x, y, log_y, smooth):
    assert line_chart({"a": (x, y)}, "odd", log_y=log_y, smooth=smooth).shape == (540, 960, 3)
    assert line_chart({}).shape == (540, 960, 3)


def test_points_that_are_no_numbers_are_left_out():
    image = line_chart({"a": ([0, 1, 2, 3], [1, np.nan, np.inf, 2])})
    assert np.array_equal(image, line_chart({"a": ([0, 3], [1, 2])}))


def test_lengths_must_agree():
    with pytest.raises(ValueError, match=r"line_chart: loss: x and y must be equally long, got \(2,\) and \(3,\)"):
        line_chart({"loss": ([1, 2], [1, 2, 3])})


@pytest.mark.parametrize("low, high", [(0, 1), (0, 3000), (-5, 7), (0.031, 0.034), (1e-9, 2e-9), (1e6, 1e6 + 1)])
def test_ticks_are_round_and_few(low, high):
    ticks = _Axis(np.array([low, high]), log=False, margin=0).ticks()
    assert 3 <= len(ticks) <= 8 and low <= ticks[0] and ticks[-1] <= high * (1 + 1e-12)
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0])
    assert any(np.isclose(steps[0] / 10.0**power, (1, 2, 5)).any() for power in range(-12, 6))


@pytest.mark.parametrize("low, high", [(0.01, 1), (0.03, 0.9), (1e-9, 1e9), (0.031, 0.034), (2, 3)])
def test_logarithmic_ticks(low, high):
    ticks = _Axis(np.array([low, high]), log=True, margin=0).ticks()
    assert 3 <= len(ticks) <= 8 and low * 0.999 <= min(ticks) and max(ticks) <= high * 1.001


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0"),
        (0.05, "0.05"),
        (1.5, "1.5"),
        (2500, "2.5k"),
        (1e6, "1M"),
        (-3000, "-3k"),
        (3e-7, "3e-07"),
        (0.1 + 0.2, "0.3"),
    ],
)
def test_numbers_are_short(value, text):
    assert _number(value) == text
