"""A judge of facts: one network that says which subject, place, season, hour, style and colour a scene shows.

Idea: an image is described once, and one linear layer a fact reads its answer off the description.  What an image
does not show is not asked, neither in training nor in judging: there is no season at sea, and no colour on a tree.
After classifier.py.  Leaves out prompts: prompts.py.

It learns from drawn scenes of split "test", in which rare values are made frequent and all pairs occur, so that it can
judge what the diffusion model has never seen.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from minidiff import backend, ops, random
from minidiff.autograd import Tensor, no_grad
from minidiff.checkpoint.config import OptimizerConfig
from minidiff.evaluation.labels.classifier import GROUPS, SMALLEST, Level, TrainConfig, shifted
from minidiff.evaluation.split import Part
from minidiff.images.files import to_float
from minidiff.nn import Conv2d, GroupNorm, Linear, Module
from minidiff.nn.flat_parameters import FlatParameters
from minidiff.random import Key, Stream
from minidiff.scenes import factors as f
from minidiff.scenes.factors import Factors
from minidiff.scenes.scenes import draw
from minidiff.training.optimizer import ema_decay, gradient_norm, learning_rate, update

VALUES = {
    "subject": f.SUBJECTS,
    "colour": f.COLOURS,
    "place": f.PLACES,
    "season": f.SEASONS,
    "time": f.TIMES,
    "weather": f.WEATHERS,
    "style": f.STYLES,
    "count": ("one", "two", "three"),
    "size": f.SIZES,
    "position": f.POSITIONS,
}
WIDTHS = (24, 48, 96, 128)
STEPS = 1200
EXAM_FIRST, EXAM = 1 << 28, 4000  # the numbers of the scenes that judges are examined on
OPTIMIZER = OptimizerConfig(lr=6e-3, warmup=100, beta2=0.99, weight_decay=0.05, clip=1.0, ema=0.99)


def answers(factors: Factors) -> dict[str, np.ndarray]:
    """Return the number of each fact's value in VALUES: fact -> (N,) int64."""
    return {fact: getattr(factors, fact) - (1 if fact == "count" else 0) for fact in VALUES}


def visible(factors: Factors) -> dict[str, np.ndarray]:
    """Return on which images each fact can be seen: fact -> (N,) bool."""
    some = factors.subject != f.NOTHING
    everywhere = np.ones(len(factors), bool)
    return {
        "subject": everywhere,
        "colour": some & (factors.subject != f.TREE),  # a tree wears its season
        "place": everywhere,
        "season": (factors.place != f.SEA) & (factors.place != f.DESERT),
        "time": everywhere,
        "weather": everywhere,
        "style": everywhere,
        "count": some,
        "size": some,
        "position": some & (factors.count == 1),  # several stand in a row
    }


def varied(factors: Factors, seed: int, sample: np.ndarray) -> Factors:
    """Return the factors with what is rare made frequent: all styles, hours, colours, sizes and positions alike."""

    def whole(column: int, count: int) -> np.ndarray:
        return (numbers[:, column] * np.float32(count)).astype(np.int64)

    numbers = random.uniform(Key(seed, Stream.EVALUATE, Part.VARIED, sample), 8)
    weather = np.where(numbers[:, 4] < 0.5, whole(5, 4), factors.weather)
    changed = replace(
        factors,
        style=whole(0, len(f.STYLES)),
        time=whole(1, len(f.TIMES)),
        colour=whole(2, len(f.COLOURS)),
        count=np.where(numbers[:, 3] < 0.6, 1, np.where(numbers[:, 3] < 0.8, 2, 3)),
        weather=weather,
        size=whole(6, len(f.SIZES)),
        position=whole(7, len(f.POSITIONS)),
    )
    return f.sensible(changed)


class Attributes(Module):
    """Images (N, H, W, 3) in [-1, 1] to logits for each fact: fact -> (N, values).

    The convolutions of classifier.py; but all of the last small image is read and not its mean alone, since it
    matters here where things stand.
    """

    def __init__(self, height: int, width: int) -> None:
        levels = max(1, math.ceil(math.log2(max(height, width) / SMALLEST)))
        widths = [*WIDTHS, *[WIDTHS[-1]] * levels][: levels + 1]
        self.conv_in = Conv2d(3, widths[0])
        self.norm = GroupNorm(GROUPS, widths[0], silu=True)
        self.levels = [Level(inputs, outputs) for inputs, outputs in pairwise(widths)]
        for _ in range(levels):
            height, width = -(-height // 2), -(-width // 2)
        self.heads = [Linear(height * width * widths[-1], len(values), zero=True) for values in VALUES.values()]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.norm(self.conv_in(x))
        for level in self.levels:
            h = level(h)
        h = h.reshape((len(h.data), -1))
        return {fact: head(h) for fact, head in zip(VALUES, self.heads, strict=True)}


def train(size: int, study: TrainConfig, tell: Callable[[float], Any] = lambda loss: None) -> Attributes:
    """Train a judge on scenes of size×size pixels and return it with its averaged weights."""
    model = Attributes(size, size)
    model.initialize(study.seed)
    parameters = FlatParameters(model)
    for step in range(study.steps):
        sample = np.arange(step * study.batch, (step + 1) * study.batch)
        factors = varied(f.choose(study.seed, "test", sample), study.seed, sample)
        images = draw(factors, size, study.seed, "test", sample).image
        seen, right = visible(factors), answers(factors)
        parameters.g[:] = 0
        logits = model(Tensor(backend.to_device(shifted(to_float(images), study.seed, step))))
        loss = ops.as_tensor(np.float32(0))
        for fact in VALUES:
            asked = np.flatnonzero(seen[fact])
            if len(asked):
                loss = loss + ops.cross_entropy(ops.embedding(logits[fact], asked), right[fact][asked])
        loss.backward()
        norm, numbers = gradient_norm(parameters, [loss.data])
        lr = learning_rate(OPTIMIZER, step + 1, study.steps)
        update(parameters, OPTIMIZER, step + 1, lr, norm, ema_decay(step + 1, OPTIMIZER.ema))
        tell(*numbers)
    parameters.w[:] = parameters.ema
    return model


def read(model: Attributes, images: np.ndarray, batch: int = 250) -> dict[str, np.ndarray]:
    """Return what the judge sees on images (N, H, W, 3) uint8: fact -> (N,) int64."""
    parts = []
    with no_grad():
        for first in range(0, len(images), batch):
            logits = model(Tensor(backend.to_device(to_float(images[first : first + batch]))))
            parts.append({fact: backend.to_numpy(each.data).argmax(axis=1) for fact, each in logits.items()})
    return {fact: np.concatenate([part[fact] for part in parts]).astype(np.int64) for fact in VALUES}


def train_config_for(seed: int) -> TrainConfig:
    """Return how a judge learns; two of them, with different seeds, learn from different scenes."""
    return TrainConfig(steps=STEPS, seed=seed)


def examine(model: Attributes, size: int, seed: int = 0, count: int = EXAM) -> dict[str, tuple[int, int]]:
    """Return how many held-out scenes are read right where the fact is visible: fact -> (right, of).

    They are scenes as they come, with numbers that no judge learns from.
    """
    sample = EXAM_FIRST + np.arange(count)
    factors = f.choose(seed, "test", sample)
    found = read(model, draw(factors, size, seed, "test", sample).image)
    seen, right = visible(factors), answers(factors)
    return {fact: (int((found[fact] == right[fact])[seen[fact]].sum()), int(seen[fact].sum())) for fact in VALUES}
