"""Which images train the classifiers, and which images are held out from them.

Idea: a test on training images proves nothing.  A finite dataset has a training part and a test part.  The classifier
is trained on the first, like the diffusion model, and tested on the second, with which the samples are compared too.
Scenes are endless: the classifier is trained on scenes of split "test", which the diffusion model never sees, and
tested on scenes of the same split with numbers far above those that it was trained on.
An autoencoder is tested on held-out images in the same sense; it needs no labels.
`Purpose` keeps the random numbers of an evaluation apart: one value for each use.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from minidiff.data.config import DataConfig
from minidiff.data.dataset import Dataset, Numbered
from minidiff.data.open import open_data
from minidiff.errors import MinidiffError
from minidiff.random import Key, Stream, permutation

TEST_FIRST = 1 << 31  # the number of the test set's first scene; classifiers are trained on far smaller numbers
TEST_COUNT = 10_000  # as many images as in the test sets of MNIST and CIFAR-10


class Purpose(IntEnum):
    """What a random number of Stream.EVALUATE is for: the `step` of its key."""

    IMAGE = 0  # the order of the images whose loss is taken
    TIME = 1  # the timestep of each loss
    NOISE = 2  # the noise of each loss
    REAL = 3  # which real images the samples are compared with
    VARIED = 4  # the factors of the scenes that attribute classifiers are trained on


@dataclass(frozen=True)
class Subset:
    """A finite dataset: `count` images of an endless one, from number `first` on.  Attributes as in `Numbered`."""

    source: Numbered
    first: int
    count: int
    endless: bool = False

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def height(self) -> int:
        return self.source.height

    @property
    def width(self) -> int:
        return self.source.width

    @property
    def channels(self) -> int:
        return self.source.channels

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.classes

    def __len__(self) -> int:
        return self.count

    def batch(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return self.source.batch(self.first + index)


def held_out_images(config: DataConfig, count: int, seed: int) -> tuple[Dataset, np.ndarray]:
    """Return the dataset of the held-out images, and the numbers of `count` of them, or of all if there are fewer.

    seed: decides which images of a finite dataset are taken, and is that of scenes.
    Raises MinidiffError if the data cannot be read.
    """
    dataset = open_data(config, "test", seed)
    if dataset.endless:
        return dataset, TEST_FIRST + np.arange(count)
    return dataset, permutation(Key(seed, Stream.EVALUATE, Purpose.IMAGE, 0), len(dataset))[:count]


def train_and_test_sets(config: DataConfig) -> tuple[Numbered, Numbered]:
    """Return the images that a classifier is trained on, and the finite test set for it and the samples.

    Raises MinidiffError if the data cannot be read or has no labels.
    """
    if config.data == "scenes":
        held_out = open_data(config, "test")
        return held_out, Subset(held_out, TEST_FIRST, TEST_COUNT)
    train_set = open_data(config, "train")
    if not train_set.classes:
        raise MinidiffError(
            f"{config.data_dir}: these images have no labels, and evaluation asks whether a sample shows its label"
        )
    return train_set, open_data(config, "test")
