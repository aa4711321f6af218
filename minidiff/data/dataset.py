"""What a source of pictures is, and in which order training sees them.

A dataset is a function from numbers to pictures. Training asks for numbers, and the numbers of step s are a pure
function of the seed and s: a resumed run meets the same pictures in the same order, and no state is saved for it.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np

from minidiff.conditioning.words import Vocabulary
from minidiff.errors import MinidiffError
from minidiff.random import Key, Stream, permutation

KEYS = 1 << 32  # that a random key has for steps, and for pictures

Split = Literal["train", "test"]
HELD_OUT = 10


class Dataset(Protocol):
    """Pictures by number.

    classes: the names of the labels 0, 1, ...; () if there are none.
    vocabulary: of captions, where the pictures have them; then labels are captions, rows of L numbers of words.
    endless: every number in [0, 2**32) is another picture (and len() has no meaning); else 0 ... len() - 1 are.
    """

    @property
    def name(self) -> str: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def vocabulary(self) -> Vocabulary | None: ...
    @property
    def endless(self) -> bool: ...

    def __len__(self) -> int: ...

    def batch(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the pictures of these numbers: (N, H, W, C) uint8, and their labels, (N,) or (N, L) int64 or None."""
        ...


@dataclass(frozen=True, eq=False)
class Pictures:
    """A dataset held in memory: images (N, H, W, C) uint8 with C 1 or 3, labels (N,) or (N, L) int64 or None.

    parts: (N, L) int64, in which part of its caption each word stands, if training may leave out parts of them.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    vocabulary: Vocabulary | None = None
    endless: bool = False
    parts: np.ndarray | None = None

    def __post_init__(self) -> None:
        shape, labels = self.images.shape, self.labels
        if self.images.dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3):
            raise ValueError(f"Pictures: images must be (N, H, W, 1 or 3) uint8, got {shape} {self.images.dtype}")
        if 0 in shape:
            raise MinidiffError(f"{self.name}: no pictures (an array of shape {shape})")
        if (labels is None) != (not self.classes and self.vocabulary is None):
            raise ValueError("Pictures: labels come with classes or with a vocabulary, or not at all")
        expected: tuple[int, ...] = shape[:1]
        numbers = len(self.classes)
        if self.vocabulary is not None:
            expected, numbers = (shape[0], self.vocabulary.length), len(self.vocabulary)
        if labels is not None and (labels.shape != expected or labels.dtype != np.int64):
            raise ValueError(f"Pictures: labels must be {expected} int64, got {labels.shape} {labels.dtype}")
        if labels is not None and not 0 <= labels.min() <= labels.max() < numbers:
            raise MinidiffError(f"{self.name}: labels must be 0 to {numbers - 1}, got {labels.min()} to {labels.max()}")

    @property
    def height(self) -> int:
        return self.images.shape[1]

    @property
    def width(self) -> int:
        return self.images.shape[2]

    @property
    def channels(self) -> int:
        return self.images.shape[3]

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return copies of the pictures of these numbers, (N, H, W, C), and their labels, (N,) or (N, L) or None."""
        return self.images[index], None if self.labels is None else self.labels[index]


def order(dataset: Dataset, seed: int, step: int, batch: int) -> np.ndarray:
    """Return the numbers of the pictures of one training step, (batch,) int64.

    Picture i of step s stands at place s batch + i of one long sequence. A finite dataset's sequence is epoch
    after epoch, each a permutation of its own; a batch may reach over the border, so no picture is dropped.
    An endless dataset's sequence is 0, 1, 2, ...: its pictures are random as they are.  After 2^32 of them, or so many
    epochs, which is as far as keys count, they begin again.
    """
    if step < 0 or batch < 1:
        raise ValueError(f"order: step must be at least 0 and batch at least 1, got {step} and {batch}")
    place = step * batch + np.arange(batch, dtype=np.int64)
    if dataset.endless:
        return place % KEYS
    n = len(dataset)
    epochs = place // n
    result = np.empty(batch, np.int64)
    for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
        inside = epochs == epoch
        result[inside] = _permutation(seed, epoch % KEYS, n)[place[inside] % n]
    return result


@lru_cache(maxsize=2)  # an epoch has many steps, and a batch may lie in two epochs
def _permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    return permutation(Key(seed, Stream.ORDER, epoch, 0), n)


def hold_out(pictures: Pictures, split: Split) -> Pictures:
    """Return the training or the test part of pictures that have no published split: every tenth is for testing.

    Test: numbers 9, 19, 29, ...; they are the same whatever the seed, so that no run ever trains on them.
    """
    number = np.arange(len(pictures))
    chosen = (number % HELD_OUT == HELD_OUT - 1) == (split == "test")
    if not chosen.any():
        raise MinidiffError(
            f"{pictures.name}: every tenth picture is held out for testing, so at least 10 are needed; "
            f"there are {len(pictures)}"
        )
    labels, parts = (None if each is None else each[chosen] for each in (pictures.labels, pictures.parts))
    return replace(pictures, images=pictures.images[chosen], labels=labels, parts=parts)
