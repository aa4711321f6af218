"""The chance in a scene: a row of uniform numbers for each image, taken one column at a time.

Idea: image number k owns the numbers of the key (seed, SCENE, part, k), whoever draws it and whatever is drawn
beside it.  Each part of a scene has numbers of its own, so that a change to the sky leaves the subjects alone.
First file of the scenes.  Leaves out how the numbers arise: minidiff/random.py.

Only + - * / and square roots are used from here to the finished image: IEEE 754 rounds them in one way on every
machine, and sines and exponentials it does not.  That is why the same seed gives the same bytes everywhere.
"""

from enum import IntEnum

import numpy as np

from minidiff import random


class Part(IntEnum):
    """What the numbers are for: the `step` of their key."""

    FACTORS = 0
    SKY = 1
    PLACE = 2
    SUBJECT = 3
    WEATHER = 4
    CAPTION = 5
    STYLE = 6


_TEST = 16  # added to the part for the test split: its numbers, and so its images, are never those of training


class Dice:
    """Uniform numbers for N images: every call takes the next column."""

    def __init__(self, numbers: np.ndarray):
        self._numbers = numbers  # (N, columns) float32 in [0, 1)
        self._next = 0

    @classmethod
    def roll(cls, seed: int, split: str, part: Part, sample: np.ndarray, columns: int) -> "Dice":
        """Return the dice of the images numbered `sample`: int64 (N,)."""
        step = int(part) + (_TEST if split == "test" else 0)
        return cls(random.uniform(random.Key(seed, random.Stream.SCENE, step, sample), columns))

    def of(self, images: np.ndarray) -> "Dice":
        """Return the dice of some of the images, as they were before the first throw."""
        return Dice(self._numbers[images])

    def rows(self) -> list[list[float]]:
        """Return all numbers, a list for each image, for what is not done to whole arrays."""
        return self._numbers.tolist()

    def uniform(self, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """Return a number in [low, high) for each image: (N,) float32."""
        column = self._numbers[:, self._next]
        self._next += 1
        return np.float32(low) + np.float32(high - low) * column

    def bernoulli(self, probability: float) -> np.ndarray:
        """Return True with the given probability: (N,) bool."""
        return self.uniform() < probability

    def integers(self, count: int) -> np.ndarray:
        """Return one of 0 … count-1, all equally likely: (N,) int64."""
        return np.minimum((self.uniform() * np.float32(count)).astype(np.int64), count - 1)

    def categorical(self, weights: tuple[float, ...]) -> np.ndarray:
        """Return an index into weights with a chance in proportion to its weight: (N,) int64."""
        ends = np.cumsum(np.array(weights) / sum(weights))[:-1].astype(np.float32)
        return np.searchsorted(ends, self.uniform(), side="right")
