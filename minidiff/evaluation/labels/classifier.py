"""A judge: a small convolutional network that says which label an image shows.

Idea: the same tape, layers and optimiser that make the denoiser make a classifier; only the last layer and the loss
differ.  What it says about samples is compared with what was asked for, and the numbers before its last layer, a
description of what is on an image, are what the Fréchet distance compares.
After heldout.py.  Leaves out what makes classifiers great; it has to be trained in a minute and to be right where
people would be.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from minidiff import backend, ops, random
from minidiff.autograd import Tensor, no_grad
from minidiff.checkpoint.config import OptimizerConfig
from minidiff.data.dataset import Numbered, order
from minidiff.images.files import to_float
from minidiff.nn import Conv2d, GroupNorm, Linear, Module
from minidiff.nn.flat_parameters import FlatParameters
from minidiff.random import Key, Stream
from minidiff.training.optimizer import ema_decay, gradient_norm, learning_rate, update

FEATURES = 64  # few, so that a thousand images are enough to estimate their covariance
GROUPS = 8
SMALLEST = 4  # levels are added until an image is at most this high and wide
SHIFT = 2  # pixels; a shifted image shows what it showed
OPTIMIZER = OptimizerConfig(lr=8e-3, warmup=50, beta2=0.99, weight_decay=0.05, clip=1.0, ema=0.99)


@dataclass(frozen=True)
class TrainConfig:
    """How a classifier is trained: updates, images an update, and what names all randomness."""

    steps: int
    batch: int = 128
    seed: int = 0


def train_config_for(dataset: Numbered) -> TrainConfig:
    """Return how long to train on such images.

    Grey ones and drawn scenes are read right after half a minute; of photographs there is always more to learn, of a
    few hundred images nothing after twenty epochs.
    """
    most = 500 if dataset.channels == 1 or dataset.endless else 1500
    return TrainConfig(steps=most if dataset.endless else min(most, max(150, 20 * len(dataset) // 128)))


class Level(Module):
    """Halve the image, then look around once more: (N, H, W, in) to (N, ⌈H/2⌉, ⌈W/2⌉, out)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.down = Conv2d(inputs, outputs, stride=2)
        self.norm1 = GroupNorm(GROUPS, outputs, silu=True)
        self.conv = Conv2d(outputs, outputs)
        self.norm2 = GroupNorm(GROUPS, outputs, silu=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(self.down(x))
        return h + self.norm2(self.conv(h))


class Classifier(Module):
    """Images (N, H, W, C) in [-1, 1] to one number a class, the logits (N, classes).

    Convolutions over ever smaller images, the mean over what is left, which does not care where a thing stands, and
    one linear layer.
    """

    def __init__(self, height: int, width: int, channels: int, classes: int) -> None:
        levels = max(1, math.ceil(math.log2(max(height, width) / SMALLEST)))
        widths = [min(FEATURES, 16 << level) for level in range(levels)] + [FEATURES]
        self.conv_in = Conv2d(channels, widths[0])
        self.norm = GroupNorm(GROUPS, widths[0], silu=True)
        self.levels = [Level(inputs, outputs) for inputs, outputs in pairwise(widths)]
        self.fc = Linear(FEATURES, classes, zero=True)

    def features(self, x: Tensor) -> Tensor:
        """Return what the last layer sees: (N, FEATURES)."""
        h = self.norm(self.conv_in(x))
        for level in self.levels:
            h = level(h)
        return h.mean(axis=(1, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x))


def make_classifier(dataset: Numbered) -> Classifier:
    """Return an untrained classifier for such images and labels."""
    return Classifier(dataset.height, dataset.width, dataset.channels, len(dataset.classes))


def train(dataset: Numbered, study: TrainConfig, tell: Callable[[float], Any] = lambda loss: None) -> Classifier:
    """Train a classifier on labelled images and return it with its averaged weights.

    tell: called after each step with its loss, for a progress bar.
    Everything random comes from study.seed: the same on the same machine and backend.
    """
    model = make_classifier(dataset)
    model.initialize(study.seed)
    parameters = FlatParameters(model)
    for step in range(study.steps):
        images, labels = dataset.batch(order(dataset, study.seed, step, study.batch))
        parameters.g[:] = 0
        seen = backend.to_device(shifted(to_float(images), study.seed, step))
        loss = ops.cross_entropy(model(Tensor(seen)), labels)
        loss.backward()
        norm, numbers = gradient_norm(parameters, [loss.data])
        lr = learning_rate(OPTIMIZER, step + 1, study.steps)
        decay = ema_decay(step + 1, OPTIMIZER.ema)
        update(parameters, OPTIMIZER, step + 1, lr, norm, decay)
        tell(*numbers)
    parameters.w[:] = parameters.ema
    return model


def shifted(x: np.ndarray, seed: int, step: int) -> np.ndarray:
    """Move each image (N, H, W, C) by up to SHIFT pixels either way, border repeated: shapes count, not places."""
    n, height, width, _ = x.shape
    edge = ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0))
    padded = np.pad(x, edge, mode="edge")
    corners = random.integers(Key(seed, Stream.CLASSIFIER, step, np.arange(n)), 2, 2 * SHIFT + 1)  # (N, 2)
    return np.stack([padded[i, y : y + height, x : x + width] for i, (y, x) in enumerate(corners.tolist())])


def read(model: Classifier, images: np.ndarray, batch: int = 250) -> tuple[np.ndarray, np.ndarray]:
    """Return what the classifier sees on images (N, H, W, C) uint8: labels (N,) int64, features (N, FEATURES)."""
    labels, features = [], []
    with no_grad():
        for first in range(0, len(images), batch):
            described = model.features(Tensor(backend.to_device(to_float(images[first : first + batch]))))
            features.append(backend.to_numpy(described.data))
            labels.append(backend.to_numpy(model.fc(described).data).argmax(axis=1))
    return np.concatenate(labels).astype(np.int64), np.concatenate(features)


def count_right(model: Classifier, dataset: Numbered, batch: int = 250) -> int:
    """Return how many images of a finite labelled dataset the classifier names right."""
    right = 0
    for first in range(0, len(dataset), batch):
        images, labels = dataset.batch(np.arange(first, min(first + batch, len(dataset))))
        right += int((read(model, images, batch)[0] == labels).sum())
    return right
