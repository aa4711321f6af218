"""A small convolutional network, and the loop that trains the classifiers that are made from it.

Idea: a classifier is built from the same layers as the denoiser, and trained with the same automatic differentiation
and the same optimiser; only the network and the loss are its own.  Convolutions halve the image until it is at most
4 pixels high and wide.  Each classifier adds its own last layer: labels/classifier.py averages over the pixels of the
small image first, scenes/attributes.py reads every one of them.
Leaves out what makes a classifier state of the art: this one has to be trained in a minute.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from minidiff import random
from minidiff.autograd import Tensor
from minidiff.checkpoint.config import OptimizerConfig
from minidiff.nn import Conv2d, GroupNorm, Module
from minidiff.nn.flat_parameters import FlatParameters
from minidiff.random import Key, Stream
from minidiff.training.optimizer import ema_decay, gradient_norm, learning_rate, update

GROUPS = 8
MIN_SIZE = 4  # pixels; blocks are added until the image is at most this high and wide
SHIFT = 2  # pixels; a shift by so little does not change what an image shows

M = TypeVar("M", bound=Module)


@dataclass(frozen=True)
class TrainConfig:
    """How a classifier is trained: the number of steps, the images in a batch, the seed of all randomness."""

    steps: int
    batch_size: int = 128
    seed: int = 0


class DownBlock(Module):
    """Halve the image, then add one more convolution: (N, H, W, in) to (N, ⌈H/2⌉, ⌈W/2⌉, out)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        self.down = Conv2d(in_channels, out_channels, stride=2)
        self.norm1 = GroupNorm(GROUPS, out_channels, silu=True)
        self.conv = Conv2d(out_channels, out_channels)
        self.norm2 = GroupNorm(GROUPS, out_channels, silu=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(self.down(x))
        return h + self.norm2(self.conv(h))


class ConvNet(Module):
    """The convolutions of a classifier.

    widths: channels after the first convolution and after each `DownBlock`; one more than `down_blocks` returns.
    """

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        self.conv_in = Conv2d(in_channels, widths[0])
        self.norm = GroupNorm(GROUPS, widths[0], silu=True)
        self.levels = [DownBlock(*channels) for channels in pairwise(widths)]

    def convolve(self, x: Tensor) -> Tensor:
        """Map images (N, H, W, in_channels) to a small image of features (N, h, w, widths[-1])."""
        h = self.norm(self.conv_in(x))
        for level in self.levels:
            h = level(h)
        return h


def down_blocks(height: int, width: int) -> int:
    """Return how many times an image is halved until it is at most MIN_SIZE high and wide; at least once."""
    return max(1, math.ceil(math.log2(max(height, width) / MIN_SIZE)))


def fit(
    model: M,
    config: TrainConfig,
    optimizer: OptimizerConfig,
    loss_of_step: Callable[[int], Tensor],
    on_step: Callable[[float], Any] = lambda loss: None,
) -> M:
    """Initialise a model from config.seed, train it, and return it with its averaged weights.

    loss_of_step: takes the number of a step, from 0, and returns the loss of that step's batch, a scalar tensor.
    on_step: called after each step with its loss.
    Equal arguments give equal weights, to the bit, on one machine and backend.
    """
    model.initialize(config.seed)
    parameters = FlatParameters(model)
    for step in range(config.steps):
        parameters.g[:] = 0
        loss = loss_of_step(step)
        loss.backward()
        norm, losses = gradient_norm(parameters, [loss.data])
        lr = learning_rate(optimizer, step + 1, config.steps)
        update(parameters, optimizer, step + 1, lr, norm, ema_decay(step + 1, optimizer.ema))
        on_step(*losses)
    parameters.w[:] = parameters.ema
    return model


def random_shift(x: np.ndarray, seed: int, step: int) -> np.ndarray:
    """Shift each image (N, H, W, C) by up to SHIFT pixels in each direction and repeat its border.

    A classifier that is trained on shifted images learns shapes and not their exact positions.
    """
    n, height, width, _ = x.shape
    border = ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0))
    padded = np.pad(x, border, mode="edge")
    corners = random.integers(Key(seed, Stream.CLASSIFIER, step, np.arange(n)), 2, 2 * SHIFT + 1)  # (N, 2)
    return np.stack([padded[i, y : y + height, x : x + width] for i, (y, x) in enumerate(corners.tolist())])
