"""The edge detector: known edges where they are, nothing where nothing is, and scenes' outlines found."""

import numpy as np
import pytest

from minidiff.data.maps import maps
from minidiff.evaluation.scenes.edges import agreement
from minidiff.images.edges import edges
from minidiff.scenes import Scenes


def step(angle, size=24, offset=0.0, low=(40, 40, 40), high=(200, 200, 200)):
    """A straight antialiased edge through (near) the middle, and each pixel's distance from it."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    d = x * np.cos(angle) + y * np.sin(angle) - offset
    cover = np.clip(d + 0.5, 0, 1)[..., None]
    return np.rint(low + cover * (np.array(high) - low)).astype(np.uint8), d


@pytest.mark.parametrize("offset", [0.0, 0.3, 0.5])
@pytest.mark.parametrize("degrees", range(0, 360, 15))
def test_a_straight_edge_is_one_antialiased_line(degrees, offset):
    """Away from the border within 0.3 of max(0, 1 - |d|), for a parabola is not quite the slope's shape; 0.25 when
    written, and half a pixel aside would be 0.5."""
    image, d = step(np.radians(degrees), offset=offset)
    found = edges(image[None])[0, 3:-3, 3:-3, 0] / 255
    assert np.abs(found - np.maximum(1 - np.abs(d), 0)[3:-3, 3:-3]).max() < 0.3


def test_colours_of_one_brightness_have_an_edge():
    image, d = step(0.0, low=(200, 60, 60), high=(60, 140, 60))
    assert (edges(image[None])[0, :, :, 0] > 200)[np.abs(d) < 0.1].all()
    grey = image.mean(-1, keepdims=True).astype(np.uint8)
    assert edges(grey[None]).max() <= 255 and edges(grey[None]).shape == (1, 24, 24, 1)


def test_nothing_in_flat_images_soft_gradients_and_at_borders():
    flat = np.full((2, 16, 16, 3), 77, np.uint8)
    ramp = np.broadcast_to(np.arange(0, 160, 10, dtype=np.uint8)[:, None, None], (16, 16, 3))
    assert not edges(np.concatenate([flat, ramp[None]])).any()


def test_weak_edges_are_kept_only_beside_strong_ones():
    image = np.full((24, 24, 1), 100, np.uint8)
    image[12:, :12], image[12:, 12:] = 134, 200  # a line across that is weak on the left, strong on the right
    alone = np.full((24, 24, 1), 100, np.uint8)
    alone[12:] = 134
    assert (edges(image[None])[0, 11:13, :10, 0].max(0) > 0).all()
    assert not edges(alone[None]).any()


def test_a_image_does_not_depend_on_its_neighbours():
    images = Scenes(32).batch(np.arange(150))[0]
    together = edges(images)
    np.testing.assert_array_equal(edges(images[70:73]), together[70:73])
    np.testing.assert_array_equal(edges(images[:, :, ::-1])[:, :, ::-1] > 127, together > 127)
    assert edges(images[:0]).shape == (0, 32, 32, 1)


def test_outlines_of_scenes_are_found():
    """Recall 0.95, precision 0.74 when written: the rest are eyes, windows, stripes, which have no outline."""
    data, index = Scenes(32, "test"), np.arange(1000)
    plain = index[data.factors(index).style == 0]
    found = agreement(maps(data, plain, "edges"), edges(data.batch(plain)[0]))
    assert found.recall > 0.93
    assert found.precision > 0.7


def test_refuses_what_is_no_image():
    with pytest.raises(ValueError, match=r"edges: expected \(N, H, W, C\) uint8, got \(4, 4, 3\) float64"):
        edges(np.zeros((4, 4, 3)))
