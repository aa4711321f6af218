"""Stamps: shapes in coordinates of their own, placed on many images at once; and the dice that say where."""

import numpy as np
import pytest

from minidiff import backend
from minidiff.kernels.raster import reference
from minidiff.scenes import stamps, subjects
from minidiff.scenes.dice import Dice, Part
from minidiff.scenes.factors import SUBJECTS
from minidiff.scenes.stamps import MARK, OWN, SECOND, SHINING, Canvas, box, capsule, ellipse, mark, paint, polygon

WHITE_LIGHT = np.ones((3, 3), np.float32)
RED, BLUE = np.array([1, 0, 0], np.float32), np.array([0, 0, 1], np.float32)


def rows_of(canvas):
    shapes, count = canvas.lists()
    return [image[:n] for image, n in zip(shapes, count)]


def test_columns_are_those_of_the_rasteriser():
    for name in ("GEOMETRY", "JOINING", "BLUR", "COLOUR", "OPACITY", "LABEL", "OUTLINE", "COLUMNS", "MARK"):
        assert getattr(stamps, name) == getattr(reference, name), name
    for name in ("ELLIPSE", "CAPSULE", "POLYGON", "BEGIN", "UNITE", "WITHIN", "WITHOUT"):
        assert getattr(stamps, name) == getattr(reference, name), name


def test_places_and_lengths_are_scaled_apart():
    canvas = Canvas(WHITE_LIGHT[:2])
    what = stamps.stamp(
        stamps.solid(OWN, ellipse(0.5, 1.0, 0.2, 0.3), label=4),
        stamps.solid(OWN, capsule(0.5, 1.0, -0.5, 0.0, 0.1), label=4),
        mark(OWN, polygon((0, 0), (0.5, 1), (1, 0)), blur=0.5),
    )
    canvas.place(what, x=[0.0, 0.25], y=-1.0, width=[2.0, 2.0], height=0.5, facing=[1, -1], colours=[RED])
    right, left = rows_of(canvas)
    np.testing.assert_allclose(right[0, 1:5], [1.0, -0.5, 0.4, 0.15])  # lengths stay positive, and are not moved
    np.testing.assert_allclose(left[0, 1:5], [0.25 - 1.0, -0.5, 0.4, 0.15])
    np.testing.assert_allclose(right[1, 1:6], [1.0, -0.5, -1.0, -1.0, 0.05])
    np.testing.assert_allclose(left[2, 1:9], [0.25, -1, -0.75, -0.5, -1.75, -1, -1.75, -1])  # a corner stands twice
    assert right[2, stamps.BLUR] == 0.25
    assert right[0, stamps.LABEL] == 4
    assert right[2, stamps.LABEL] == MARK


def test_paints():
    canvas = Canvas(np.array([[1, 1, 1], [0.5, 0.5, 0.5]], np.float32))
    shape, half_black = ellipse(0, 0, 1, 1), OWN.towards(0, 0, 0, 0.5)
    what = stamps.stamp(*(mark(ink, shape) for ink in (OWN, SECOND, SHINING, paint(0, 255, 0), half_black)))
    canvas.place(what, 0, 0, 1, colours=[RED, np.stack([BLUE, RED])])
    day, night = (rows[:, stamps.COLOUR] for rows in rows_of(canvas))
    np.testing.assert_allclose(day, [[1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [0.5, 0, 0]])
    np.testing.assert_allclose(night, [[0.5, 0, 0], [0.5, 0, 0], [1, 0, 0], [0, 0.5, 0], [0.25, 0, 0]])


def test_a_part_of_a_sheet_keeps_the_order_of_placing():
    dot, canvas = stamps.stamp(stamps.solid(OWN, ellipse(0, 0, 1, 1))), Canvas(WHITE_LIGHT)
    canvas.place(dot, 0.0, 0, 1)
    canvas.of(np.array([1, 2])).of(np.array([1])).place(dot, 0.1, 0, 1, label=5)
    canvas.under(WHITE_LIGHT / 2).place(dot, 0.2, 0, 1, visible=[True, True, False])
    first, second, third = rows_of(canvas)
    np.testing.assert_allclose(first[:, 1], [0.0, 0.2])
    np.testing.assert_allclose(second[:, 1], [0.0, 0.2])
    np.testing.assert_allclose(third[:, 1], [0.0, 0.1, 0.2])
    np.testing.assert_array_equal(third[:, stamps.LABEL], [0, 5, 0])
    np.testing.assert_array_equal(third[:, stamps.OPACITY], [1, 1, 0])


def test_shapes_join_into_figures():
    what = stamps.stamp(
        stamps.solid(OWN, ellipse(0, 0, 1, 1), box(0, 0, 1, 1), without=[ellipse(1, 1, 1, 1)]),
        mark(OWN, ellipse(0, 0, 1, 1), within=[box(0, 0, 1, 1)]),
    )
    ways = [stamps.BEGIN, stamps.UNITE, stamps.WITHOUT, stamps.BEGIN, stamps.WITHIN]
    np.testing.assert_array_equal(what.rows[0, :, stamps.JOINING], ways)


@pytest.mark.parametrize("subject", range(1, len(SUBJECTS)), ids=SUBJECTS[1:])
def test_a_subject_that_faces_left_is_the_mirror_image(subject):
    """To the bit: the pixels' centres are multiples of 1/32, symmetric about 0, and signs round to nothing."""
    canvas = Canvas(WHITE_LIGHT[:2])
    canvas.place(subjects.STAMPS.pick(np.full(2, subject)), 0.0, -0.8, 1.0, facing=[1, -1], colours=[RED, BLUE])
    for result in backend.current().raster(*canvas.lists(), 32):
        np.testing.assert_array_equal(result[1], result[0][:, ::-1])


def test_dice_give_a_column_a_call_and_each_image_its_own():
    together = Dice.roll(3, "train", Part.SKY, np.arange(6), 8)
    some = Dice.roll(3, "train", Part.SKY, np.array([4, 1]), 8)
    first, second = together.uniform(), together.uniform(-2, 2)
    np.testing.assert_array_equal(some.uniform(), first[[4, 1]])
    np.testing.assert_array_equal(some.uniform(-2, 2), second[[4, 1]])
    np.testing.assert_array_equal(together.of(np.array([2])).uniform(), first[[2]])  # from the start again
    assert not np.array_equal(first * 4 - 2, second)


def test_dice_are_other_numbers_for_each_part_and_split():
    rolls = [Dice.roll(3, split, part, np.arange(4), 8).uniform() for split in ("train", "test") for part in Part]
    assert len(np.unique(np.concatenate(rolls))) == 4 * len(rolls)


def test_dice_are_fair():
    """Shares of 20,000 throws; a share p strays by more than 5 sqrt(p (1 - p) / n) < 0.018 once in a million."""
    dice, n = Dice.roll(0, "train", Part.PLACE, np.arange(20_000), 4), 20_000
    np.testing.assert_allclose(np.bincount(dice.integers(5), minlength=5) / n, 0.2, atol=0.018)
    np.testing.assert_allclose(
        np.bincount(dice.categorical((2, 1, 1, 0)), minlength=4) / n, [0.5, 0.25, 0.25, 0], atol=0.018
    )
    np.testing.assert_allclose(dice.bernoulli(0.3).mean(), 0.3, atol=0.018)
    assert -1 <= (values := dice.uniform(-1, 3)).min() < -0.99 < 2.99 < values.max() < 3
