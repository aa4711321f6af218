"""The rasteriser: the reference against geometry, the compiled version against the reference, to the bit."""

import numpy as np
import pytest

from minidiff import backend
from minidiff.kernels.raster import reference

ELLIPSE, CAPSULE, POLYGON = reference.ELLIPSE, reference.CAPSULE, reference.POLYGON
UNITE, WITHIN, WITHOUT, MARK = reference.UNITE, reference.WITHIN, reference.WITHOUT, reference.MARK
VERSIONS = {name: backend.get(name).raster for name in ("numpy", "numba")}


@pytest.fixture(params=VERSIONS)
def raster(request):
    return VERSIONS[request.param]


def row(kind, geometry, joining=0, blur=0.0, colour=(1.0, 1.0, 1.0), opacity=1.0, label=1, outline=1.0):
    return [kind, *geometry, *[0.0] * (8 - len(geometry)), joining, blur, *colour, opacity, label, outline]


def one(raster, *rows, size=32):
    """Draw one picture of these rows."""
    shapes = np.array([rows], np.float32)
    rgb, edge, label = raster(shapes, np.array([len(rows)]), size)
    return rgb[0], edge[0], label[0]


def box(x0, y0, x1, y1):
    return (x0, y0, x0, y1, x1, y1, x1, y0)


def random_lists(n, rows, seed):
    """Figures of every kind, joined in every way, many of them partly or wholly off the canvas."""
    rng = np.random.default_rng(seed)
    shapes = np.zeros((n, rows, reference.COLUMNS), np.float32)
    kind = shapes[..., 0] = rng.integers(0, 4, (n, rows))
    middle, size = rng.uniform(-1.6, 1.6, (n, rows, 1, 2)), rng.choice([0.1, 0.5, 3.0], (n, rows, 1, 1))
    shapes[..., 1:9] = (middle + size * rng.uniform(-1, 1, (n, rows, 4, 2))).reshape(n, rows, 8)
    shapes[..., 3:5] = np.where(kind[..., None] == ELLIPSE, rng.uniform(0.02, 1, (n, rows, 2)), shapes[..., 3:5])
    shapes[..., 5] = np.where(kind == CAPSULE, rng.uniform(0.02, 0.3, (n, rows)), shapes[..., 5])
    for k in range(1, rows):  # cuts come last in a figure, and nothing joins an empty row
        joining = rng.integers(0, 4, n)
        joining[(joining == UNITE) & (shapes[:, k - 1, 9] >= WITHIN)] = 0
        joining[kind[:, k] == reference.NOTHING] = 0
        shapes[:, k, 9] = joining
    shapes[..., 10] = np.where(rng.random((n, rows)) < 0.2, rng.random((n, rows)), 0)
    shapes[..., 11:15] = rng.random((n, rows, 4))
    shapes[..., 14] = np.where(rng.random((n, rows)) < 0.7, rng.integers(0, 4, (n, rows)) > 0, shapes[..., 14])
    shapes[..., 15], shapes[..., 16] = rng.integers(-1, 20, (n, rows)), rng.random((n, rows))
    return shapes, rng.integers(0, rows + 1, n)


@pytest.mark.parametrize("size", [1, 16, 33])
def test_compiled_equals_reference_to_the_bit(size):
    """No tolerance: both do the same IEEE operations in the same order."""
    shapes, count = random_lists(40, 25, seed=size)
    for ours, expected in zip(VERSIONS["numba"](shapes, count, size), VERSIONS["numpy"](shapes, count, size)):
        assert ours.dtype == expected.dtype
        np.testing.assert_array_equal(ours, expected)


def test_random_lists_are_worth_drawing():
    """The comparison above would be empty if most shapes missed the canvas or hid each other."""
    rgb, edge, label = reference.raster(*random_lists(40, 25, seed=33), 33)
    assert len(np.unique(rgb)) > 10_000
    assert len(np.unique(label)) > 10
    assert (edge > 0).mean() > 0.05


def test_poisoned_outputs_are_overwritten():
    from minidiff.kernels.raster import numba_cpu  # here: `backend` has to be first to import what it compiles

    shapes, count = random_lists(8, 10, seed=5)
    count[0] = 0
    outputs = np.full((8, 16, 16, 3), np.nan, np.float32), np.full((8, 16, 16), np.nan, np.float32)
    outputs = *outputs, np.full((8, 16, 16), 255, np.uint8)
    numba_cpu._raster(shapes, count, *outputs)
    for ours, expected in zip(outputs, reference.raster(shapes, count, 16)):
        np.testing.assert_array_equal(ours, expected)
    assert not outputs[0][0].any()


def test_rows_after_the_count_are_not_read(raster):
    shapes, _ = random_lists(4, 10, seed=6)
    spoiled = shapes.copy()
    spoiled[:, 7:] = np.nan
    for ours, expected in zip(raster(spoiled, np.full(4, 7), 16), raster(shapes[:, :7].copy(), np.full(4, 7), 16)):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("size", [32, 64])
def test_areas(raster, size):
    """The covers of a shape's pixels add up to its area.

    Antialiasing by distance is exact for straight edges along the pixels; elsewhere an edge pixel is wrong by less
    than 0.1, and mostly the errors cancel: 1% of shapes of some hundred pixels.
    """
    quad = (-0.5, -0.3, -0.2, 0.6, 0.7, 0.5, 0.4, -0.6)
    x, y = np.array(quad[0::2]), np.array(quad[1::2])
    for shape, area in (
        (row(ELLIPSE, (0.1, -0.2, 0.6, 0.6)), np.pi * 0.36),
        (row(ELLIPSE, (0.0, 0.1, 0.8, 0.4)), np.pi * 0.32),
        (row(CAPSULE, (-0.4, -0.3, 0.3, 0.2, 0.25)), np.pi * 0.0625 + 0.5 * np.hypot(0.7, 0.5)),
        (row(POLYGON, box(-0.53, -0.21, 0.37, 0.68)), 0.9 * 0.89),
        (row(POLYGON, quad), abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2),
        (row(POLYGON, (-0.7, -0.6, 0.1, 0.8, 0.6, -0.5, 0.6, -0.5)), 0.5 * abs(0.8 * 0.1 - 1.3 * 1.4)),
    ):
        rgb, _, label = one(raster, shape, size=size)
        pixel = 4 / size**2
        assert rgb[..., 0].sum() * pixel == pytest.approx(area, rel=0.01)
        assert (label == 1).sum() * pixel == pytest.approx(area, abs=0.05)  # whole pixels: a row of 16 is 0.06


def test_a_box_on_the_pixels_is_exact(raster):
    rgb, edge, label = one(raster, row(POLYGON, box(-0.5, -0.25, 0.0, 0.75), colour=(0.25, 0.5, 1.0), label=7), size=16)
    inside = np.zeros((16, 16), bool)
    inside[2:10, 4:8] = True  # row 0 is at the top, y = 1
    np.testing.assert_array_equal(rgb, inside[..., None] * np.array([0.25, 0.5, 1.0], np.float32))
    np.testing.assert_array_equal(label, inside * 7)
    assert edge[2:10, 4].min() == edge[2:10, 3].min() == 0.5  # the outline runs between two pixels
    assert edge[4:8, 5:7].max() == 0


@pytest.mark.parametrize("corners", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 3, 0, 1)])
def test_a_polygon_may_run_either_way(raster, corners):
    points = [(-0.5, -0.3), (-0.2, 0.6), (0.7, 0.5), (0.4, -0.6)]
    flat = [number for corner in corners for number in points[corner]]
    expected = [number for point in points for number in point]
    np.testing.assert_allclose(
        one(raster, row(POLYGON, flat))[0],
        one(raster, row(POLYGON, expected))[0],
        atol=1e-5,  # the distances start from other corners: float32 rounding of numbers near 1, over 1/16 a pixel
    )


def test_figures_are_set_algebra(raster):
    a, b = (-0.2, 0.0, 0.5, 0.4), (0.3, 0.1, 0.4, 0.6)
    only_a, only_b = (one(raster, row(ELLIPSE, shape))[2] == 1 for shape in (a, b))
    for joining, expected in ((UNITE, only_a | only_b), (WITHIN, only_a & only_b), (WITHOUT, only_a & ~only_b)):
        rgb, _, label = one(raster, row(ELLIPSE, a), row(ELLIPSE, b, joining, colour=(0, 0, 0), label=9))
        np.testing.assert_array_equal(label, expected)  # the first row's label and colour, as they stand
        assert rgb[expected].min() > 0.5


def test_a_union_has_no_inner_outline(raster):
    _, edge, _ = one(raster, row(POLYGON, box(-0.8, -0.5, 0.1, 0.5)), row(POLYGON, box(-0.1, -0.5, 0.8, 0.5), UNITE))
    assert edge[10:22, 5:27].max() == 0


def test_things_hide_what_is_behind_them_in_all_three(raster):
    behind = row(ELLIPSE, (0, 0, 0.3, 0.3), colour=(1, 0, 0), label=2)
    before = row(POLYGON, box(-0.9, -0.9, 0.9, 0.9), colour=(0, 0, 1), label=3)
    for ours, expected in zip(one(raster, behind, before), one(raster, before)):
        np.testing.assert_array_equal(ours, expected)


def test_marks_only_colour(raster):
    thing = row(ELLIPSE, (0, 0, 0.7, 0.7), label=2)
    blot = row(CAPSULE, (-1, 0, 1, 0, 0.2), label=MARK, colour=(0, 0, 0))
    rgb, edge, label = one(raster, thing, blot)
    _, edge_alone, label_alone = one(raster, thing)
    np.testing.assert_array_equal(edge, edge_alone)
    np.testing.assert_array_equal(label, label_alone)
    assert rgb[15:17].max() == 0


def test_opacity_and_blur(raster):
    rgb, _, label = one(raster, row(POLYGON, box(-2, -2, 2, 2), opacity=0.25))
    assert np.all(rgb == 0.25)
    assert not label.any()  # less than half there
    rgb, _, _ = one(raster, row(POLYGON, box(-4, -4, 4, 0.0), blur=1.0))  # a gradient from y = 0.5 down to -0.5
    y = -((np.arange(32) + 0.5) / 16 - 1)
    np.testing.assert_allclose(rgb[:, 16, 0], np.clip(0.5 - y, 0, 1), atol=1e-6)  # sums of numbers near 1


def test_nothing_to_draw(raster):
    rgb, edge, label = raster(np.zeros((2, 0, 17), np.float32), np.zeros(2, np.int64), 16)
    assert rgb.shape == (2, 16, 16, 3)
    assert not rgb.any() and not edge.any() and not label.any()
    assert raster(np.zeros((0, 3, 17), np.float32), np.zeros(0, np.int64), 16)[0].shape == (0, 16, 16, 3)


def test_reference_computes_in_any_float():
    shapes, count = random_lists(4, 10, seed=7)
    rgb, edge, _ = reference.raster(shapes.astype(np.float64), count, 16)
    assert rgb.dtype == edge.dtype == np.float64


@pytest.mark.parametrize(
    ("shapes", "count", "size", "text"),
    [
        (np.zeros((2, 3, 16), np.float32), [3, 3], 16, "raster: shapes must be (N, K, 17), got (2, 3, 16)"),
        (np.zeros((2, 3, 17), np.float32), [3], 16, "raster: count must be (2,), got (1,)"),
        (np.zeros((2, 3, 17), np.float32), [3, 4], 16, "raster: count must lie in 0 to 3, got 3 to 4"),
        (np.zeros((2, 3, 17), np.float32), [-1, 3], 16, "raster: count must lie in 0 to 3, got -1 to 3"),
        (np.zeros((2, 3, 17), np.float32), [3, 3], 0, "raster: size must be at least 1, got 0"),
    ],
)
def test_wrong_arguments(raster, shapes, count, size, text):
    with pytest.raises(ValueError) as error:
        raster(shapes, np.array(count), size)
    assert str(error.value) == text


def test_compiled_takes_float32_in_order():
    for shapes in (np.zeros((2, 3, 17)), np.zeros((2, 6, 17), np.float32)[:, ::2]):
        with pytest.raises(ValueError, match="raster: shapes must be C-contiguous float32, got float"):
            VERSIONS["numba"](shapes, np.array([3, 3]), 16)
