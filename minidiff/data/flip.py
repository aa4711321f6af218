"""Mirrored images, and what is then said of them: what was on the left is on the right.

Idea: to mirror an image doubles the data, but a caption that names a side becomes false.  So sides change their words
with the image; and where one side has a word and the other has none, in captions or names of classes, such an image
stays as it is.
After dataset.py.  Leaves out other languages than English, and what nobody may mirror: digits and letters.
"""

from functools import lru_cache

import numpy as np

from minidiff.data.dataset import Dataset
from minidiff.nn.tokenizer import split

SIDES = {f"left{ending}": f"right{ending}" for ending in ("", "most", "hand", "ward", "wards")}
SIDES |= {right: left for left, right in SIDES.items()}


def mirrored(
    dataset: Dataset, images: np.ndarray, labels: np.ndarray | None, chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return images and labels of a dataset's batch, those that are chosen, (N,) bool, mirrored if they can be."""
    other = None
    if labels is not None:
        words = dataset.tokenizer.words if dataset.tokenizer else ()
        other = (_other_words(words) if words else _other_classes(dataset.classes))[labels]  # (N,) or (N, L)
        chosen = chosen & (other >= 0).reshape(len(labels), -1).all(1)
    images = images.copy()
    images[chosen] = images[chosen, :, ::-1]
    if labels is None or other is None:
        return images, labels
    return images, np.where(chosen.reshape(-1, *[1] * (labels.ndim - 1)), other, labels)


@lru_cache(maxsize=2)
def _other_words(words: tuple[str, ...]) -> np.ndarray:
    """Return which number each word's number becomes in a mirror, -1 if that has no word: (1 + words,) int64."""
    number = {word: i for i, word in enumerate(words, 1)}
    return np.array([0] + [number.get(SIDES.get(word, word), -1) for word in words], np.int64)


@lru_cache(maxsize=2)
def _other_classes(classes: tuple[str, ...]) -> np.ndarray:
    """Return which label each label becomes in a mirror, -1 if there is no such class: (classes,) int64."""
    said = [tuple(split(name)) for name in classes]
    number = {words: i for i, words in reversed(list(enumerate(said)))}
    other = []
    for i, words in enumerate(said):
        seen = tuple(SIDES.get(word, word) for word in words)
        other.append(i if seen == words else number.get(seen, -1))
    return np.array(other, np.int64)
