"""No classifier is tested on images that it was trained on."""

import re

import numpy as np
import pytest
import toy_images

from minidiff import backend
from minidiff.data.config import DataConfig
from minidiff.data.open import open_data
from minidiff.errors import MinidiffError
from minidiff.evaluation.split import TEST_FIRST, Subset, train_and_test_sets
from minidiff.scenes import scenes


def test_finite_data_bring_their_parts(tmp_path):
    toy_images.write(tmp_path / "toy.npz", 60)
    train_set, test_set = train_and_test_sets(DataConfig(data="npz", data_dir=tmp_path / "toy.npz"))
    assert len(train_set) + len(test_set) == 60 and len(test_set) > 0
    images = [part.batch(np.arange(len(part)))[0] for part in (train_set, test_set)]
    seen = {image.tobytes() for image in images[0]}
    assert not any(image.tobytes() in seen for image in images[1])


def test_scenes_are_judged_by_images_that_training_never_draws(monkeypatch):
    monkeypatch.setattr(scenes, "_AHEAD", 8)  # more are not looked at
    with backend.using("numpy"):
        config = DataConfig(size=(16,))
        train_set, test_set = train_and_test_sets(config)
        training = open_data(config, "train", 0)
        assert train_set.endless and not test_set.endless and len(test_set) == 10_000
        parts = [dataset.batch(np.arange(8))[0] for dataset in (training, train_set, test_set)]
        bytes_ = [image.tobytes() for part in parts for image in part]
        assert len(set(bytes_)) == 24
        np.testing.assert_array_equal(test_set.batch(np.array([5]))[0], train_set.batch(np.array([TEST_FIRST + 5]))[0])
        assert (test_set.name, test_set.height, test_set.width, test_set.channels) == ("scenes", 16, 16, 3)
        assert test_set.classes == train_set.classes


def test_a_subset_counts_from_its_first_image():
    data = toy_images.make(9)
    subset = Subset(data, first=3, count=4)
    images, labels = subset.batch(np.array([0, 3]))
    np.testing.assert_array_equal(images, data.images[[3, 6]])
    np.testing.assert_array_equal(labels, [0, 0])
    assert len(subset) == 4


def test_images_without_labels(tmp_path):
    np.savez(tmp_path / "bare.npz", images=toy_images.make(20).images)
    expected = "bare.npz: these images have no labels, and evaluation asks whether a sample shows its label"
    with pytest.raises(MinidiffError, match=re.escape(expected)):
        train_and_test_sets(DataConfig(data="npz", data_dir=tmp_path / "bare.npz"))
