"""Judges look at images of their own size: larger images are reduced to it.

Idea: what an image shows can be recognised in a small one, and a classifier of small images is trained in minutes where
one of large images needs an hour.  So a classifier has a size, and every image to be classified, a sample or a real
image, is reduced to that size.  Models of all sizes can then be judged by the same classifiers.  Each
pixel of the reduced image is the mean of the part of the image that it covers; where a pixel is covered in part, it
counts in part.
Leaves out enlarging: no image is judged at more pixels than it has.

Classifiers of scenes are trained on scenes rendered at that size, whose outlines are relatively thicker than those of
reduced ones.  Real renders are reduced as well, so the ceiling includes this difference.
"""

from dataclasses import dataclass

import numpy as np

from minidiff.data.dataset import Numbered
from minidiff.errors import MinidiffError
from minidiff.scenes import Scenes


def judge_size(asked: int | None, shape: tuple[int, int, int], least: int, most: int) -> tuple[int, int]:
    """Return height and width of the images that a judge looks at; their aspect ratio is about that of the model's.

    asked: the height; None for the smaller of the model's height and `most`.  shape: of the model's images.
    Raises MinidiffError unless `asked` is from `least`, or the model's height if that is less, to the model's height.
    """
    height, width, _ = shape
    size, least = min(height, most) if asked is None else asked, min(height, least)
    if not least <= size <= height:
        raise MinidiffError(f"--judge-size must be from {least} to {height}, the height of the images, got {size}")
    return size, max(1, round(width * size / height))


def reduced(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Reduce images (N, H, W, C) uint8 to (N, height, width, C) uint8; each pixel is the rounded mean of its area.

    Raises ValueError if one of the sides would grow.
    """
    n, rows, columns, channels = images.shape
    if (rows, columns) == (height, width):
        return images
    if rows < height or columns < width:
        raise ValueError(f"reduced: expected at most {rows}×{columns}, the size of the images, got {height}×{width}")
    down, across = _overlaps(rows, height), _overlaps(columns, width)
    x = down @ images.reshape(n, rows, columns * channels).astype(np.float64)  # (N, height, columns * C)
    x = across @ x.reshape(n, height, columns, channels)  # (N, height, width, C)
    return np.rint(x / (rows * columns)).astype(np.uint8)


def _overlaps(old: int, new: int) -> np.ndarray:
    """Return how much of each of `old` pixels each of `new` pixels covers, times `new`: (new, old) float64.

    A new pixel is old / new wide.  The overlaps times `new` are whole numbers, whose sums float64 holds exactly.
    """
    i, j = np.arange(new)[:, None] * old, np.arange(old) * new
    return np.maximum(np.minimum(i + old, j + new) - np.maximum(i, j), 0).astype(np.float64)


@dataclass(frozen=True)
class Reduced:
    """A dataset with its images reduced to height × width.  Attributes as in `Numbered`."""

    source: Numbered
    height: int
    width: int

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def channels(self) -> int:
        return self.source.channels

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.classes

    @property
    def endless(self) -> bool:
        return self.source.endless

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        images, labels = self.source.batch(index)
        return reduced(images, self.height, self.width), labels


def at_size(dataset: Numbered, height: int, width: int) -> Numbered:
    """Return the images that a judge of height × width is trained on: scenes rendered at this size, others reduced.

    So judges of scenes are the same for models of all sizes.
    """
    if (dataset.height, dataset.width) == (height, width):
        return dataset
    if isinstance(dataset, Scenes):
        return Scenes(height, dataset.split, dataset.seed, captions=dataset.tokenizer is not None)
    return Reduced(dataset, height, width)
