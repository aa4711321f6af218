"""Random numbers from keys on a GPU, the host's side for both CUDA versions: checks, new arrays and launches.

Sample numbers, and the a and s of `add_noise`, are decided by the host and checked there. They may be NumPy arrays: a
few bytes that are copied to the device.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minidiff.kernels.cuda_launch import blocks, device, empty, float32
from minidiff.kernels.noise.checks import check_add_noise, check_key, check_sampler_update
from minidiff.kernels.noise.reference import MASK, Key


class Noise:
    """The functions of `reference.py` for arrays of a device.

    launch: runs the kernels fill_bits, fill_normals, fill_noised and fill_updated, whose grid is N times n / numbers.
    numbers: how many a block makes, all of one sample.
    """

    def __init__(self, launch: Callable, numbers: int) -> None:
        self.launch, self.numbers = launch, numbers

    def random_bits(self, key: Key, sample: np.ndarray, n: int) -> Any:
        """`reference.random_bits`, equal to the bit."""
        check_key("random_bits", key, sample, n)
        bits = empty((len(sample), n), np.uint32)
        self.launch("fill_bits", self._grid(sample, n), _words(key), _on_device(sample, np.uint32), bits, n)
        return bits

    def uniform(self, key: Key, sample: np.ndarray, n: int) -> Any:
        """`reference.uniform`, equal to the bit."""
        return (self.random_bits(key, sample, n) >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)

    def normal(self, key: Key, sample: np.ndarray, n: int) -> Any:
        """`reference.normal`, within 1 ULP."""
        check_key("normal", key, sample, n)
        z = empty((len(sample), n))
        self.launch("fill_normals", self._grid(sample, n), _words(key), _on_device(sample, np.uint32), z, n)
        return z

    def add_noise(self, x0: Any, a: Any, s: Any, key: Key, sample: np.ndarray) -> tuple[Any, Any]:
        """`reference.add_noise` for float32 images, in the pass that draws eps."""
        check_add_noise(x0.shape, a.shape, s.shape, sample)
        n = math.prod(x0.shape[1:])
        check_key("add_noise", key, sample, n)
        (x0,) = float32("add_noise", x0=x0)
        x_t, eps = empty((len(x0), n)), empty((len(x0), n))
        self.launch(
            "fill_noised", self._grid(sample, n), _words(key), _on_device(sample, np.uint32), x0.reshape(len(x0), n),
            _on_device(a, np.float32), _on_device(s, np.float32), x_t, eps, n,
        )  # fmt: skip
        return x_t.reshape(x0.shape), eps.reshape(x0.shape)

    def sampler_update(self, x: Any, x0_hat: Any, x0_hat_last: Any, c: np.ndarray, key: Key, sample: np.ndarray) -> Any:
        """`reference.sampler_update` for float32, in one pass."""
        check_sampler_update(x.shape, x0_hat.shape, None if x0_hat_last is None else x0_hat_last.shape, c, sample)
        n = math.prod(x.shape[1:])
        check_key("sampler_update", key, sample, n)
        given = float32("sampler_update", x=x, x0_hat=x0_hat, x0_hat_last=x0_hat_last)
        flat = [None if a is None else a.reshape(len(x), n) for a in given]
        y, numbers = empty((len(x), n)), [float(number) for number in c]
        words = _on_device(sample, np.uint32)
        self.launch("fill_updated", self._grid(sample, n), _words(key), words, *flat, *numbers, y, n)
        return y.reshape(x.shape)

    def _grid(self, sample: Any, n: int) -> tuple[int, ...]:
        return (blocks(n, self.numbers) * len(sample),)


def _words(key: Key) -> tuple[int, int, int, int]:
    """The key as four 32-bit words: seed's low half, its high half, stream, step."""
    seed, stream, step = (int(number) for number in key)
    return seed & MASK, seed >> 32, stream, step


def _on_device(a: Any, dtype: Any) -> Any:
    return device().xp.asarray(a.astype(dtype))
