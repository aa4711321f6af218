"""Keyed random numbers on the CPU: each thread computes its own blocks, four numbers at a time.

`reference.py` takes arrays of words through ten rounds; here the words of one block stay in registers from the counter
to the finished number. A block does not depend on the thread that computes it, so threads may share the batch in any
way.
"""

import math

import numpy as np
from numba import prange

from minidiff.kernels.noise.checks import check_add_noise, check_key, check_sampler_update
from minidiff.kernels.noise.reference import (
    INCREMENT_0,
    INCREMENT_1,
    MASK,
    MULTIPLIER_0,
    MULTIPLIER_1,
    Key,
)
from minidiff.kernels.numba_compile import kernel, njit
from minidiff.kernels.numba_threads import float32, workers_for

# 64-bit constants: Numba would turn a product of a uint64 with a Python int into a float.
M0, M1, I0, I1 = (np.uint64(c) for c in (MULTIPLIER_0, MULTIPLIER_1, INCREMENT_0, INCREMENT_1))
LOW, HALF = np.uint64(MASK), np.uint64(32)
CHUNK = 1024  # numbers of one sample that a thread takes at a time in `sampler_update`, whole blocks of four
WORK = 100  # multiplications that cost as much as a random number, to decide on threads


def random_bits(key: Key, sample: np.ndarray, n: int) -> np.ndarray:
    """`reference.random_bits`, equal to the bit."""
    check_key("random_bits", key, sample, n)
    bits = np.empty((len(sample), n), np.uint32)
    fill_bits(*_words(key), sample.astype(np.uint64), bits, workers_for(WORK * bits.size))
    return bits


def uniform(key: Key, sample: np.ndarray, n: int) -> np.ndarray:
    """`reference.uniform`, equal to the bit."""
    return (random_bits(key, sample, n) >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)


def normal(key: Key, sample: np.ndarray, n: int) -> np.ndarray:
    """`reference.normal`, within 1 ULP."""
    check_key("normal", key, sample, n)
    z = np.empty((len(sample), n), np.float32)
    fill_normals(*_words(key), sample.astype(np.uint64), z, workers_for(WORK * z.size))
    return z


def add_noise(
    x0: np.ndarray, a: np.ndarray, s: np.ndarray, key: Key, sample: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`reference.add_noise` for float32 images: x_t = a x0 + s eps, in the pass that draws eps."""
    check_add_noise(x0.shape, a.shape, s.shape, sample)
    n = math.prod(x0.shape[1:])
    check_key("add_noise", key, sample, n)
    (x0,) = float32("add_noise", x0=x0)
    x_t, eps = np.empty_like(x0), np.empty_like(x0)
    flat = (len(x0), n)
    fill_noised(
        *_words(key), sample.astype(np.uint64), x0.reshape(flat), a.astype(np.float32), s.astype(np.float32),
        x_t.reshape(flat), eps.reshape(flat), workers_for(WORK * x0.size),
    )  # fmt: skip
    return x_t, eps


def sampler_update(
    x: np.ndarray, x0_hat: np.ndarray, x0_hat_last: np.ndarray | None, c: np.ndarray, key: Key, sample: np.ndarray
) -> np.ndarray:
    """`reference.sampler_update` for float32: x' = c0 x + c1 x0_hat + c2 x0_hat_last + c3 z in one pass."""
    check_sampler_update(x.shape, x0_hat.shape, None if x0_hat_last is None else x0_hat_last.shape, c, sample)
    n = math.prod(x.shape[1:])
    check_key("sampler_update", key, sample, n)
    x, x0_hat = float32("sampler_update", x=x, x0_hat=x0_hat)
    (x0_hat_last,) = (x0_hat,) if x0_hat_last is None else float32("sampler_update", x0_hat_last=x0_hat_last)
    y = np.empty_like(x)
    flat = (len(x), n)
    coefficients = np.array([float(number) for number in c], np.float32)
    fill_updated(
        *_words(key), sample.astype(np.uint64), x.reshape(flat), x0_hat.reshape(flat), x0_hat_last.reshape(flat),
        coefficients, y.reshape(flat), workers_for((WORK if coefficients[3] != 0 else 4) * x.size),
    )  # fmt: skip
    return y


def _words(key):
    """The key as four 64-bit numbers that each hold one 32-bit word: seed's low half, its high half, stream, step."""
    seed, stream, step = (int(number) for number in key)
    return np.uint64(seed & MASK), np.uint64(seed >> 32), np.uint64(stream), np.uint64(step)


@kernel
def fill_bits(k0, k1, stream, step, sample, bits, workers):
    """Fill bits (N, n) uint32."""
    n = bits.shape[1]
    blocks = -(-n // 4)
    units = len(sample) * blocks
    for worker in prange(workers):
        for unit in range(worker * units // workers, (worker + 1) * units // workers):
            i, block = unit // blocks, unit % blocks
            words = philox(np.uint64(block), sample[i], step, stream, k0, k1)
            for j in range(min(4, n - 4 * block)):
                bits[i, 4 * block + j] = words[j]


@kernel
def fill_normals(k0, k1, stream, step, sample, z, workers):
    """Fill z (N, n) float32."""
    n = z.shape[1]
    blocks = -(-n // 4)
    units = len(sample) * blocks
    for worker in prange(workers):
        for unit in range(worker * units // workers, (worker + 1) * units // workers):
            i, block = unit // blocks, unit % blocks
            four = normals(np.uint64(block), sample[i], step, stream, k0, k1)
            for j in range(min(4, n - 4 * block)):
                z[i, 4 * block + j] = four[j]


@kernel
def fill_noised(k0, k1, stream, step, sample, x0, a, s, x_t, eps, workers):
    """Fill x_t and eps (N, n) for x0 (N, n), a and s (N,)."""
    n = x0.shape[1]
    blocks = -(-n // 4)
    units = len(sample) * blocks
    for worker in prange(workers):
        for unit in range(worker * units // workers, (worker + 1) * units // workers):
            i, block = unit // blocks, unit % blocks
            four = normals(np.uint64(block), sample[i], step, stream, k0, k1)
            for j in range(min(4, n - 4 * block)):
                at = 4 * block + j
                eps[i, at] = four[j]
                x_t[i, at] = a[i] * x0[i, at] + s[i] * four[j]


@kernel
def fill_updated(k0, k1, stream, step, sample, x, x0_hat, x0_hat_last, c, y, workers):
    """Fill y (N, n) for x, x0_hat and x0_hat_last (N, n); an array with coefficient 0 is not read."""
    chunks = -(-x.shape[1] // CHUNK)
    units = len(sample) * chunks
    for worker in prange(workers):
        for unit in range(worker * units // workers, (worker + 1) * units // workers):
            i, start = unit // chunks, unit % chunks * CHUNK
            part = slice(start, start + CHUNK)
            combine(x[i, part], x0_hat[i, part], x0_hat_last[i, part], c, y[i, part])
            if c[3] != 0:
                add_normals(k0, k1, stream, step, sample[i], start // 4, c[3], y[i, part])


@njit
def combine(x, x0_hat, x0_hat_last, c, y):
    """y = c0 x + c1 x0_hat + c2 x0_hat_last, over a chunk of one sample: a loop that becomes SIMD."""
    for j in range(len(y)):
        y[j] = c[0] * x[j] + c[1] * x0_hat[j]
    if c[2] != 0:
        for j in range(len(y)):
            y[j] += c[2] * x0_hat_last[j]


@njit
def add_normals(k0, k1, stream, step, sample, first_block, factor, y):
    """Add factor times the sample's normal numbers, from block first_block on, to a chunk of y."""
    for block in range(-(-len(y) // 4)):
        four = normals(np.uint64(first_block + block), sample, step, stream, k0, k1)
        for j in range(min(4, len(y) - 4 * block)):
            y[4 * block + j] += factor * four[j]


@njit
def normals(block, sample, step, stream, k0, k1):
    """One block's four words as four normal numbers (Box-Muller in float64, rounded once to float32)."""
    w0, w1, w2, w3 = philox(block, sample, step, stream, k0, k1)
    r, theta = polar(w0, w1)
    r_, theta_ = polar(w2, w3)
    return (
        np.float32(r * math.cos(theta)),
        np.float32(r * math.sin(theta)),
        np.float32(r_ * math.cos(theta_)),
        np.float32(r_ * math.sin(theta_)),
    )


@njit
def polar(w0, w1):
    """Radius and angle of a point of the plane's normal distribution, from two words."""
    return math.sqrt(-2 * math.log((w0 + 0.5) * 2.0**-32)), w1 * (2 * math.pi * 2.0**-32)


@njit
def philox(c0, c1, c2, c3, k0, k1):
    """Ten rounds of `reference.philox4x32` for one counter, in 64-bit numbers that hold 32-bit words."""
    for _ in range(10):
        product0, product1 = c0 * M0, c2 * M1
        c0, c1, c2, c3 = (product1 >> HALF) ^ c1 ^ k0, product1 & LOW, (product0 >> HALF) ^ c3 ^ k1, product0 & LOW
        k0, k1 = (k0 + I0) & LOW, (k1 + I1) & LOW
    return c0, c1, c2, c3
