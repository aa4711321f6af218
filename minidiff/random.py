"""Random numbers that can be replayed anywhere: a counter and a key instead of a hidden state.

Idea: a *counter-based* generator is a pure function of a key.  Ask for the noise of image 7 at step 300 and you
get it without drawing what came before, in any order, in any batch, on any number of threads, on any backend.
Stands second in the reading order, after the backend table.  Leaves out the generator itself (Philox 4x32-10):
that is kernels/noise/reference.py, the next thing to read.
"""

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from minidiff import backend


class Stream(IntEnum):
    """What a random number is for: one number line each, so that no two purposes ever share noise."""

    INIT = 0  # weights before training
    ORDER = 1  # the order of the images in an epoch
    FLIP = 2  # which images are mirrored
    T = 3  # the time t of each training image
    NOISE = 4  # the noise put on each training image
    LABEL_DROP = 5  # which labels are hidden, for classifier-free guidance
    START = 6  # x_T, the noise that a sampler starts from
    SAMPLER = 7  # fresh noise z inside stochastic samplers
    SCENE = 8  # the factors of a drawn scene
    EVALUATE = 9  # held-out triples (image, t, noise)
    CLASSIFIER = 10  # everything inside the classifier that judges samples
    KNOWN = 11  # noise on an image that is edited
    AGAIN = 12  # noise put back on while it is edited
    CAPTION = 13  # which parts of captions are left out while training


class Key(NamedTuple):
    """The name of a piece of randomness.

    seed: int in [0, 2**64).  stream: a Stream.  step: int in [0, 2**32).
    sample: int in [0, 2**32), or a 1-D array of N of them for N pieces at once.
    """

    seed: int
    stream: int
    step: int
    sample: int | np.ndarray


def bits(key: Key, shape: int | Sequence[int]) -> np.ndarray:
    """Return uniform 32-bit words: (*shape) for one sample, (N, *shape) for an array of N samples; uint32."""
    return _draw(backend.host().random_bits, key, shape)


def uniform(key: Key, shape: int | Sequence[int]) -> np.ndarray:
    """Return float32 multiples of 2**-24 in [0, 1), shaped as in `bits`; equal to the bit on every backend."""
    return _draw(backend.host().uniform, key, shape)


def normal(key: Key, shape: int | Sequence[int]) -> np.ndarray:
    """Return float32 standard normals, shaped as in `bits`; within 1 ULP on every backend.

    Source: Box and Muller 1958, doi:10.1214/aoms/1177706645.
    """
    return _draw(backend.current().normal, key, shape)


def integers(key: Key, shape: int | Sequence[int], high: int) -> np.ndarray:
    """Return int64 in [0, high), shaped as in `bits`.

    The word w becomes floor(w high / 2**32); no value is favoured by more than high / 2**32, relative.
    Source: Lemire 2019, arXiv:1805.10941, section 3 without the rejection.
    """
    if not 1 <= high <= 1 << 32:
        raise ValueError(f"integers: high must be in [1, 2**32], got {high}")
    return ((bits(key, shape).astype("uint64") * np.uint64(high)) >> np.uint64(32)).astype("int64")


def permutation(key: Key, n: int) -> np.ndarray:
    """Return the numbers 0 … n-1 in an order that the key names: (n,) int64 on the host.

    Sorts n random words, with equal words left in place; one sample only.
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
