"""Addition, and channels side by side, defined.

Trivial to write and, on large pictures, as slow as memory: what a fast version adds is threads, and memory that has
been used before.

Reading order: with `minidiff/ops.py`.
"""

import numpy as np


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a + b, for two arrays of one shape."""
    check_same("add", a.shape, b.shape)
    return a + b


def concat(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Put the channels of b behind those of a: (…, A) and (…, B) to (…, A + B)."""
    check_same("concat", a.shape[:-1], b.shape[:-1])
    return np.concatenate([a, b], axis=-1)


def split(x: np.ndarray, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Take `concat` apart again: the first so many channels, and the others."""
    return np.ascontiguousarray(x[..., :channels]), np.ascontiguousarray(x[..., channels:])


def check_same(name, a_shape, b_shape):
    """Raise ValueError in one line unless the shapes are equal."""
    if tuple(a_shape) != tuple(b_shape):
        raise ValueError(f"{name}: shapes must be equal, got {tuple(a_shape)} and {tuple(b_shape)}")
