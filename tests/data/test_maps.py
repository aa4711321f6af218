"""Maps of images by number: exact for scenes, the same with every backend, and rendered once with the images."""

import itertools

import numpy as np
import pytest

from minidiff import backend
from minidiff.data.dataset import ImageDataset
from minidiff.data.maps import KINDS, PALETTE, channels, maps
from minidiff.errors import MinidiffError
from minidiff.images.edges import edges
from minidiff.scenes import Scenes, scenes
from minidiff.scenes.factors import LABELS
from tests.backends import RUN_HERE

INDEX = np.arange(300)
SKY = [LABELS.index(name) for name in ("sky", "cloud", "light")]


@pytest.fixture(scope="module")
def rendered():
    data = Scenes(32, "test")
    return data.factors(INDEX), data.render(INDEX, depth=True)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes(kind):
    made = maps(Scenes(16), np.array([5, 2]), kind)
    assert made.shape == (2, 16, 16, channels(kind)) and made.dtype == np.uint8
    assert maps(Scenes(16), np.empty(0, np.int64), kind).shape == (0, 16, 16, channels(kind))


def test_edges_and_segmentation_are_those_of_the_drawing(rendered):
    _, rendering = rendered
    data = Scenes(32, "test")
    np.testing.assert_allclose(
        maps(data, INDEX, "edges")[..., 0] / 255, rendering.edge, atol=0.5 / 255 + 1e-6
    )  # rounding
    painted = maps(data, INDEX, "segmentation")
    label = (painted[..., None, :] == PALETTE).all(-1).argmax(-1)
    np.testing.assert_array_equal(label, rendering.label)


def test_colours_of_the_palette_are_far_apart():
    difference = np.abs(PALETTE[:, None].astype(int) - PALETTE).max(-1)
    assert PALETTE.shape == (len(LABELS), 3)
    assert difference[~np.eye(len(LABELS), dtype=bool)].min() >= 127


def test_depth_is_nought_in_the_sky_and_nowhere_else(rendered):
    _, rendering = rendered
    np.testing.assert_array_equal(rendering.depth == 0, np.isin(rendering.label, SKY))
    np.testing.assert_array_equal(rendering.depth.max((1, 2)), np.full(len(INDEX), 255))


def test_a_subject_has_one_depth_and_is_the_nearest(rendered):
    f, rendering = rendered
    for i in np.flatnonzero((f.subject > 0) & (f.count == 1)):
        inside = rendering.label[i] == f.subject[i]
        assert (rendering.depth[i][inside] == 255).all()
        assert (rendering.depth[i][~inside] < 255).all()


def test_depths_are_the_layers_in_their_order():
    """Two or three of a subject: each its own layer, the last placed the nearest; the levels are evenly spaced."""
    data = Scenes(32, "test")
    several = INDEX[(data.factors(INDEX).count > 1) & (data.factors(INDEX).subject > 0)]
    f, rendering = data.factors(several), data.render(several, depth=True)
    assert len(several) > 10
    for i in range(len(several)):
        inside = np.unique(rendering.depth[i][rendering.label[i] == f.subject[i]])
        levels = np.union1d(0, rendering.depth[i])
        assert len(inside) == f.count[i]
        np.testing.assert_array_equal(inside, levels[-f.count[i] :])
        np.testing.assert_array_equal(levels, np.arange(len(levels)) * 255 // (len(levels) - 1))


def test_layers_count_placings_and_leave_marks_alone():
    data = Scenes(16, "test")
    canvas = scenes.compose(data.factors(INDEX[:20]), 0, "test", INDEX[:20])
    (rows, count), (layers, same) = canvas.lists(), canvas.layers().lists()
    np.testing.assert_array_equal(same, count)
    np.testing.assert_array_equal(layers[..., :15], rows[..., :15])
    np.testing.assert_array_equal(layers[..., 15] == -1, rows[..., 15] == -1)
    solid = layers[0, : count[0], 15][layers[0, : count[0], 15] >= 0]
    assert solid[0] == 0 and (np.diff(solid) >= 0).all() and len(np.unique(solid)) > 5


def test_backends_draw_the_same_depth():
    results = []
    for name in RUN_HERE:
        with backend.using(name):
            results.append(Scenes(32).render(np.arange(16)[::-1], depth=True).depth)  # falling: none is rendered ahead
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


@pytest.mark.parametrize("kind", KINDS)
def test_maps_do_not_depend_on_what_was_asked_before(kind):
    expected = maps(Scenes(16), INDEX, kind)
    data = Scenes(16)
    for index in (range(3), [7], [299, 5, 5], range(250, 262), range(255, 300), range(40, 50), range(300)):
        images, labels = data.batch(np.array(index))
        np.testing.assert_array_equal(maps(data, np.array(index), kind), expected[list(index)])
        again, same = data.batch(np.array(index))
        np.testing.assert_array_equal(images, again)
        np.testing.assert_array_equal(labels, same)


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_run_draws_images_and_maps_together(kind, monkeypatch):
    """Eight steps of 32 images with their maps: one call of `render`, for depth two at the start."""
    calls = []
    render = scenes.render
    monkeypatch.setattr(scenes, "render", lambda *given: calls.append(len(given[0])) or render(*given))
    data = Scenes(16)
    numbers = lambda step: np.arange(step * 64 + 32, step * 64 + 64)  # those of the second of two processes
    for step in range(8, 16):
        data.render_ahead(numbers(step), map(numbers, itertools.count(step + 1)))
        data.batch(numbers(step))
        maps(data, numbers(step), kind)
    assert calls == [256, 256] if kind == "depth" else [256]
    data.batch(np.arange(8))  # somebody else's images
    assert calls.pop() == 8
    data.render_ahead(numbers(16), map(numbers, itertools.count(17)))
    data.batch(numbers(16))
    maps(data, numbers(16), kind)
    assert len(calls) == (3 if kind == "depth" else 2)


def test_a_drawing_belongs_to_the_caller():
    data = Scenes(16)
    rendering = data.render(np.arange(4), depth=True)
    kept = rendering.label.copy(), rendering.depth.copy()
    rendering.label[:], rendering.depth[:] = 0, 0
    again = data.render(np.arange(4), depth=True)
    np.testing.assert_array_equal(again.label, kept[0])
    np.testing.assert_array_equal(again.depth, kept[1])


def test_other_images_have_edges_alone():
    images = Scenes(16).batch(np.arange(12))[0]
    data = ImageDataset("photos", images)
    np.testing.assert_array_equal(maps(data, np.array([3, 1]), "edges"), edges(images[[3, 1]]))
    with pytest.raises(MinidiffError) as error:
        maps(data, np.array([0]), "depth")
    assert str(error.value) == "photos: only scenes have depth maps; other images have edges"
