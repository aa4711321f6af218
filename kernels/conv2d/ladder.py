"""The lower rungs of convolution on the CPU: naive loops, reordered loops, im2col with BLAS. No backend uses them.

Each function differs from the one before it in one idea, and each computes what `reference.conv2d` does for 3x3 filters
with stride 1. The rungs above are `implicit_gemm.py` and `winograd_forward.py`. `python -m benchmarks.ladder` measures
all of them, and docs/chapter16.md explains why each is faster than the one before.

Reading order: after `reference.py`. `im2col` needs SciPy, whose BLAS Numba calls.
"""

from collections.abc import Callable

import numpy as np
from numba import njit, prange

from minidiff.kernels.numba_memory import empty

LINES = 4  # rows of an image that are copied at a time: 4 x 32 pixels that see 576 numbers each are 288 KiB


def for_each_image(convolve_image: Callable) -> Callable:
    """Compile a function that fills y[n] for one n; return convolve(x, w) -> y, which shares images among threads."""
    one_image = njit(fastmath={"contract"})(convolve_image)  # lets the compiler fuse a b + c, and nothing else

    @njit(parallel=True)
    def all_images(x, w, y):
        for n in prange(len(x)):
            one_image(x, w, y, n)

    def convolve(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = empty((*x.shape[:3], w.shape[3]))  # memory that is used again, as in every rung
        all_images(x, w, y)
        return y

    convolve.__doc__ = convolve_image.__doc__
    return convolve


@for_each_image
def naive(x, w, y, n):
    """Seven loops, in the order of the formula: one multiplication at a time."""
    _, H, W, C_in = x.shape
    for i in range(H):
        for j in range(W):
            for o in range(w.shape[3]):
                total = np.float32(0)
                for kh in range(max(0, 1 - i), min(3, H + 1 - i)):
                    for kw in range(max(0, 1 - j), min(3, W + 1 - j)):
                        for c in range(C_in):
                            total += x[n, i + kh - 1, j + kw - 1, c] * w[kh, kw, c, o]
                y[n, i, j, o] = total


@for_each_image
def reordered(x, w, y, n):
    """The same loops with the output channel innermost: its numbers lie side by side, so the compiler makes vectors.

    With 64 channels, a row of outputs (8 KiB) and the matrix of one filter position (16 KiB) stay in the nearest cache.
    """
    _, H, W, C_in = x.shape
    for i in range(H):
        y[n, i] = 0
        for kh in range(max(0, 1 - i), min(3, H + 1 - i)):
            for kw in range(3):
                for j in range(max(0, 1 - kw), min(W, W + 1 - kw)):
                    for c in range(C_in):
                        number = x[n, i + kh - 1, j + kw - 1, c]
                        for o in range(w.shape[3]):
                            y[n, i, j, o] += number * w[kh, kw, c, o]


@for_each_image
def im2col(x, w, y, n):
    """Copy what each pixel of a few lines sees into a row of a matrix ("im2col"), and let BLAS multiply."""
    _, H, W, C_in = x.shape
    rows, filters = np.empty((LINES * W, 9 * C_in), np.float32), w.reshape(9 * C_in, -1)
    for top in range(0, H, LINES):
        bottom = min(top + LINES, H)
        for i in range(top, bottom):
            for j in range(W):
                for k in range(9):
                    h, v, row = i + k // 3 - 1, j + k % 3 - 1, (i - top) * W + j
                    if 0 <= h < H and 0 <= v < W:
                        for c in range(C_in):
                            rows[row, k * C_in + c] = x[n, h, v, c]
                    else:
                        rows[row, k * C_in : (k + 1) * C_in] = 0
        np.dot(rows[: (bottom - top) * W], filters, y[n, top:bottom].reshape(-1, w.shape[3]))
