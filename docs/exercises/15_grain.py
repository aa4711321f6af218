"""Exercise 15: film grain that can be repeated.

Training images are to look like old photographs. Each gets grain with probability one half. Grain is standard normal
noise, one number for each pixel value, times a strength; the strength is drawn for the image, uniformly from 0 to 0.2.

Write `with_grain`. What an image gets depends on (seed, step, sample) and on nothing else:

- an image gets the same grain alone, in any batch and in any order;
- another seed, another step or another sample has other grain, of another strength, in other images;
- nothing that is drawn tells anything about anything else that is drawn, here or elsewhere in minidiff.

Hint: the stream of a key may be any integer up to 2**32 - 1. minidiff/random.py lists the streams that have a use.
"""

import sys
from typing import NamedTuple

import numpy as np
from checking import expect, report

from minidiff import backend
from minidiff.random import Key, Stream, normal, uniform

N, SHAPE = 1000, (8, 8, 1)
SAMPLE = np.arange(N)


def with_grain(images: np.ndarray, seed: int, step: int, sample: np.ndarray) -> np.ndarray:
    """images: (N, H, W, C) float32. sample: (N,) int64, the number of each. Returns new images of the same shape."""
    raise NotImplementedError


def check() -> None:
    """Raise an error that says what is missing, unless `with_grain` is right."""
    with backend.using("numpy"):
        check_each_image_by_itself()
        drawn = find(0, 3, SAMPLE)
        check_amounts(drawn)
        for what, other in (("seed", (1, 3, SAMPLE)), ("step", (0, 4, SAMPLE)), ("sample", (0, 3, SAMPLE + N))):
            check_unlike(drawn, find(*other), f"another {what}")
        check_nobody_elses(drawn)


def check_each_image_by_itself() -> None:
    images = np.random.default_rng(0).uniform(-1, 1, (20, *SHAPE)).astype(np.float32)
    before, sample = images.copy(), SAMPLE[100:120]
    whole = with_grain(images, 0, 3, sample)
    expect(np.shape(whole) == images.shape, f"the result has shape {np.shape(whole)}, expected {images.shape}")
    expect(np.array_equal(images, before), "the images that came in were changed in place")
    for i in range(20):
        alone = with_grain(images[i : i + 1], 0, 3, sample[i : i + 1])
        expect(np.array_equal(alone[0], whole[i]), f"image {sample[i]} is not the same alone and in a batch")
    backwards = with_grain(images[::-1], 0, 3, sample[::-1])
    expect(np.array_equal(backwards[::-1], whole), "images are not the same in another order")


class Drawn(NamedTuple):
    """What was drawn: whether an image has grain (N,), its strength (N,), its noise (N, 64); measured, not known."""

    grain: np.ndarray
    strength: np.ndarray
    noise: np.ndarray


def find(seed: int, step: int, sample: np.ndarray) -> Drawn:
    added = with_grain(np.zeros((N, *SHAPE), np.float32), seed, step, sample).reshape(N, -1).astype(np.float64)
    strength = np.sqrt((added**2).mean(axis=1))
    return Drawn(strength > 0, strength, added / np.maximum(strength, 1e-9)[:, None])


def check_amounts(drawn: Drawn) -> None:
    share = drawn.grain.mean()
    # here and below: five standard errors, which chance exceeds once in two million solutions
    expect(abs(share - 0.5) < 5 * 0.5 / np.sqrt(N), f"half of the images should have grain, got {share:.1%}")
    strength, noise = drawn.strength[drawn.grain], drawn.noise[drawn.grain]
    off = 5 * 0.2 / np.sqrt(12 * len(strength))
    expect(abs(strength.mean() - 0.1) < off, f"grain should have strength 0.1 on average, got {strength.mean():.3f}")
    expect(  # a strength that is measured on 64 pixels is off by a tenth, seldom by a half
        strength.min() < 0.02 and 0.18 < strength.max() < 0.3,
        f"strengths should lie between 0 and 0.2, got {strength.min():.2f} to {strength.max():.2f}",
    )
    inner = np.mean(np.abs(noise) < 0.6745)  # half of all normal numbers; five standard errors are 0.014
    expect(abs(inner - 0.5) < 0.02, f"the noise is not normal: {inner:.1%} of it is below 0.6745, expected 50%")


def check_unlike(drawn: Drawn, other: Drawn, what: str) -> None:
    both = drawn.grain & other.grain
    for one, two, name in (
        (drawn.grain, other.grain, "has grain in the same images"),
        (drawn.strength[both], other.strength[both], "has grain of the same strength"),
        (drawn.noise[both], other.noise[both], "has the same noise"),
    ):
        expect(not alike(one, two), f"{what} {name}, or nearly so")


def check_nobody_elses(drawn: Drawn) -> None:
    grain, strength, noise = drawn.grain, drawn.strength[drawn.grain], drawn.noise[drawn.grain]
    squares = noise[:, 0::2] ** 2 + noise[:, 1::2] ** 2  # Box and Muller make these from one word
    for numbers, mean in ((noise, 0), (squares, 2)):
        off = np.abs(numbers.mean(axis=0) - mean).max() / numbers.std()
        expect(off < 6 / np.sqrt(len(noise)), "whether an image has grain, and its noise, depend on each other")
        expect(not any(alike(strength, each) for each in numbers.T), "strength and noise depend on each other")
    for stream in Stream:
        key = Key(0, stream, 3, SAMPLE)
        expect(not alike(noise, normal(key, SHAPE).reshape(N, -1)[grain]), f"the noise is that of stream {stream.name}")
        for numbers in uniform(key, 4).T:
            theirs = alike(grain, numbers) or alike(strength, numbers[grain])
            expect(not theirs, f"a random number of stream {stream.name} has a second use here")


def alike(one: np.ndarray, two: np.ndarray) -> bool:
    """Whether two arrays of a shape are correlated: by six standard errors, once in 500 million cases by chance."""
    return bool(abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) > 6 / np.sqrt(one.size))


if __name__ == "__main__":
    sys.exit(report(check))
