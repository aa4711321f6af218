"""Images are reduced to a judge's size: each pixel becomes the mean of what it covers."""

import numpy as np
import pytest
import toy_images

from minidiff import backend
from minidiff.errors import MinidiffError
from minidiff.evaluation import cache
from minidiff.evaluation.cache import name
from minidiff.evaluation.convnet import TrainConfig
from minidiff.evaluation.labels import classifier
from minidiff.evaluation.reduce import Reduced, at_size, judge_size, reduced
from minidiff.evaluation.scenes import attributes
from minidiff.scenes import Scenes, scenes

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 12, 8, 3)).astype(np.uint8)


@pytest.fixture(autouse=True)
def plain_backend():
    with backend.using("numpy"):
        yield


def test_blocks_become_their_rounded_mean():
    blocks = IMAGES.reshape(3, 3, 4, 2, 4, 3).astype(np.float64)
    np.testing.assert_array_equal(reduced(IMAGES, 3, 2), np.rint(blocks.mean(axis=(2, 4))).astype(np.uint8))


def test_a_pixel_that_is_covered_in_part_counts_in_part():
    """Three pixels become two: each is one whole pixel and half of the one in the middle."""
    row = np.array([30, 60, 90], np.uint8).reshape(1, 1, 3, 1)
    np.testing.assert_array_equal(reduced(row, 1, 2).ravel(), [40, 80])  # (30 + 60 / 2) / 1.5 and (90 + 60 / 2) / 1.5
    np.testing.assert_array_equal(reduced(row.transpose(0, 2, 1, 3), 2, 1).ravel(), [40, 80])


@pytest.mark.parametrize("value", [0, 1, 127, 255])
@pytest.mark.parametrize("size", [(7, 5), (12, 3), (1, 1)])
def test_one_colour_stays_that_colour(value, size):
    np.testing.assert_array_equal(reduced(np.full_like(IMAGES, value), *size), np.full((3, *size, 3), value))


def test_images_of_the_judges_size_stay_as_they_are():
    assert reduced(IMAGES, 12, 8) is IMAGES


@pytest.mark.parametrize("size", [(13, 8), (12, 9), (6, 9)])
def test_nothing_is_enlarged(size):
    with pytest.raises(ValueError, match=r"^reduced: expected at most 12×8, the size of the images, got "):
        reduced(IMAGES, *size)


def test_the_size_of_a_judge():
    assert judge_size(None, (128, 128, 3), 16, 32) == (32, 32)
    assert judge_size(None, (24, 24, 3), 16, 32) == (24, 24)
    assert judge_size(64, (128, 128, 3), 16, 32) == (64, 64)
    assert judge_size(None, (96, 160, 3), 4, 64) == (64, 107)  # 106.7
    assert judge_size(None, (2, 2, 3), 4, 64) == (2, 2)
    for asked in (15, 129, 0, -1):
        with pytest.raises(MinidiffError, match=rf"^--judge-size must be from 16 to 128, .* got {asked}$"):
            judge_size(asked, (128, 128, 3), 16, 32)


def test_scenes_are_rendered_at_the_judges_size_and_other_images_reduced(monkeypatch):
    """So the judge of large scenes is that of small ones, to its file's name."""
    monkeypatch.setattr(cache, "FINGERPRINT_IMAGES", 4)
    monkeypatch.setattr(scenes, "_AHEAD", 4)
    large, small = Scenes(32, "test", 5), Scenes(16, "test", 5)
    config = TrainConfig(steps=1)
    assert name(at_size(large, 16, 16), config) == name(small, config) != name(large, config)
    assert at_size(large, 32, 32) is large
    assert at_size(Scenes(32, captions=True), 16, 16).classes == ()

    toys = toy_images.make(6)
    half = at_size(toys, 4, 4)
    assert isinstance(half, Reduced)
    assert (half.name, half.height, half.width, half.channels, half.classes) == ("toy", 4, 4, 3, toys.classes)
    assert len(half) == 6 and not half.endless
    images, labels = half.batch(np.array([4, 1]))
    np.testing.assert_array_equal(images, reduced(toys.images[[4, 1]], 4, 4))
    np.testing.assert_array_equal(labels, [1, 1])


def test_judges_see_reduced_images():
    """A large image, and the same image reduced, are read alike; an untrained judge has opinions as well."""
    large = Scenes(32, "test").batch(np.arange(6))[0]
    small = reduced(large, 16, 16)
    facts = attributes.AttributeClassifier(16, 16)
    labels = classifier.Classifier(16, 16, 3, 5)
    for model in (facts, labels):
        model.initialize(0)
        for parameter in model.named_parameters().values():  # last layers start at 0
            parameter.data[...] += np.random.default_rng(1).normal(0, 0.1, parameter.data.shape)
    read, read_small = attributes.classify(facts, large), attributes.classify(facts, small)
    assert len(set(read["subject"].tolist())) > 1
    for fact, values in read.items():
        np.testing.assert_array_equal(values, read_small[fact])
    for found, wanted in zip(classifier.classify(labels, large), classifier.classify(labels, small), strict=True):
        np.testing.assert_array_equal(found, wanted)
