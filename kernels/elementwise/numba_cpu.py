"""Addition, concatenation and splitting on the CPU: each thread takes a share of the numbers, sixteen at a time."""

import numpy as np
from numba import prange

from minidiff.kernels.elementwise import reference
from minidiff.kernels.elementwise.checks import check_same
from minidiff.kernels.numba_compile import kernel
from minidiff.kernels.numba_memory import SMALLEST, empty
from minidiff.kernels.numba_threads import float32, reference_if_empty, workers_for
from minidiff.kernels.numba_vector import LANES, masked_load, masked_store, pointer


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`reference.add` for float32; small arrays, of any dtype, are added by NumPy."""
    check_same("add", a.shape, b.shape)
    if a.nbytes < SMALLEST:
        return a + b
    a, b = float32("add", a=a, b=b)
    y = empty(a.shape)
    add_all(a.reshape(-1), b.reshape(-1), y.reshape(-1), workers_for(a.size))
    return y


@reference_if_empty(reference.concat)
def concat(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`reference.concat` for float32."""
    check_same("concat", a.shape[:-1], b.shape[:-1])
    a, b = float32("concat", a=a, b=b)
    A, B = a.shape[-1], b.shape[-1]
    y = empty((*a.shape[:-1], A + B))
    rows, workers = y.reshape(-1, A + B), workers_for(y.size)
    copy_channels(a.reshape(-1, A), rows, 0, 0, A, workers)
    copy_channels(b.reshape(-1, B), rows, 0, A, B, workers)
    return y


@reference_if_empty(reference.split)
def split(x: np.ndarray, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """`reference.split` for float32."""
    (x,) = float32("split", x=x)
    others = x.shape[-1] - channels
    a, b = empty((*x.shape[:-1], channels)), empty((*x.shape[:-1], others))
    rows, workers = x.reshape(-1, x.shape[-1]), workers_for(x.size)
    copy_channels(rows, a.reshape(len(rows), channels), 0, 0, channels, workers)
    copy_channels(rows, b.reshape(len(rows), others), channels, 0, others, workers)
    return a, b


@kernel
def add_all(a, b, y, workers):
    """y = a + b, all (n,)."""
    for worker in prange(workers):
        first, last = worker * len(y) // workers, (worker + 1) * len(y) // workers
        from_a, from_b, into = pointer(a), pointer(b), pointer(y)
        for i in range(first, last, LANES):
            masked_store(into, i, masked_load(from_a, i, last - i) + masked_load(from_b, i, last - i), last - i)


@kernel
def copy_channels(x, y, from_channel, to_channel, channels, workers):
    """Copy `channels` channels of each row of x (rows, .) into the rows of y (rows, .)."""
    for worker in prange(workers):
        from_x, into = pointer(x), pointer(y)
        for row in range(worker * len(x) // workers, (worker + 1) * len(x) // workers):
            at, to = row * x.shape[1] + from_channel, row * y.shape[1] + to_channel
            for c in range(0, channels, LANES):
                masked_store(into, to + c, masked_load(from_x, at + c, channels - c), channels - c)
