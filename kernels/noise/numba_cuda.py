"""Random numbers from keys on a GPU, written in Python: the kernels of `noise.cu`, to be read beside them.

Each thread computes one block of four words, and up to four numbers from them.
"""

import math

import numpy as np
from numba import cuda

from minidiff.kernels.noise.cuda_host import Noise
from minidiff.kernels.noise.reference import INCREMENT_0, INCREMENT_1, MASK, MULTIPLIER_0, MULTIPLIER_1
from minidiff.kernels.numba_cuda_launch import THREADS, Functions, smaller

# 64-bit constants: Numba would turn a product of a uint64 with a Python int into a float.
M0, M1, I0, I1 = (np.uint64(c) for c in (MULTIPLIER_0, MULTIPLIER_1, INCREMENT_0, INCREMENT_1))
LOW, HALF = np.uint64(MASK), np.uint64(32)


@cuda.jit(device=True)
def words(key, sample, block):
    """Philox: ten rounds for the counter (block, sample, step, stream), in 64-bit numbers that hold 32-bit words."""
    k0, k1, stream, step = np.uint64(key[0]), np.uint64(key[1]), np.uint64(key[2]), np.uint64(key[3])
    c0, c1, c2, c3 = np.uint64(block), np.uint64(sample), step, stream
    for _ in range(10):
        product0, product1 = c0 * M0, c2 * M1
        c0, c1, c2, c3 = (product1 >> HALF) ^ c1 ^ k0, product1 & LOW, (product0 >> HALF) ^ c3 ^ k1, product0 & LOW
        k0, k1 = (k0 + I0) & LOW, (k1 + I1) & LOW
    return c0, c1, c2, c3


@cuda.jit(device=True)
def pair(w0, w1):
    """Two normal numbers r (cos theta, sin theta) from two words, in float64, rounded once (Box and Muller)."""
    r, theta = math.sqrt(-2 * math.log((w0 + 0.5) * 2.0**-32)), w1 * (2 * math.pi * 2.0**-32)
    return np.float32(r * math.cos(theta)), np.float32(r * math.sin(theta))


@cuda.jit(device=True)
def normals(key, sample, block):
    """Four normal numbers from the four words of a block."""
    w0, w1, w2, w3 = words(key, sample, block)
    z0, z1 = pair(w0, w1)
    z2, z3 = pair(w2, w3)
    return z0, z1, z2, z3


# The grid of every kernel: for each of N samples, in turn, as many blocks as its numbers take. key: four words. sample:
# (N,) uint32.


@cuda.jit(device=True)
def place(n):
    """A thread's sample, and which block of four words of that sample it computes."""
    blocks = -(-n // (4 * THREADS))
    return cuda.blockIdx.x // blocks, cuda.blockIdx.x % blocks * THREADS + cuda.threadIdx.x


@cuda.jit
def fill_bits(key, sample, bits, n):
    """bits (N, n) uint32."""
    i, block = place(n)
    four = words(key, sample[i], block)
    for j in range(smaller(4, n - 4 * block)):
        bits[i, 4 * block + j] = four[j]


@cuda.jit
def fill_normals(key, sample, z, n):
    """z (N, n)."""
    i, block = place(n)
    four = normals(key, sample[i], block)
    for j in range(smaller(4, n - 4 * block)):
        z[i, 4 * block + j] = four[j]


@cuda.jit
def fill_noised(key, sample, x0, a, s, x_t, eps, n):
    """x_t = a x0 + s eps, (N, n), with one a and one s for each image."""
    i, block = place(n)
    four = normals(key, sample[i], block)
    for j in range(smaller(4, n - 4 * block)):
        at = 4 * block + j
        eps[i, at] = four[j]
        x_t[i, at] = a[i] * x0[i, at] + s[i] * four[j]


@cuda.jit
def fill_updated(key, sample, x, x0_hat, x0_hat_last, c0, c1, c2, c3, y, n):
    """y = c0 x + c1 x0_hat + c2 x0_hat_last + c3 z, (N, n); x0_hat_last may be empty, z is used only if c3 is not 0."""
    i, block = place(n)
    four = normals(key, sample[i], block)
    for j in range(smaller(4, n - 4 * block)):
        at = 4 * block + j
        total = np.float32(c0) * x[i, at] + np.float32(c1) * x0_hat[i, at]
        if x0_hat_last.size > 0:
            total += np.float32(c2) * x0_hat_last[i, at]
        y[i, at] = total + np.float32(c3) * four[j] if c3 != 0 else total


_noise = Noise(
    Functions(
        absent=2,
        fill_bits=(THREADS, fill_bits),
        fill_normals=(THREADS, fill_normals),
        fill_noised=(THREADS, fill_noised),
        fill_updated=(THREADS, fill_updated),
    ),
    numbers=4 * THREADS,
)

random_bits, uniform, normal = _noise.random_bits, _noise.uniform, _noise.normal
add_noise, sampler_update = _noise.add_noise, _noise.sampler_update
