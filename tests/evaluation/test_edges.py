"""Agreement of edge maps: what counts as found, and where the score stands between chance and real images."""

import numpy as np
import pytest

from minidiff.data.maps import maps
from minidiff.evaluation.scenes.edges import Agreement, agreement, control_score, edge_control
from minidiff.scenes import Scenes


def lines(n=6, size=32):
    """An upright and a level line in each map, elsewhere in each."""
    made = np.zeros((n, size, size, 1), np.uint8)
    for i in range(n):
        made[i, :, 4 + 4 * i], made[i, 4 + 4 * i] = 255, 255
    return made


def test_identical_maps():
    assert agreement(lines(), lines()) == Agreement(1.0, 1.0)
    assert agreement(lines(), lines()).f1 == 1.0


@pytest.mark.parametrize("down, right", [(1, 0), (0, -1), (1, 1), (-1, 1)])
def test_a_pixel_aside_is_as_good(down, right):
    assert agreement(lines(), np.roll(lines(), (down, right), (1, 2))).f1 == 1.0


@pytest.mark.parametrize("far", [2, 3])
def test_farther_is_worse(far):
    """Both lines off by 2 or 3: only about their crossing, and where they shifted along themselves, do they meet."""
    assert agreement(lines(), np.roll(lines(), (far, far), (1, 2))).f1 < 0.2


def test_precision_and_recall():
    wanted, detected = np.zeros((2, 8, 8, 1), np.uint8), np.zeros((2, 8, 8, 1), np.uint8)
    wanted[0, 2, :4] = 255  # four, of which three are within a pixel of the two detected
    detected[0, 3, :2] = 255
    detected[1, 5, :6] = 200  # six that nobody asked for
    detected[1, 0, 0] = 127  # not yet an edge
    found = agreement(wanted, detected)
    assert (found.precision, found.recall) == (2 / 8, 3 / 4)
    assert found.f1 == pytest.approx(2 * 0.25 * 0.75 / (0.25 + 0.75))


def test_empty_maps():
    empty = np.zeros_like(lines())
    assert agreement(empty, empty) == Agreement(1.0, 1.0)
    assert agreement(lines(), empty) == Agreement(1.0, 0.0)
    assert agreement(empty, lines()) == Agreement(0.0, 1.0)
    assert agreement(lines(), empty).f1 == agreement(empty, lines()).f1 == 0.0


def test_score():
    assert control_score(0.6, 0.6, 0.8) == 0.0
    assert control_score(0.8, 0.6, 0.8) == pytest.approx(1.0)
    assert control_score(0.5, 0.6, 0.8) == pytest.approx(-0.5)
    with pytest.raises(ValueError, match=r"expected floor < ceiling, got 0\.8 and 0\.8"):
        control_score(0.8, 0.8, 0.8)


def test_scenes_between_chance_and_their_own_images():
    """Real images of the maps score 1; of other maps about 0, but for chance; half of each about a half."""
    data, index = Scenes(32, "test"), np.arange(200)
    wanted, real = maps(data, index, "edges"), data.batch(index)[0]
    other = data.batch(index + 1000)[0]
    mixed = np.where((index % 2 == 0)[:, None, None, None], real, other)
    assert edge_control(wanted, real, real).score == 1.0
    assert abs(edge_control(wanted, other, real).score) < 0.15
    assert 0.35 < edge_control(wanted, mixed, real).score < 0.65
    judged = edge_control(wanted, real, real)
    assert judged.samples == judged.real and judged.shuffled.f1 < judged.real.f1 - 0.15


def test_refusals():
    with pytest.raises(ValueError, match=r"agreement: expected two \(N, H, W, 1\), got \(6, 32, 32, 1\) and \(2, 32"):
        agreement(lines(), lines(2))
    images = np.zeros((1, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="as many maps as samples and real images, 2 or more, got 1, 1 and 1"):
        edge_control(lines(1), images, images)
