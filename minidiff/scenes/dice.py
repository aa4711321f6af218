"""Random numbers for scenes: each image has a row of uniform numbers, and each call takes the next number of every row.

Idea: the key (seed, SCENE, part, k) determines the random numbers of image k.  They depend neither on the batch nor on
the order in which images are drawn.  Each part of a scene has a key of its own, so a change to how the sky is drawn
does not change the subjects.  The test split has other keys than training.
Leaves out how the numbers are computed: minidiff/random.py.

The same seed gives the same bytes on every machine, because everything from here to the finished image uses only
+ - * / and square roots.  IEEE 754 defines how these are rounded; it does not define this for sines and exponentials.
"""

from enum import IntEnum

import numpy as np

from minidiff import random


class Part(IntEnum):
    """The part of a scene that a random number belongs to: the `step` of its key."""

    FACTORS = 0
    SKY = 1
    PLACE = 2
    SUBJECT = 3
    WEATHER = 4
    CAPTION = 5
    STYLE = 6


_TEST = 16  # added to the part for split "test", whose numbers, and so its images, are never those of training


class Dice:
    """Uniform random numbers for N images; every call takes the next column."""

    def __init__(self, numbers: np.ndarray):
        self._numbers = numbers  # (N, columns) float32 in [0, 1)
        self._next = 0

    @classmethod
    def roll(cls, seed: int, split: str, part: Part, sample: np.ndarray, columns: int) -> "Dice":
        """Return the dice of the images numbered `sample`, int64 (N,)."""
        step = int(part) + (_TEST if split == "test" else 0)
        return cls(random.uniform(random.Key(seed, random.Stream.SCENE, step, sample), columns))

    def of(self, images: np.ndarray) -> "Dice":
        """Return the dice of some of the images, starting again at the first column."""
        return Dice(self._numbers[images])

    def rows(self) -> list[list[float]]:
        """Return all numbers as a list for each image, for code that handles one image at a time."""
        return self._numbers.tolist()

    def uniform(self, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """Return a uniform number in [low, high) for each image: (N,) float32."""
        column = self._numbers[:, self._next]
        self._next += 1
        return np.float32(low) + np.float32(high - low) * column

    def bernoulli(self, probability: float) -> np.ndarray:
        """Return for each image True with the given probability: (N,) bool."""
        return self.uniform() < probability

    def integers(self, count: int) -> np.ndarray:
        """Return for each image one of 0 … count - 1 with equal probabilities: (N,) int64."""
        return np.minimum((self.uniform() * np.float32(count)).astype(np.int64), count - 1)

    def categorical(self, weights: tuple[float, ...]) -> np.ndarray:
        """Return for each image an index into weights, with probabilities proportional to them: (N,) int64."""
        ends = np.cumsum(np.array(weights) / sum(weights))[:-1].astype(np.float32)
        return np.searchsorted(ends, self.uniform(), side="right")
