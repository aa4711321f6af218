"""What a dataset is, which images are held out for testing, and in which order training sees the others.

Idea: a dataset is a function from numbers to images.  Training asks for numbers, and the numbers of a step are a
function of the seed and the step: a resumed run sees the same images in the same order, and no state is saved for it.
A tenth of a user's images is held out.  The hash of an image decides whether it is, so adding images does not move any
other image between training and testing.
Leaves out augmentation: training_data.py.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal, Protocol

import numpy as np

from minidiff.errors import MinidiffError
from minidiff.nn.tokenizer import Tokenizer
from minidiff.random import Key, Stream, permutation

KEYS = 1 << 32  # the steps, and the images, that random keys can name

Split = Literal["train", "test"]
HELD_OUT = 10  # one image in ten is for testing
MAX_IMAGES = 1 << 24  # more could not be shuffled in memory


class Numbered(Protocol):
    """Images by number.

    classes: the names of the labels 0, 1, ...; () if there are none.
    endless: whether every number in [0, 2**32) is an image of its own; else only 0 ... len() - 1 are images.
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
    def endless(self) -> bool: ...

    def __len__(self) -> int: ...

    def batch(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the images of these numbers: (N, H, W, C) uint8, and their labels, (N,) or (N, L) int64 or None."""
        ...


class Dataset(Numbered, Protocol):
    """Images that a diffusion model learns from.

    tokenizer: of the captions, None without captions.  With it, labels are captions, rows of L tokens.
    found: a short text on how many images there are, and how many are not for training; "" for scenes.
    digest: SHA-256, hexadecimal, of the images (their files, or how scenes are drawn) and of the labels, in order.
    Training on a dataset with another digest gives other weights.
    """

    @property
    def tokenizer(self) -> Tokenizer | None: ...
    @property
    def found(self) -> str: ...
    @property
    def digest(self) -> str: ...


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """A dataset held in memory: images (N, H, W, C) uint8 with C 1 or 3, labels (N,) or (N, L) int64 or None.

    parts: (N, L) int64, the part of its caption that each word belongs to, if training may leave out parts.
    content: (N, 32) uint8, the SHA-256 of each image's file; None: the pixels are hashed instead.
    held_out, left_out: how many more images belong to the other split, and how many could not be read.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    tokenizer: Tokenizer | None = None
    endless: bool = False
    parts: np.ndarray | None = None
    content: np.ndarray | None = None
    held_out: int = 0
    left_out: int = 0

    def __post_init__(self) -> None:
        shape, labels = self.images.shape, self.labels
        if self.images.dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3):
            raise ValueError(f"ImageDataset: images must be (N, H, W, 1 or 3) uint8, got {shape} {self.images.dtype}")
        if 0 in shape:
            raise MinidiffError(f"{self.name}: no images (an array of shape {shape})")
        if shape[0] > MAX_IMAGES:
            raise MinidiffError(f"{self.name}: {shape[0]} images; at most {MAX_IMAGES} can be learnt from")
        if (labels is None) != (not self.classes and self.tokenizer is None):
            raise ValueError("ImageDataset: labels come with classes or with a tokenizer, or not at all")
        expected: tuple[int, ...] = shape[:1]
        numbers = len(self.classes)
        if self.tokenizer is not None:
            expected, numbers = (shape[0], self.tokenizer.max_tokens), len(self.tokenizer)
        if labels is not None and (labels.shape != expected or labels.dtype != np.int64):
            raise ValueError(f"ImageDataset: labels must be {expected} int64, got {labels.shape} {labels.dtype}")
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

    @property
    def found(self) -> str:
        said = [f"{len(self)} image{'s' if len(self) > 1 else ''}"]
        said += [f"{self.held_out} more held out"] if self.held_out else []
        said += [f"{self.left_out} unreadable"] if self.left_out else []
        return ", ".join(said)

    @cached_property
    def contents(self) -> np.ndarray:
        """The SHA-256 of each image, (N, 32) uint8, as `content` has it."""
        if self.content is not None:
            return self.content
        return packed(hashlib.sha256(image.tobytes()).digest() for image in self.images)

    @cached_property
    def first_with_caption(self) -> np.ndarray:
        """The number of the first image with each caption that has words: int64, sorted."""
        if self.labels is None:
            return np.zeros(0, np.int64)
        _, first = np.unique(self.labels, axis=0, return_index=True)
        return np.sort(first[self.labels[first].any(axis=1)])

    @cached_property
    def digest(self) -> str:
        words = self.tokenizer.words if self.tokenizer else ()
        sha256 = hashlib.sha256(repr((self.images.shape, self.classes, words)).encode())
        for array in (self.contents, self.labels, self.parts):
            sha256.update(b"" if array is None else array.tobytes())
        return sha256.hexdigest()

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return copies of the images of these numbers, (N, H, W, C), and their labels, (N,) or (N, L) or None."""
        return self.images[index], None if self.labels is None else self.labels[index]


def distinct_captions(dataset: Dataset, count: int) -> np.ndarray:
    """Return the numbers of up to `count` images with different captions, from everywhere in the data: int64.

    Of an endless dataset these are the first `count` images, whose captions may agree.
    """
    if not isinstance(dataset, ImageDataset):
        return np.arange(count)
    first = dataset.first_with_caption
    count = min(count, len(first))
    return first[np.arange(count) * len(first) // max(count, 1)]


def packed(digests: Iterable[bytes]) -> np.ndarray:
    """Return SHA-256s as an array (N, 32) uint8."""
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)


def order(dataset: Numbered, seed: int, step: int, batch_size: int) -> np.ndarray:
    """Return the numbers of the images of one training step, (batch_size,) int64.

    Image i of step s has place s * batch_size + i in one long sequence.  A finite dataset's sequence is one epoch after
    the other, each with a permutation of its own; a batch may contain the end of one and the start of the next, so no
    image is dropped.  An endless dataset's sequence is 0, 1, 2, ..., since its images are random already.  The sequence
    repeats after 2^32 images or epochs, the limit of random keys.
    """
    if step < 0 or batch_size < 1:
        raise ValueError(f"order: step must be at least 0 and batch_size at least 1, got {step} and {batch_size}")
    place = step * batch_size + np.arange(batch_size, dtype=np.int64)
    if dataset.endless:
        return place % KEYS
    n = len(dataset)
    epochs = place // n
    result = np.empty(batch_size, np.int64)
    for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
        inside = epochs == epoch
        result[inside] = _permutation(seed, epoch % KEYS, n)[place[inside] % n]
    return result


@lru_cache(maxsize=2)  # an epoch has many steps, and a batch may lie in two epochs
def _permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    return permutation(Key(seed, Stream.ORDER, epoch, 0), n)


def hold_out(images: ImageDataset, split: Split) -> ImageDataset:
    """Return the training or the test part of images that have no published split: a tenth is for testing.

    The hash of an image's content decides its part.  So the test images do not depend on the seed, the names and the
    other images: no run ever trains on them, copies are in one part, and adding images moves no other image from
    part to part.  Of ten or more images at least one is held out, of fewer none.
    Raises MinidiffError if the part would be empty.
    """
    number = images.contents[:, :8].copy().view(">u8")[:, 0]
    held_out = number % HELD_OUT == 0
    if not held_out.any():
        held_out = number == number.min()
    if len(images) < HELD_OUT or held_out.all():
        held_out = np.zeros(len(images), bool)
    chosen = held_out if split == "test" else ~held_out
    if not chosen.any():
        raise MinidiffError(
            f"{images.name}: a tenth of the images is held out for testing, so at least {HELD_OUT} different ones "
            f"are needed; there are {len(images)}"
        )
    part = {name: getattr(images, name) for name in ("images", "labels", "parts", "contents")}
    part = {name: None if each is None else each[chosen] for name, each in part.items()}
    part["content"] = part.pop("contents")
    return replace(images, **part, held_out=int(len(images) - chosen.sum()))
