"""A classifier of scenes: one network predicts the subject, place, season, time, style and other facts of an image.

Idea: the convolutions describe an image once, and one linear layer for each fact predicts its value.  A fact that an
image cannot show is left out of training and evaluation: there is no season at sea, and a tree has no colour.
The network is trained on scenes of split "test", in which rare values are made frequent.  This split contains the pairs
that training of the diffusion model leaves out, such as a blue dog, so the network can recognise them in samples.
Leaves out prompts: prompts.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from minidiff import backend, ops, random
from minidiff.autograd import Tensor, no_grad
from minidiff.checkpoint.config import OptimizerConfig
from minidiff.evaluation.convnet import ConvNet, TrainConfig, down_blocks, fit, random_shift
from minidiff.evaluation.reduce import reduced
from minidiff.evaluation.split import Purpose
from minidiff.images.files import to_float
from minidiff.nn import Linear
from minidiff.random import Key, Stream
from minidiff.scenes import factors as f
from minidiff.scenes.factors import Factors
from minidiff.scenes.scenes import render

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
FEATURES = WIDTHS[-1]
STEPS = 1200
JUDGED_FIRST, JUDGED_COUNT = 1 << 28, 4000  # the first number, and the count, of the scenes that test the classifiers
OPTIMIZER = OptimizerConfig(lr=6e-3, warmup=100, beta2=0.99, weight_decay=0.05, clip=1.0, ema=0.99)


def targets(factors: Factors) -> dict[str, np.ndarray]:
    """Return the true value of each fact, as an index into VALUES[fact]: fact -> (N,) int64."""
    return {fact: getattr(factors, fact) - (1 if fact == "count" else 0) for fact in VALUES}


def visible(factors: Factors) -> dict[str, np.ndarray]:
    """Return which images show each fact: fact -> (N,) bool."""
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
        "position": some & (factors.count == 1),  # two or three stand in a row
    }


def varied(factors: Factors, seed: int, sample: np.ndarray) -> Factors:
    """Return the factors with rare values made frequent: styles, times, colours, sizes and positions become uniform."""

    def whole(column: int, count: int) -> np.ndarray:
        return (numbers[:, column] * np.float32(count)).astype(np.int64)

    numbers = random.uniform(Key(seed, Stream.EVALUATE, Purpose.VARIED, sample), 8)
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


class AttributeClassifier(ConvNet):
    """Images (N, H, W, 3) in [-1, 1] to the logits of each fact: fact -> (N, values).

    Unlike `Classifier` it does not average over positions, because "left" and "right" depend on them.
    """

    def __init__(self, height: int, width: int) -> None:
        self.size = height, width
        blocks = down_blocks(height, width)
        widths = [*WIDTHS, *[WIDTHS[-1]] * blocks][: blocks + 1]
        super().__init__(3, widths)
        for _ in range(blocks):
            height, width = -(-height // 2), -(-width // 2)
        self.heads = [Linear(height * width * widths[-1], len(values), zero=True) for values in VALUES.values()]

    def features(self, x: Tensor) -> Tensor:
        """Return the means over the positions of the last image, (N, FEATURES)."""
        return ops.mean(self.convolve(x), (1, 2))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.convolve(x)
        h = h.reshape((len(h.data), -1))
        return {fact: head(h) for fact, head in zip(VALUES, self.heads, strict=True)}


def train(size: int, config: TrainConfig, on_step: Callable[[float], Any] = lambda loss: None) -> AttributeClassifier:
    """Train a classifier on scenes of size × size pixels and return it with its averaged weights; see `fit`."""
    model = AttributeClassifier(size, size)

    def loss_of_step(step: int) -> Tensor:
        """Return the cross-entropy of each fact over the images that show it, summed over the facts."""
        sample = np.arange(step * config.batch_size, (step + 1) * config.batch_size)
        factors = varied(f.choose(config.seed, "test", sample), config.seed, sample)
        images = render(factors, size, config.seed, "test", sample).image
        shown, target = visible(factors), targets(factors)
        logits = model(Tensor(backend.to_device(random_shift(to_float(images), config.seed, step))))
        loss = ops.as_tensor(np.float32(0))
        for fact in VALUES:
            rows = np.flatnonzero(shown[fact])
            if len(rows):
                loss = loss + ops.cross_entropy(ops.embedding(logits[fact], rows), target[fact][rows])
        return loss

    return fit(model, config, OPTIMIZER, loss_of_step, on_step)


def classify(model: AttributeClassifier, images: np.ndarray, batch_size: int = 250) -> dict[str, np.ndarray]:
    """Return the predicted value of each fact for images (N, H, W, 3) uint8: fact -> (N,) int64.

    Images that are larger than those of the classifier are reduced.
    """
    parts = []
    with no_grad():
        for x in _batches(model, images, batch_size):
            parts.append({fact: backend.to_numpy(each.data).argmax(axis=1) for fact, each in model(x).items()})
    return {fact: np.concatenate([part[fact] for part in parts]).astype(np.int64) for fact in VALUES}


def features(model: AttributeClassifier, images: np.ndarray, batch_size: int = 250) -> np.ndarray:
    """Return the features of images (N, H, W, 3) uint8, reduced as in `classify`: (N, FEATURES) float32."""
    with no_grad():
        return np.concatenate([backend.to_numpy(model.features(x).data) for x in _batches(model, images, batch_size)])


def _batches(model: AttributeClassifier, images: np.ndarray, batch_size: int) -> Iterator[Tensor]:
    for first in range(0, len(images), batch_size):
        x = to_float(reduced(images[first : first + batch_size], *model.size))
        yield Tensor(backend.to_device(x))


def train_config_for(seed: int) -> TrainConfig:
    """Return how a classifier is trained; classifiers with different seeds are trained on different scenes."""
    return TrainConfig(steps=STEPS, seed=seed)


def count_correct(
    model: AttributeClassifier, size: int, seed: int = 0, count: int = JUDGED_COUNT
) -> dict[str, tuple[int, int]]:
    """Return for how many test scenes each fact is predicted correctly: fact -> (correct, images that show it).

    The test scenes are drawn as in training of the diffusion model; no classifier is trained on their numbers.
    """
    sample = JUDGED_FIRST + np.arange(count)
    factors = f.choose(seed, "test", sample)
    predicted = classify(model, render(factors, size, seed, "test", sample).image)
    shown, target = visible(factors), targets(factors)
    return {
        fact: (int((predicted[fact] == target[fact])[shown[fact]].sum()), int(shown[fact].sum())) for fact in VALUES
    }
