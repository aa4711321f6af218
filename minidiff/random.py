"""Random numbers as a function of a key, without a hidden state.

Idea: a counter-based generator is a pure function: the same key always gives the same numbers.  A key consists of the
seed, the purpose of the numbers (`Stream`), the step and the number of the image.  So the noise of image 7 at step 300
can be drawn without drawing anything before it.  The numbers do not depend on the order of the calls, the batch size or
the number of threads.  They do not depend on the backend either, except for the rounding of normal numbers.
Leaves out the generator itself (Philox 4x32-10), which is defined in kernels/noise/reference.py.
"""

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from minidiff import backend


class Stream(IntEnum):
    """What a random number is used for.  Each use has a stream of its own, so that no two uses share random numbers."""

    INIT = 0  # initial weights
    ORDER = 1  # the order of the images in an epoch
    FLIP = 2  # which training images are mirrored
    T = 3  # the timestep t of each training image
    NOISE = 4  # the noise added to each training image
    LABEL_DROP = 5  # which labels are dropped, for classifier-free guidance
    START = 6  # x_T, the initial noise of a sampler
    SAMPLER = 7  # the new noise z of a stochastic sampler's step
    SCENE = 8  # what a generated scene shows
    EVALUATE = 9  # image, t and noise for the loss on held-out images
    CLASSIFIER = 10  # the training of the classifier that evaluates samples
    KNOWN = 11  # the noise added to the original of an edited image
    AGAIN = 12  # the noise added when an edit resamples (RePaint)
    CAPTION = 13  # which parts of training captions are dropped


class Key(NamedTuple):
    """The key that determines an array of random numbers.

    seed: int in [0, 2**64).  stream: a Stream.  step: int in [0, 2**32).
    sample: int in [0, 2**32), or a 1-D array of N of them, for N independent arrays in one call.
    """

    seed: int
    stream: int
    step: int
    sample: int | np.ndarray


def bits(key: Key, shape: int | Sequence[int]) -> np.ndarray:
    """Return uniform random uint32: (*shape) for one sample, (N, *shape) for an array of N samples."""
    return _draw(backend.host().random_bits, key, shape)


def uniform(key: Key, shape: int | Sequence[int]) -> np.ndarray:
    """Return uniform float32 in [0, 1), multiples of 2**-24, shaped as in `bits`; bit for bit equal on all backends."""
    return _draw(backend.host().uniform, key, shape)


def normal(key: Key, shape: int | Sequence[int]) -> np.ndarray:
    """Return standard normal float32, shaped as in `bits`; backends differ by at most 1 ULP from the reference.

    Source: Box and Muller 1958, doi:10.1214/aoms/1177706645.
    """
    return _draw(backend.current().normal, key, shape)


def integers(key: Key, shape: int | Sequence[int], high: int) -> np.ndarray:
    """Return uniform int64 in [0, high), shaped as in `bits`.

    Each random 32-bit word w becomes floor(w high / 2**32).  The probabilities of two values differ by at most
    high / 2**32, relative to either.
    Source: Lemire 2019, arXiv:1805.10941, section 3 without the rejection.
    """
    if not 1 <= high <= 1 << 32:
        raise ValueError(f"integers: high must be in [1, 2**32], got {high}")
    return ((bits(key, shape).astype("uint64") * np.uint64(high)) >> np.uint64(32)).astype("int64")


def permutation(key: Key, n: int) -> np.ndarray:
    """Return the numbers 0 … n-1 in random order: (n,) int64 on the host.

    It is the stable order that sorts n random words.  Raises ValueError for a key with several samples.
    """
    if not np.isscalar(key.sample):
        raise ValueError("permutation: the key's sample must be one number")
    return np.argsort(bits(key, n), kind="stable")


def _draw(kernel: Callable[..., Any], key: Key, shape: int | Sequence[int]) -> np.ndarray:
    shape = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    seed, stream, step, sample = key
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"the seed must be in [0, 2**64), got {seed}")
    one = np.ndim(sample) == 0
    samples = np.asarray([sample] if one else sample, dtype=np.int64)
    count = int(np.prod(shape, dtype=np.int64))
    out = kernel((int(seed), int(stream), int(step)), samples, count)
    return out.reshape(shape if one else (len(samples), *shape))
