"""Evaluation tells good samples from bad ones, for models whose samples are known."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import toy_images

from minidiff import backend
from minidiff.diffusion import Process, make_schedule
from minidiff.errors import MinidiffError
from minidiff.evaluation.cache import CachedClassifier
from minidiff.evaluation.convnet import TrainConfig
from minidiff.evaluation.labels import judge as judges
from minidiff.evaluation.labels.classifier import train
from minidiff.evaluation.labels.judge import check, judge
from minidiff.evaluation.labels.report import misread_sheet
from minidiff.evaluation.samples import EvaluationSampling
from minidiff.images.files import to_float
from minidiff.latent.space import PIXELS
from minidiff.nn import UNet, UNetConfig

TEST_SET = toy_images.make(240, seed=1)
SAMPLING = EvaluationSampling(count=90, steps=2, batch_size=32)


@pytest.fixture(scope="module", autouse=True)
def plain_backend():
    with backend.using("numpy"):
        yield


@pytest.fixture(autouse=True)
def few_triples(monkeypatch):
    monkeypatch.setattr(judges, "TRIPLES", 50)


@pytest.fixture(scope="module")
def classifier(plain_backend):
    return CachedClassifier(train(toy_images.make(300), TrainConfig(steps=60, batch_size=48)), Path("classifier"), None)


class Known:
    """A stand-in for a Pipeline: its samples are those of a function of (numbers, labels)."""

    def __init__(self, samples):
        self.samples, self.asked_for = samples, []
        self.classes, self.shape, self.path = toy_images.CLASSES, (8, 8, 3), Path("run/x.safetensors")
        self.process, self.space = Process(make_schedule("cosine"), "v"), PIXELS
        self.model = UNet(UNetConfig(8, 8, 3, model_channels=8, channel_mult=(1,), attention_at=(), heads=2, classes=3))
        self.model.initialize(0)

    def labels(self, count, label=None, first=0):
        return np.arange(first, first + count) % 3

    def prepare(self, settings, inputs):
        def steps(first, count, total):
            self.asked_for.append((count, settings))
            k = np.arange(first, first + count)
            return (SimpleNamespace(x_prev=to_float(self.samples(k, k % 3))) for _ in range(settings.steps))

        return SimpleNamespace(steps=steps, images=lambda x: x)


REAL = toy_images.make(300, seed=2)


def test_perfect_samples(classifier):
    model, moved = Known(lambda k, labels: REAL.images[k]), []
    results = judge(model, classifier, TEST_SET, SAMPLING, moved.append)
    assert results.test_count == 240 and results.classifier_correct >= 230
    assert (results.predicted == results.labels).sum() >= 85  # of 90, as good as the classifier itself
    np.testing.assert_array_equal(results.samples, REAL.images[:90])
    assert results.frechet.n == 90
    (distance, deviation), (floor, floor_deviation) = results.frechet.samples, results.frechet.real
    assert abs(distance - floor) < 3 * (deviation + floor_deviation)
    assert sum(moved) == 90 * SAMPLING.steps
    assert [count for count, _ in model.asked_for] == [32, 32, 26]
    assert all(settings is SAMPLING for _, settings in model.asked_for)


def test_samples_that_ignore_the_label(classifier):
    """Good images, wrong order: the distance sees nothing wrong, the share falls to a third."""
    results = judge(Known(lambda k, labels: REAL.images[(k * 7 + 13) // 3 % 300]), classifier, TEST_SET, SAMPLING)
    assert 0.15 < (results.predicted == results.labels).mean() < 0.55
    assert results.frechet.samples[0] < 3 * results.frechet.real[0]


def test_samples_that_are_all_alike(classifier):
    """One good image a label: all read right, but nothing varies, and the distance tells."""
    right = [int(k) for k in (0, 1, 2)]
    results = judge(Known(lambda k, labels: REAL.images[np.array(right)[labels]]), classifier, TEST_SET, SAMPLING)
    assert results.frechet.samples[0] > 3 * results.frechet.real[0]


def test_samples_that_are_noise(classifier):
    noise = np.random.default_rng(0).integers(0, 256, (90, 8, 8, 3)).astype(np.uint8)
    results = judge(Known(lambda k, labels: noise[k]), classifier, TEST_SET, SAMPLING)
    assert (results.predicted == results.labels).mean() < 0.6
    assert results.frechet.samples[0] > 5 * results.frechet.real[0]


def test_same_seed_same_verdict(classifier):
    one, same = (judge(Known(lambda k, labels: REAL.images[k]), classifier, TEST_SET, SAMPLING) for _ in range(2))
    assert one.frechet == same.frechet
    np.testing.assert_array_equal(one.loss.losses, same.loss.losses)
    np.testing.assert_array_equal(one.predicted, same.predicted)


@pytest.mark.parametrize(("images", "n"), [(20, 10), (4, 2), (3, None)])
def test_few_real_images(classifier, images, n):
    """Sets of equal size, half of the held-out images each, or no distance at all."""
    results = judge(Known(lambda k, labels: REAL.images[k]), classifier, toy_images.make(images), SAMPLING)
    assert (results.frechet and results.frechet.n) == n


def test_how_few_images_each_comparison_takes(classifier):
    """The Fréchet distance: 2 samples and 4 held-out images.  KID, precision and recall: 4 samples and 8 held-out."""
    features = np.random.default_rng(0).normal(size=(20, 64))
    for n in (1, 2, 3, 4):
        real = features[: 2 * n]
        assert (judges.compare_frechet(features[:n], real) is not None) == (n >= 2)
        assert (judges.compare_likeness(classifier.model, features[:n], real, None) is not None) == (n >= 4)
    for samples, test_images, n in ((4, 8, 4), (4, 7, 3), (3, 8, 3), (20, 9, 4)):
        test_set = toy_images.make(test_images)
        assert len(judges.real_features(classifier.model, samples, test_set, 0)) == 2 * n


def test_misread_samples_are_shown(classifier):
    results = judge(Known(lambda k, labels: REAL.images[k]), classifier, TEST_SET, SAMPLING)
    wrong = results.predicted != results.labels
    results.predicted[:] = results.labels
    assert misread_sheet(results, toy_images.CLASSES) is None
    results.predicted[4] = (results.labels[4] + 1) % 3
    sheet = misread_sheet(results, toy_images.CLASSES)
    # one tile: the sample 12 times as large within a border of 4, and a line of text below it
    np.testing.assert_array_equal(sheet[4:100:12, 4:100:12], results.samples[4])
    assert sheet.shape == (118, 104, 3) and (sheet[100:114] < 128).any()
    assert wrong.shape == (90,)


def bad(changes, expected):
    model = Known(lambda k, labels: REAL.images[k])
    sampling = SAMPLING
    for key, value in changes.items():
        if hasattr(model, key):
            setattr(model, key, value)
        else:
            sampling = EvaluationSampling(**{"count": 9, "steps": 2, key: value})
    with pytest.raises(MinidiffError, match=re.escape(expected)):
        check(model, TEST_SET, sampling)


def test_what_cannot_be_judged():
    path = Path("run/x.safetensors")
    bad({"count": 1}, "--count must be 2 or more, as distances need a variance, got 1")
    bad({"batch_size": 0}, "--batch-size must be from 1 to 1048576, got 0")
    bad({"shape": (8, 8, 1)}, f"{path} draws images of 8×8 in grey; those of toy have 8×8 in colour")
    bad({"shape": (16, 8, 3)}, f"{path} draws images of 16×8 in colour; those of toy have 8×8 in colour")
    bad(
        {"classes": ("a", "b", "c", "d", "e")},
        f"{path} was trained on other labels: it has 5 (a, b, c, d, …), toy has 3 (cat, dog, owl)",
    )
