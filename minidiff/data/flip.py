"""Mirrored images, and their captions: what was on the left is on the right.

Idea: mirroring doubles the data, but makes a caption that names a side false.  So the words for sides are exchanged in
the captions of mirrored images.  An image whose caption or class has no mirrored counterpart in the vocabulary or among
the classes is not mirrored.
`TrainingData.batch` in training_data.py draws at random which images are flipped; the trainer
only passes the setting on.
Leaves out languages other than English, and data that must not be mirrored: digits and letters.
"""

from functools import lru_cache

import numpy as np

from minidiff.data.dataset import Dataset
from minidiff.nn.tokenizer import split

SIDES = {f"left{ending}": f"right{ending}" for ending in ("", "most", "hand", "ward", "wards")}
SIDES |= {right: left for left, right in SIDES.items()}


def flipped_labels(
    dataset: Dataset, labels: np.ndarray | None, chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return which of the chosen images, (N,) bool, can be mirrored, and the labels of a batch with these mirrored."""
    if labels is None:
        return chosen, None
    words = dataset.tokenizer.words if dataset.tokenizer else ()
    other = (_other_words(words) if words else _other_classes(dataset.classes))[labels]  # (N,) or (N, L)
    chosen = chosen & (other >= 0).reshape(len(labels), -1).all(1)
    return chosen, np.where(chosen.reshape(-1, *[1] * (labels.ndim - 1)), other, labels)


def flipped(images: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return images (N, H, W, C) with the chosen ones, (N,) bool, mirrored."""
    images = images.copy()
    images[chosen] = images[chosen, :, ::-1]
    return images


@lru_cache(maxsize=2)
def _other_words(words: tuple[str, ...]) -> np.ndarray:
    """Return the token of each token's mirrored word, -1 if there is none: (1 + words,) int64."""
    number = {word: i for i, word in enumerate(words, 1)}
    return np.array([0] + [number.get(SIDES.get(word, word), -1) for word in words], np.int64)


@lru_cache(maxsize=2)
def _other_classes(classes: tuple[str, ...]) -> np.ndarray:
    """Return the label of each class's mirrored name, -1 if there is none: (classes,) int64."""
    said = [tuple(split(name)) for name in classes]
    number = {words: i for i, words in reversed(list(enumerate(said)))}
    other = []
    for i, words in enumerate(said):
        seen = tuple(SIDES.get(word, word) for word in words)
        other.append(i if seen == words else number.get(seen, -1))
    return np.array(other, np.int64)
