"""The classifier: it learns, training is reproducible, and each image is classified independently of the others."""

import os
from pathlib import Path

import numpy as np
import pytest
import toy_images

from minidiff import backend
from minidiff.autograd import Tensor
from minidiff.data.config import DataConfig
from minidiff.data.dataset import ImageDataset
from minidiff.evaluation.convnet import TrainConfig, random_shift
from minidiff.evaluation.labels.classifier import (
    FEATURES,
    Classifier,
    classify,
    count_correct,
    make_classifier,
    train,
    train_config_for,
)
from minidiff.evaluation.split import train_and_test_sets

TRAIN_CONFIG = TrainConfig(steps=40, batch_size=48)


def test_learns(native_backend):
    """40 steps are enough for three shapes; guessing would be right for 20 of 60."""
    losses = []
    model = train(toy_images.make(300), TRAIN_CONFIG, losses.append)
    assert len(losses) == TRAIN_CONFIG.steps
    assert losses[0] == pytest.approx(np.log(3), rel=1e-5)  # the last layer starts at 0: all classes alike
    assert count_correct(model, toy_images.make(60, seed=1)) >= 57


def test_same_seed_same_weights():
    with backend.using("numpy"):
        data = toy_images.make(60)
        one, same, other = (train(data, TrainConfig(3, 16, seed)).named_parameters() for seed in (0, 0, 1))
    assert all(np.array_equal(one[name].data, same[name].data) for name in one)
    assert not np.array_equal(one["conv_in.w"].data, other["conv_in.w"].data)


def test_classifies_each_image_by_itself():
    """A prediction depends neither on the other images nor on the batch size, except for float32 rounding."""
    with backend.using("numpy"):
        data = toy_images.make(20)
        model = make_classifier(data)
        model.initialize(0)
        model.fc.w.data += np.random.default_rng(0).normal(size=model.fc.w.shape).astype(np.float32)
        labels, features = classify(model, data.images)
        in_parts = classify(model, data.images, batch_size=3)
    assert labels.shape == (20,) and labels.dtype == np.int64
    assert features.shape == (20, FEATURES) and features.dtype == np.float32
    np.testing.assert_array_equal(in_parts[0], labels)
    np.testing.assert_allclose(in_parts[1], features, rtol=1e-4, atol=1e-5)


def test_counts_correct_predictions():
    with backend.using("numpy"):
        data = toy_images.make(31)
        model = make_classifier(data)
        model.initialize(0)  # all logits are 0, so it predicts class 0 for everything
        assert count_correct(model, data, batch_size=7) == 11


@pytest.mark.parametrize("size", [(8, 8, 1), (28, 28, 1), (5, 9, 3), (33, 20, 3), (2, 2, 1)])
def test_any_size(size):
    with backend.using("numpy"):
        model = Classifier(*size, classes=4)
        model.initialize(0)
        x = Tensor(np.zeros((2, *size), np.float32))
        assert model(x).shape == (2, 4)
        assert model.features(x).shape == (2, FEATURES)


def test_shifts():
    """Every pixel of a random_shift image is one of the image, at most two away, or its border repeated."""
    x = np.arange(2 * 6 * 6, dtype=np.float32).reshape(2, 6, 6, 1).repeat(40, axis=0)
    with backend.using("numpy"):
        moved = random_shift(x, seed=0, step=3)
        again, later = random_shift(x, seed=0, step=3), random_shift(x, seed=0, step=4)
    np.testing.assert_array_equal(again, moved)
    assert not np.array_equal(later, moved)
    seen = set()
    for before, after in zip(x[..., 0], moved[..., 0]):
        places = np.clip(np.arange(6)[None, :] + np.arange(-2, 3)[:, None], 0, 5)  # (shift, pixel)
        fits = [(dy, dx) for dy in range(5) for dx in range(5) if (before[places[dy]][:, places[dx]] == after).all()]
        assert len(fits) == 1
        seen.update(fits)
    assert len(seen) > 15  # of 25; 80 draws miss each with probability 0.04


def test_how_long_to_train():
    def images(count, channels):
        return ImageDataset("p", np.zeros((count, 1, 1, channels), np.uint8), np.zeros(count, np.int64), ("a",))

    assert train_config_for(images(60_000, 1)).steps == 500
    assert train_config_for(images(50_000, 3)).steps == 1500
    assert train_config_for(images(500, 3)).steps == 150
    assert train_config_for(train_and_test_sets(DataConfig())[0]).steps == 500  # scenes


@pytest.mark.skipif("MINIDIFF_MNIST" not in os.environ, reason="set MINIDIFF_MNIST to the folder of MNIST's files")
def test_mnist():
    """The promise: 98% of MNIST's test set.  Takes half a minute on two cores."""
    train_set, test_set = train_and_test_sets(DataConfig(data="mnist", data_dir=Path(os.environ["MINIDIFF_MNIST"])))
    with backend.using("numba"):
        assert count_correct(train(train_set, train_config_for(train_set)), test_set) >= 9800


@pytest.mark.skipif("MINIDIFF_SLOW" not in os.environ, reason="set MINIDIFF_SLOW=1 to train on scenes for a minute")
def test_scenes():
    """The promise: 95% of held-out scenes."""
    train_set, test_set = train_and_test_sets(DataConfig())
    with backend.using("numba"):
        assert count_correct(train(train_set, train_config_for(train_set)), test_set) >= 9500
