"""Which images the judges learn from, and which they are examined on.

Idea: whoever judges must not have learnt the exam by heart.  A finite collection has a training and a test part; a
classifier learns from the first and is examined on the second, which the diffusion model has not seen either.  Scenes
are endless: there the classifier learns from images that were held out from the diffusion model, and the exam is a
stretch of them that it does not come to.
After intervals.py.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from minidiff.data.config import DataConfig
from minidiff.data.dataset import Numbered
from minidiff.data.open import open_data
from minidiff.errors import MinidiffError

EXAM_FIRST = 1 << 31  # far beyond what a classifier learns from
EXAM_COUNT = 10_000  # as many as in MNIST's and CIFAR-10's


class Part(IntEnum):
    """What a random number of Stream.EVALUATE is for: the `step` of its key."""

    IMAGE = 0  # the order of the images whose loss is taken
    TIME = 1  # at which t
    NOISE = 2  # with which noise
    REAL = 3  # which real images the samples are compared with
    VARIED = 4  # which values the scenes show that judges of attributes learn from


@dataclass(frozen=True)
class Subset:
    """Finite: `count` images of an endless dataset, from number `first` on.  Fields as in `Numbered`."""

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


def train_and_test_sets(config: DataConfig) -> tuple[Numbered, Numbered]:
    """Return the images that a classifier learns from, and the finite ones that it and the samples are judged by.

    Raises MinidiffError if the data cannot be read or has no labels.
    """
    if config.data == "scenes":
        held_out = open_data(config, "test")
        return held_out, Subset(held_out, EXAM_FIRST, EXAM_COUNT)
    study = open_data(config, "train")
    if not study.classes:
        raise MinidiffError(
            f"{config.data_dir}: these images have no labels, and evaluation asks whether a sample shows its label"
        )
    return study, open_data(config, "test")
