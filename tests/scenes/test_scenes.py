"""The scenes: the same for everybody, subjects large, maps that agree with the images, and pairs never shown."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from minidiff import backend
from minidiff.errors import MinidiffError
from minidiff.scenes import Scenes, alike, factors, scenes
from minidiff.scenes.factors import HELD_OUT, LABELS, PLACES, STYLES, SUBJECTS, TIMES
from minidiff.scenes.styles import line_width
from tests.backends import RUN_HERE

MANY = np.arange(20_000)


@pytest.fixture(scope="module")
def rendered():
    """A thousand images at 32 pixels: factors and rendering."""
    data, index = Scenes(32), np.arange(1000)
    return data.factors(index), data.render(index)


def choose(**fixed):
    """Factors of as many plain images as the longest of the lists, one big subject each."""
    n = max(np.size(value) for value in fixed.values())
    chosen = factors.choose(0, "train", np.arange(n))
    plain = {"style": 0, "count": 1, "size": 1, "weather": 0, "position": 1} | fixed
    return replace(chosen, **{name: np.resize(value, n) for name, value in plain.items()})


def render(chosen, size=32):
    return scenes.render(chosen, size, 0, "train", np.arange(len(chosen)))


def test_is_a_dataset():
    data = Scenes()
    assert (data.name, data.height, data.width, data.channels, data.endless) == ("scenes", 32, 32, 3, True)
    assert data.classes == SUBJECTS and len(data.classes) == 11
    images, labels = data.batch(np.arange(3))
    assert images.shape == (3, 32, 32, 3) and images.dtype == np.uint8
    assert labels.shape == (3,) and labels.dtype == np.int64
    assert len(data) == 2**32
    assert data.batch(np.array([2**32 - 1]))[0].shape == (1, 32, 32, 3)


@pytest.mark.parametrize("size", [16, 31, 64])
def test_any_size(size):
    assert Scenes(size).batch(np.arange(2))[0].shape == (2, size, size, 3)


def test_images_are_the_same_everywhere():
    """The bytes themselves: a change of this sum is a change of the data, wanted or not.

    Holds on every machine, for only correctly rounded operations are used; on a machine where it does not, that
    is what to look into.
    """
    images, labels = Scenes(32, seed=1).batch(np.arange(200))
    assert hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()[:16] == "6e2d74379e8b70ea"


def test_backends_draw_the_same_bytes():
    results = []
    for name in RUN_HERE:
        with backend.using(name):
            results.append(Scenes(32).render(np.arange(60)[::-1]))  # falling: none is rendered ahead
    for other in results[1:]:
        np.testing.assert_array_equal(other.image, results[0].image)
        np.testing.assert_array_equal(other.edge, results[0].edge)
        np.testing.assert_array_equal(other.label, results[0].label)


def test_a_image_does_not_depend_on_what_is_drawn_beside_it():
    expected, labels = Scenes(16).batch(np.arange(300))
    data = Scenes(16)
    for index in ([0, 1, 2], [7], [299, 5, 5], range(250, 262), range(255, 300), range(3), []):
        images, numbers = data.batch(np.array(index, np.int64))
        np.testing.assert_array_equal(images, expected[list(index)])
        np.testing.assert_array_equal(numbers, labels[list(index)])


def test_a_batch_belongs_to_the_caller():
    data = Scenes(16)
    first = data.batch(np.arange(4))[0]
    kept = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(data.batch(np.arange(4))[0], kept)


def test_seeds_and_splits_are_other_images():
    index = np.arange(50)
    images = [Scenes(16, split, seed).batch(index)[0] for split in ("train", "test") for seed in (0, 1)]
    for i, one in enumerate(images):
        for other in images[:i]:
            assert not (one == other).all((1, 2, 3)).any()


def test_labels_are_balanced():
    labels = Scenes().factors(MANY).subject
    share = np.bincount(labels, minlength=11) / len(MANY)
    np.testing.assert_allclose(share, 1 / 11, atol=0.0102)  # 5 standard deviations of a share: 5 sqrt(p (1 - p) / n)


def test_the_mix_is_made_to_be_learnt():
    f = Scenes().factors(MANY)
    assert (f.style == 0).mean() > 0.7
    assert (f.count == 1).mean() > 0.85
    assert (f.position == 1).mean() > 0.7
    assert not ((f.count == 3) & (f.size == 0)).any()


@pytest.mark.parametrize("factor", HELD_OUT)
def test_held_out_pairs_are_never_trained_on(factor):
    values = {"colour": factors.COLOURS, "time": TIMES, "place": PLACES}[factor]
    train, test = Scenes(split="train").factors(MANY), Scenes(split="test").factors(MANY)
    assert len(HELD_OUT[factor]) == (9 if factor == "colour" else 3)
    for subject, value in HELD_OUT[factor]:
        pair = SUBJECTS.index(subject), values.index(value)
        assert not ((train.subject == pair[0]) & (getattr(train, factor) == pair[1])).any(), (subject, value)
        shown = (test.subject == pair[0]) & (getattr(test, factor) == pair[1])
        assert shown.sum() > 20, (subject, value)
        assert test.held_out()[shown].all()


@pytest.mark.parametrize("split", ["train", "test"])
def test_held_out_pairs_are_no_references_either(monkeypatch, split):
    """Of each reference only the subject gives way: what it shares with its image stays shared."""
    shown = []

    def note(factors, *rest):
        shown.append(factors)
        return scenes.render(factors.of(np.arange(1)), 16, 0, split, np.arange(1))

    monkeypatch.setattr(alike, "render", note)
    data = alike.Alike(16, split)
    data.alike(MANY)
    (reference,), image = shown, data.factors(MANY)
    assert reference.held_out().mean() == pytest.approx({"train": 0, "test": 0.15}[split], abs=0.05 * (split == "test"))
    for name in ("style", "hue", "time"):
        np.testing.assert_array_equal(getattr(reference, name), getattr(image, name))
    assert len(np.unique(reference.subject)) == len(SUBJECTS)
    assert (reference.place[reference.subject == factors.BOAT] == factors.SEA).all()


def test_held_out_tells_the_pairs_apart():
    assert not Scenes(split="train").factors(MANY).held_out().any()
    assert 0.1 < Scenes(split="test").factors(MANY).held_out().mean() < 0.2


@pytest.mark.parametrize("split", ["train", "test"])
def test_scenes_make_sense(split):
    f = Scenes(split=split).factors(MANY)
    assert (f.place[f.subject == factors.BOAT] == factors.SEA).all()
    assert (f.season[(f.place == factors.SEA) | (f.place == factors.DESERT)] == factors.SUMMER).all()
    assert (f.season[f.weather == factors.SNOWY] == factors.WINTER).all()
    assert (f.season[f.weather == factors.RAINY] != factors.WINTER).all()
    assert (f.place[f.weather == factors.RAINY] != factors.DESERT).all()
    for factor, count in (("weather", 4), ("place", 6), ("season", 4), ("time", 3), ("style", 6), ("colour", 11)):
        assert len(np.unique(getattr(f, factor))) == count


@pytest.mark.parametrize("subject", range(1, 11), ids=SUBJECTS[1:])
def test_a_subject_is_a_quarter_of_the_image(rendered, subject):
    f, rendering = rendered
    chosen = (f.subject == subject) & (f.count == 1) & (f.size == 1)
    area = (rendering.label[chosen] == subject).mean((1, 2))
    assert len(area) > 40
    assert 0.22 < np.median(area) < 0.31


def test_labels_show_the_subject_and_no_other(rendered):
    f, rendering = rendered
    for subject in range(1, 11):
        shown = (rendering.label == subject).any((1, 2))
        np.testing.assert_array_equal(shown, f.subject == subject)
    assert rendering.label.max() < len(LABELS)


def test_one_of_a_subject_stays_inside():
    """The middle of a subject that stands in the middle is near the image's middle, and nothing is cut off."""
    subject = np.repeat(np.arange(1, 11), 20)
    label = render(choose(subject=subject)).label == subject[:, None, None]
    across = (label.sum(1) * (np.arange(32) - 15.5)).sum(1) / label.sum((1, 2))
    assert np.abs(across).max() < 4
    assert not label[:, 0].any() and not label[:, -1].any()


def test_edges_follow_the_labels(rendered):
    """Where the subject's label ends, the edge map has a line.

    The outline passes between two neighbouring pixels' centres, so one of them lies within half a pixel of it, and
    there the edge is 1/2 or more; curved outlines stray a little from that, and the boat's mast has none.
    """
    f, rendering = rendered
    plain = (f.subject > 0) & (f.subject != factors.BOAT)
    inside = rendering.label[plain] == f.subject[plain, None, None]
    edge = rendering.edge[plain]
    across = inside[:, :, 1:] != inside[:, :, :-1]
    strength = np.maximum(edge[:, :, 1:], edge[:, :, :-1])[across]
    assert len(strength) > 10_000
    assert (strength > 0.4).mean() > 0.98
    assert 0.02 < (rendering.edge > 0.5).mean() < 0.2  # lines, and not a thicket


def test_night_and_style_change_the_colours_alone():
    base = choose(subject=np.arange(11), time=0)
    expected = render(base)
    for style in range(1, len(STYLES)):
        rendering = render(replace(base, style=np.full(11, style)))
        np.testing.assert_array_equal(rendering.edge, expected.edge)
        np.testing.assert_array_equal(rendering.label, expected.label)
        difference = np.abs(rendering.image.astype(int) - expected.image)
        assert difference.mean() > 10, STYLES[style]


@pytest.mark.parametrize("style", range(len(STYLES)), ids=STYLES)
def test_no_style_hides_the_colour_of_a_subject(style):
    """A red car differs from a blue one by more than 20 of 255, on average over the car, wheels and all."""
    car, red, blue = SUBJECTS.index("car"), factors.COLOURS.index("red"), factors.COLOURS.index("blue")
    one = render(choose(subject=np.full(6, car), place=np.arange(6), colour=red, style=style))
    other = render(choose(subject=np.full(6, car), place=np.arange(6), colour=blue, style=style))
    change = np.abs(one.image.astype(int) - other.image).mean(-1)
    assert change[one.label == car].mean() > 20
    assert change[one.label != car].mean() < 4  # pixels of the outline that are mostly something else


def test_everything_can_be_drawn_together():
    """Each subject in each place at each hour, in every season and weather as they come."""
    subject, place, time = (grid.ravel() for grid in np.meshgrid(range(11), range(6), range(3), indexing="ij"))
    chosen = factors.sensible(choose(subject=subject, place=place, time=time, weather=np.arange(198) % 4))
    rendering = render(chosen, 16)
    assert len(np.unique(rendering.image.reshape(198, -1), axis=0)) == 198
    assert (rendering.image.std((1, 2)).max(1) > 8).all()  # none is a blank


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"size": 15}, "scenes need at least 16 pixels a side, got 15"),
        ({"split": "valid"}, 'scenes have the splits "train" and "test", got \'valid\''),
    ],
)
def test_mistakes(arguments, text):
    with pytest.raises(MinidiffError) as error:
        Scenes(**arguments)
    assert str(error.value) == text


def test_lines_of_a_style_are_as_wide_in_proportion_at_every_size():
    """A large image that is reduced looks like a small one; its edge map stays thin."""
    index = np.arange(40)
    factors = Scenes(32).factors(index)
    for style in ("neon", "ink"):
        of_style = replace(factors, style=np.full(40, STYLES.index(style), factors.style.dtype))
        small, large = (render(of_style, size) for size in (32, 128))
        means = large.image.reshape(40, 32, 4, 32, 4, 3).mean((2, 4))
        assert np.abs(means - small.image).mean() < 9
        assert (large.edge > 0.5).mean() < 0.5 * (small.edge > 0.5).mean()


def test_images_of_32_pixels_are_those_of_before():
    """Runs on them go on, also where larger images have changed."""
    assert [line_width(size) for size in (16, 32, 47, 64, 128)] == [1, 1, 1, 2, 4]
    assert Scenes(32).digest == "49505d3ad24c59852f389ef5b88d0e8d8c9ed9969c120f18c69d4d7dc76c2c41"
    assert len({Scenes(size).digest for size in (16, 32, 64, 128)}) == 4
