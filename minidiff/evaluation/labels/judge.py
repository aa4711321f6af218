"""A checkpoint before its judges: everything that evaluation measures, for one model and one kind of images.

Idea: three questions that no single number answers.  Does a sample show what was asked for?  A classifier reads it.
Are the samples as good and as varied as real images?  The Fréchet distance of their features says, beside that of
real images to real ones.  Has the network learnt to denoise, or its images by heart?  The loss on held-out ones.
After cache.py.  Leaves out how the answers are shown: report.py.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidiff import random
from minidiff.data.dataset import Numbered
from minidiff.diffusion.clipping import Clip
from minidiff.diffusion.solvers import SamplerName
from minidiff.diffusion.timesteps import Spacing
from minidiff.errors import MinidiffError
from minidiff.evaluation.cache import Kept
from minidiff.evaluation.heldout import TRIPLES, HeldOutLoss, held_out_loss
from minidiff.evaluation.labels.classifier import count_right, read
from minidiff.evaluation.metrics.frechet import deviation, frechet_distance
from minidiff.evaluation.metrics.kid import kid, kid_deviation
from minidiff.evaluation.metrics.nearest import MOST, nearest
from minidiff.evaluation.metrics.precision_recall import NEIGHBOURS, precision_recall
from minidiff.evaluation.split import Part
from minidiff.images.files import to_uint8
from minidiff.limits import check_limits
from minidiff.pipeline.pipeline import Pipeline
from minidiff.random import Key, Stream


@dataclass(frozen=True)
class Drawing:
    """How the samples are drawn; their labels go round all labels of the data."""

    count: int = 1000
    """Number of samples."""
    sampler: SamplerName = "ddim"
    """The way from noise to image, as `python -m minidiff.sample --help` tells."""
    steps: int | None = None
    """Steps from noise to image, as `python -m minidiff.sample --help` tells."""
    spacing: Spacing = "trailing"
    """Where the steps lie, as `python -m minidiff.sample --help` tells."""
    eta: float = 0.0
    """Fresh noise in ddim, from 0, none, to 1, as much as ddpm."""
    guidance_scale: float = 3.0
    """How hard the label pulls; 1 is as learnt."""
    clip: Clip = "clip"
    """What becomes of guesses outside the range of images: cut off, scaled into it (dynamic), or left (none)."""
    seed: int = 0
    """Names all randomness: the samples' noise, and which held-out images and noise the loss is taken on."""
    batch: int = 64
    """Images drawn at once; fewer need less memory."""


@dataclass(frozen=True)
class Frechet:
    """Fréchet distances between n and n images, each with its jackknife's standard deviation.

    samples: of samples to real images.  real: of other real images to the same ones; no samples of this many
    images can be expected to come closer.
    """

    n: int
    samples: tuple[float, float]
    real: tuple[float, float]


@dataclass(frozen=True)
class Likeness:
    """Between n samples and n real images, each beside what n other real images have.

    kid: distances, with deviations.  precision, recall: shares.  nearest: the median distance to the nearest training
    image, None where training never sees an image twice.
    """

    kid: tuple[tuple[float, float], tuple[float, float]]
    precision: tuple[float, float]
    recall: tuple[float, float]
    nearest: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the judges found.

    classifier_right: of the `exam` held-out images, how many the classifier reads as they are labelled.
    samples: (N, H, W, C) uint8.  asked, read: (N,) int64, the label each was to show, and what the classifier sees.
    frechet: None where there are not even four held-out images, likeness: eight.  seconds: what took how long.
    """

    classifier_right: int
    exam: int
    samples: np.ndarray
    asked: np.ndarray
    read: np.ndarray
    frechet: Frechet | None
    likeness: Likeness | None
    loss: HeldOutLoss
    seconds: dict[str, float]


def check(model: Pipeline, exam: Numbered, drawing: Drawing) -> None:
    """Raise MinidiffError for whatever cannot be judged, before anything takes time."""
    check_limits(vars(drawing), "--{}")
    if drawing.count < 2:
        raise MinidiffError(f"--count must be 2 or more, as distances need a variance, got {drawing.count}")
    theirs, ours = model.shape, (exam.height, exam.width, exam.channels)
    if theirs != ours:
        raise MinidiffError(f"{model.path} draws images of {_size(theirs)}; those of {exam.name} have {_size(ours)}")
    if model.classes != exam.classes:
        theirs_, ours_ = (f"{len(names)} ({_few(names)})" for names in (model.classes, exam.classes))
        raise MinidiffError(f"{model.path} was trained on other labels: it has {theirs_}, {exam.name} has {ours_}")
    _steps(model, drawing, 0, 1)  # checks its settings at once, and draws nothing before it is asked to


def judge(
    model: Pipeline,
    kept: Kept,
    exam: Numbered,
    drawing: Drawing,
    tell: Callable[[int], Any] = lambda done: None,
    study: Numbered | None = None,
) -> Verdict:
    """Examine the classifier, take the held-out loss, draw the samples, and have them read and compared.

    exam: the held-out images, finite.  study: those that the model was trained on, to look for copies.
    tell: called after each sampling step with the number of images it moved.
    """
    seconds: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        seconds[name], clock = now - clock, now

    right = count_right(kept.model, exam)
    lap("exam")
    loss = held_out_loss(model.model, model.process, exam, drawing.seed, TRIPLES)
    lap("held_out_loss")
    samples = draw(model, drawing, tell)
    lap("samples")
    seen, features = read(kept.model, samples)
    real = real_features(kept, len(features), exam, drawing.seed)
    frechet, likeness = compare(features, real), liken(kept, features, real, study)
    lap("comparison")
    asked = model.labels(drawing.count)
    assert asked is not None  # check
    return Verdict(right, len(exam), samples, asked, seen, frechet, likeness, loss, seconds)


def draw(model: Pipeline, drawing: Drawing, tell: Callable[[int], Any] = lambda done: None) -> np.ndarray:
    """Draw the samples: (count, H, W, C) uint8."""
    parts = []
    for first in range(0, drawing.count, drawing.batch):
        count = min(drawing.batch, drawing.count - first)
        for step in _steps(model, drawing, first, count):
            x = step.x_prev
            tell(count)
        parts.append(to_uint8(x))
    return np.concatenate(parts)


def real_features(kept: Kept, samples: int, exam: Numbered, seed: int) -> np.ndarray:
    """Return the features of 2 n held-out images: (2 n, D).

    n is the number of samples, or half of the held-out images where these are fewer: all sets that are compared have
    the same size, since distances shrink as they grow.
    """
    n = min(samples, len(exam) // 2)
    chosen = random.permutation(Key(seed, Stream.EVALUATE, Part.REAL, 0), len(exam))[: 2 * n]
    return read(kept.model, exam.batch(chosen)[0])[1] if n else np.zeros((0, 1))


def compare(features: np.ndarray, real: np.ndarray) -> Frechet | None:
    """Return the distance of the samples' features (N, D) to the first half of real ones, and that of both halves."""
    n = len(real) // 2
    if n < 2:
        return None
    pairs = ((features[:n], real[:n]), (real[n:], real[:n]))
    samples, floor = ((frechet_distance(a, b), deviation(a, b)) for a, b in pairs)
    return Frechet(n, samples, floor)


def liken(kept: Kept, features: np.ndarray, real: np.ndarray, study: Numbered | None) -> Likeness | None:
    """Return how like real images the samples are, by features as in `compare`."""
    n = len(real) // 2
    if n <= NEIGHBOURS:
        return None
    sets = features[:n], real[n:]
    shares = [precision_recall(each, real[:n]) for each in sets]
    found = None
    if study is not None and not study.endless:
        training = read(kept.model, study.batch(np.arange(min(len(study), MOST)))[0])[1]
        samples, others = (float(np.median(nearest(each, training))) for each in sets)
        found = samples, others
    distances, (ours, theirs) = [(kid(each, real[:n]), kid_deviation(each, real[:n])) for each in sets], shares
    return Likeness((distances[0], distances[1]), (ours[0], theirs[0]), (ours[1], theirs[1]), found)


def _steps(model: Pipeline, drawing: Drawing, first: int, count: int) -> Any:
    return model.generate(
        count,
        sampler=drawing.sampler,
        steps=drawing.steps,
        spacing=drawing.spacing,
        eta=drawing.eta,
        guidance_scale=drawing.guidance_scale,
        clip=drawing.clip,
        seed=drawing.seed,
        first=first,
    )


def _size(shape: tuple[int, int, int]) -> str:
    height, width, channels = shape
    return f"{height}×{width} in {'grey' if channels == 1 else 'colour'}"


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "") if names else "none"
