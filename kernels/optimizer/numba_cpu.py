"""The optimiser on the CPU: AdamW and the average of the weights, in one pass over memory.

`reference.py` passes over the network's arrays some twenty times. Here a thread takes a short chunk of all five arrays
and does everything to it while it lies in cache. `square_sum` adds up each chunk by itself, so that the number of
threads does not change the result.
"""

import numpy as np
from numba import prange

from minidiff.kernels.numba_compile import kernel, njit
from minidiff.kernels.numba_math import fma
from minidiff.kernels.numba_threads import float32, workers_for
from minidiff.kernels.optimizer.checks import check_adamw_ema, check_flat

CHUNK = 2048  # numbers of each array: five times 8 KiB fit the first-level cache
SUMS = 128  # of squares, side by side: so many that LLVM makes the loop over them SIMD, without changing their order


def square_sum(x: np.ndarray) -> float:
    """`reference.square_sum` for float32; the same bits for any number of threads."""
    check_flat("square_sum", x=x)
    (x,) = float32("square_sum", x=x)
    sums = np.empty(-(-len(x) // CHUNK))
    add_squares(x, sums, workers_for(4 * len(x)))
    return float(sums.sum())


def adamw_ema(
    w: np.ndarray,
    g: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    ema: np.ndarray,
    n_decay: int,
    hyper: np.ndarray,
) -> None:
    """`reference.adamw_ema` for float32, in place."""
    check_adamw_ema(w, g, m, v, ema, n_decay, hyper)
    arrays = float32("adamw_ema", w=w, g=g, m=m, v=v, ema=ema)
    for name, given, used in zip(("w", "g", "m", "v", "ema"), (w, g, m, v, ema), arrays):
        if given is not used and name != "g":  # a contiguous copy would be updated instead
            raise ValueError(f"adamw_ema: {name} is updated in place and must be C-contiguous")
    step(*arrays, n_decay, np.asarray(hyper, np.float64), workers_for(16 * len(w)))


@kernel
def add_squares(x, sums, workers):
    """sums[i] = the sum of squares of chunk i, the same on any thread."""
    for worker in prange(workers):
        for i in range(worker * len(sums) // workers, (worker + 1) * len(sums) // workers):
            sums[i] = squares_of(x[i * CHUNK : (i + 1) * CHUNK])


@njit
def squares_of(x):
    """The sum of squares: SUMS numbers are added up side by side, and these then by halves."""
    sums, whole = np.zeros(SUMS), len(x) // SUMS * SUMS
    for start in range(0, whole, SUMS):
        for lane in range(SUMS):
            number = np.float64(x[start + lane])
            sums[lane] += number * number
    for i in range(whole, len(x)):
        number = np.float64(x[i])
        sums[i - whole] += number * number
    half = SUMS
    while half > 1:
        half //= 2
        for lane in range(half):
            sums[lane] += sums[lane + half]
    return sums[0]


@kernel
def step(w, g, m, v, ema, n_decay, hyper, workers):
    """`adamw_ema`, each worker with its share of the chunks."""
    chunks = -(-len(w) // CHUNK)
    for worker in prange(workers):
        for i in range(worker * chunks // workers, (worker + 1) * chunks // workers):
            start, stop = i * CHUNK, min((i + 1) * CHUNK, len(w))
            step_chunk(
                w[start:stop], g[start:stop], m[start:stop], v[start:stop], ema[start:stop], n_decay - start, hyper
            )  # fmt: skip


@njit(error_model="numpy")
def step_chunk(w, g, m, v, ema, n_decay, hyper):
    """One chunk of `adamw_ema`; its first n_decay weights decay (none if negative)."""
    lr, beta1, beta2, eps = np.float32(hyper[0]), np.float32(hyper[1]), np.float32(hyper[2]), np.float32(hyper[3])
    one_minus_beta1, one_minus_beta2 = np.float32(1 - hyper[1]), np.float32(1 - hyper[2])
    decay = np.float32(hyper[0] * hyper[4])
    correction1, correction2 = np.float32(1 / hyper[5]), np.float32(1 / hyper[6])
    grad_scale, follow = np.float32(hyper[7]), np.float32(1 - hyper[8])
    # Short loops with few arrays each: for SIMD, LLVM must prove that arrays do not overlap, and with five it gives up.
    for i in range(len(w)):
        m[i] = fma(beta1, m[i], one_minus_beta1 * (grad_scale * g[i]))
    for i in range(len(w)):
        v[i] = fma(beta2, v[i], one_minus_beta2 * ((grad_scale * g[i]) * (grad_scale * g[i])))
    for i in range(min(len(w), n_decay)):
        w[i] = fma(-decay, w[i], w[i])  # not w *= 1 - decay: that number has too few digits for a small decay
    for i in range(len(w)):
        w[i] -= lr * (m[i] * correction1) / (np.sqrt(v[i] * correction2) + eps)
    for i in range(len(w)):
        ema[i] = fma(follow, w[i] - ema[i], ema[i])
