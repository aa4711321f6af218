"""A classifier of images: a small convolutional network that predicts the label of an image.

Idea: its predictions for samples are compared with the labels that the samples were drawn for.  The input of its last
layer, the features, describes what an image shows; the distances in metrics/ compare features.
Leaves out the network's convolutions and its training loop: convnet.py.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from minidiff import backend, ops
from minidiff.autograd import Tensor, no_grad
from minidiff.checkpoint.config import OptimizerConfig
from minidiff.data.dataset import Numbered, order
from minidiff.evaluation.convnet import ConvNet, TrainConfig, down_blocks, fit, random_shift
from minidiff.evaluation.reduce import reduced
from minidiff.images.files import to_float
from minidiff.nn import Linear

FEATURES = 64  # few, so that a thousand images are enough to estimate their covariance
OPTIMIZER = OptimizerConfig(lr=8e-3, warmup=50, beta2=0.99, weight_decay=0.05, clip=1.0, ema=0.99)


def train_config_for(dataset: Numbered) -> TrainConfig:
    """Return how long to train on these images.

    500 steps are enough for grey images and for rendered scenes.  Photographs gain from 1500 steps.  A few hundred
    images are learnt after twenty epochs.
    """
    max_steps = 500 if dataset.channels == 1 or dataset.endless else 1500
    return TrainConfig(steps=max_steps if dataset.endless else min(max_steps, max(150, 20 * len(dataset) // 128)))


class Classifier(ConvNet):
    """Images (N, H, W, C) in [-1, 1] to logits (N, classes).

    Convolutions, the mean over all positions, which makes the result independent of where a thing stands, and one
    linear layer.
    """

    def __init__(self, height: int, width: int, channels: int, classes: int) -> None:
        self.size = height, width
        blocks = down_blocks(height, width)
        super().__init__(channels, [min(FEATURES, 16 << block) for block in range(blocks)] + [FEATURES])
        self.fc = Linear(FEATURES, classes, zero=True)

    def features(self, x: Tensor) -> Tensor:
        """Return the input of the last layer: (N, FEATURES)."""
        return self.convolve(x).mean(axis=(1, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x))


def make_classifier(dataset: Numbered) -> Classifier:
    """Return an untrained classifier for the images and labels of a dataset."""
    return Classifier(dataset.height, dataset.width, dataset.channels, len(dataset.classes))


def train(dataset: Numbered, config: TrainConfig, on_step: Callable[[float], Any] = lambda loss: None) -> Classifier:
    """Train a classifier on labelled images and return it with its averaged weights; see `fit`."""
    model = make_classifier(dataset)

    def loss_of_step(step: int) -> Tensor:
        images, labels = dataset.batch(order(dataset, config.seed, step, config.batch_size))
        x = backend.to_device(random_shift(to_float(images), config.seed, step))
        return ops.cross_entropy(model(Tensor(x)), labels)

    return fit(model, config, OPTIMIZER, loss_of_step, on_step)


def classify(model: Classifier, images: np.ndarray, batch_size: int = 250) -> tuple[np.ndarray, np.ndarray]:
    """Return predicted labels (N,) int64 and features (N, FEATURES) of images (N, H, W, C) uint8.

    Images that are larger than those of the classifier are reduced.
    """
    labels, features = [], []
    with no_grad():
        for first in range(0, len(images), batch_size):
            x = to_float(reduced(images[first : first + batch_size], *model.size))
            h = model.features(Tensor(backend.to_device(x)))
            features.append(backend.to_numpy(h.data))
            labels.append(backend.to_numpy(model.fc(h).data).argmax(axis=1))
    return np.concatenate(labels).astype(np.int64), np.concatenate(features)


def count_correct(model: Classifier, dataset: Numbered, batch_size: int = 250) -> int:
    """Return for how many images of a finite labelled dataset the predicted label is the true one."""
    correct = 0
    for first in range(0, len(dataset), batch_size):
        images, labels = dataset.batch(np.arange(first, min(first + batch_size, len(dataset))))
        correct += int((classify(model, images, batch_size)[0] == labels).sum())
    return correct
