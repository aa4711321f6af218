"""Addition, and concatenation and splitting of channels, defined.

They are trivial to write. On large images, their speed is that of the memory. A fast version uses several threads, and
writes into memory that was used before, because fresh memory is slow (numba_memory.py).

Reading order: with `minidiff/ops.py`.
"""

import numpy as np

from minidiff.kernels.elementwise.checks import check_same


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a + b, for two arrays of one shape."""
    check_same("add", a.shape, b.shape)
    return a + b


def concat(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Put the channels of b behind those of a: (…, A) and (…, B) to (…, A + B)."""
    check_same("concat", a.shape[:-1], b.shape[:-1])
    return np.concatenate([a, b], axis=-1)


def split(x: np.ndarray, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Undo `concat`: return the first `channels` channels, and the others."""
    return np.ascontiguousarray(x[..., :channels]), np.ascontiguousarray(x[..., channels:])
