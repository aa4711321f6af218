"""Evaluation of a checkpoint with class labels: everything that is measured.

Idea: three questions, which no single number answers.  Does a sample show the label that it was drawn for?  A
classifier predicts its label.  Are the samples as good and as varied as real images?  Their features are compared with
those of real images, and two sets of real images are compared in the same way, to know what can be reached.  Has the
network memorised its training images?  The loss on held-out images and the distance to the nearest training image show
that.
Leaves out how the results are shown: report.py.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidiff import random
from minidiff.data.dataset import Numbered
from minidiff.errors import MinidiffError
from minidiff.evaluation.cache import CachedClassifier
from minidiff.evaluation.heldout import TRIPLES, HeldOutLoss, held_out_loss
from minidiff.evaluation.labels.classifier import Classifier, classify, count_correct
from minidiff.evaluation.metrics.frechet import Frechet, compare_frechet
from minidiff.evaluation.metrics.kid import kid, kid_deviation
from minidiff.evaluation.metrics.nearest import MAX_TRAINING_IMAGES, nearest
from minidiff.evaluation.metrics.precision_recall import NEIGHBOURS, precision_recall
from minidiff.evaluation.samples import EvaluationSampling, generate_samples, plan_samples
from minidiff.evaluation.split import Purpose
from minidiff.limits import check_limits
from minidiff.pipeline.pipeline import Pipeline
from minidiff.random import Key, Stream


@dataclass(frozen=True)
class Likeness:
    """How alike n samples and n real images are.  Each pair holds the value of the samples and of other real images.

    kid: distances with their standard deviations.  precision, recall: shares.  nearest: median distances to the nearest
    training image; None if training never repeats an image.
    """

    kid: tuple[tuple[float, float], tuple[float, float]]
    precision: tuple[float, float]
    recall: tuple[float, float]
    nearest: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class LabelResults:
    """What was measured of a model with class labels.

    classifier_correct: for how many of the `test_count` images of the test set the classifier predicts the true label.
    samples: (N, H, W, C) uint8.  labels: (N,) int64, the labels that the samples were drawn for.
    predicted: (N,) int64, the labels that the classifier predicts for them.
    frechet: None for fewer than 2 samples or fewer than 4 held-out images.
    likeness: None for fewer than 4 samples or fewer than 8 held-out images.
    seconds: the time that each part took.
    """

    classifier_correct: int
    test_count: int
    samples: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    frechet: Frechet | None
    likeness: Likeness | None
    loss: HeldOutLoss
    seconds: dict[str, float]


def check(model: Pipeline, test_set: Numbered, sampling: EvaluationSampling) -> None:
    """Raise MinidiffError for everything that cannot be evaluated, before any work is done."""
    check_limits(vars(sampling), "--{}")
    if sampling.number < 2:
        raise MinidiffError(f"--count must be 2 or more, as distances need a variance, got {sampling.number}")
    theirs, ours = model.shape, (test_set.height, test_set.width, test_set.channels)
    if theirs != ours:
        raise MinidiffError(
            f"{model.path} draws images of {_size(theirs)}; those of {test_set.name} have {_size(ours)}"
        )
    if model.classes != test_set.classes:
        theirs_, ours_ = (f"{len(names)} ({_few(names)})" for names in (model.classes, test_set.classes))
        raise MinidiffError(f"{model.path} was trained on other labels: it has {theirs_}, {test_set.name} has {ours_}")
    plan_samples(model, sampling)  # checks the settings


def judge(
    model: Pipeline,
    classifier: CachedClassifier,
    test_set: Numbered,
    sampling: EvaluationSampling,
    on_step: Callable[[int], Any] = lambda images: None,
    train_set: Numbered | None = None,
) -> LabelResults:
    """Test the classifier, take the held-out loss, draw the samples, classify them and compare them with real images.

    test_set: held-out images, finite.  train_set: the images that the model was trained on, to search for copies.
    on_step: called after each sampling step with the number of images in the batch.
    """
    network: Classifier = classifier.model
    seconds: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        seconds[name], clock = now - clock, now

    correct = count_correct(network, test_set)
    lap("classifier_test")
    loss = held_out_loss(model.model, model.process, test_set, sampling.seed, TRIPLES, space=model.space)
    lap("held_out_loss")
    samples = generate_samples(model, sampling, on_step=on_step)
    lap("samples")
    predicted, features = classify(network, samples)
    real = real_features(network, len(features), test_set, sampling.seed)
    frechet = compare_frechet(features, real)
    likeness = compare_likeness(network, features, real, train_set)
    lap("comparison")
    labels = model.labels(sampling.number)
    assert labels is not None  # `check` saw that the model has classes
    return LabelResults(correct, len(test_set), samples, labels, predicted, frechet, likeness, loss, seconds)


def real_features(classifier: Classifier, samples: int, test_set: Numbered, seed: int) -> np.ndarray:
    """Return the features of 2 n held-out images: (2 n, D).

    n is the number of samples, but at most half of the held-out images.  All sets that are compared have n images,
    because distances depend on the size of the sets.
    """
    n = min(samples, len(test_set) // 2)
    chosen = random.permutation(Key(seed, Stream.EVALUATE, Purpose.REAL, 0), len(test_set))[: 2 * n]
    return classify(classifier, test_set.batch(chosen)[0])[1] if n else np.zeros((0, 1))


def compare_likeness(
    classifier: Classifier, features: np.ndarray, real: np.ndarray, train_set: Numbered | None
) -> Likeness | None:
    """Compare samples with real images by KID, precision, recall and copies; None if there are fewer than 4 of either.

    Precision and recall need the third neighbour of every image.  features, real: as in `compare_frechet`.
    """
    n = len(real) // 2
    if n <= NEIGHBOURS:
        return None
    samples, others, real = features[:n], real[n:], real[:n]
    distances = None
    if train_set is not None and not train_set.endless:
        known = train_set.batch(np.arange(min(len(train_set), MAX_TRAINING_IMAGES)))[0]
        training = classify(classifier, known)[1]
        from_samples, from_others = (float(np.median(nearest(each, training))) for each in (samples, others))
        distances = from_samples, from_others
    kid_samples, kid_others = ((kid(each, real), kid_deviation(each, real)) for each in (samples, others))
    (precision, recall), (precision_others, recall_others) = (
        precision_recall(each, real) for each in (samples, others)
    )
    return Likeness((kid_samples, kid_others), (precision, precision_others), (recall, recall_others), distances)


def _size(shape: tuple[int, int, int]) -> str:
    height, width, channels = shape
    return f"{height}×{width} in {'grey' if channels == 1 else 'colour'}"


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "") if names else "none"
