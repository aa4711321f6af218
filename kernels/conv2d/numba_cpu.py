"""Convolution on the CPU: gather what each output pixel sees into the row of a matrix, and let BLAS multiply.

`reference.py` makes KH KW products of whole shifted pictures. Here each thread takes a block of output pixels and
copies the KH KW C_in numbers that each one sees into one row of a buffer; one product with the filter, read as a
matrix (KH KW C_in, C_out), then gives the block's output. The buffer (this is "im2col", a block at a time) stays in
the thread's own cache, so that memory sees only x, w and y.

All three functions are this one idea:

- the output gathers from x;
- the gradient of x gathers from gy, with the filter turned around and its channels swapped; with stride 2, pixels in
  even and odd rows and columns see different filter positions, so each of the four kinds is a convolution of its own
  with the positions that it sees;
- the gradient of w is the transposed buffer times gy, summed over blocks.
"""

import numpy as np
from numba import njit, prange

from minidiff.kernels.conv2d.reference import check_conv2d, check_conv2d_grad, output_shape
from minidiff.kernels.numba_threads import float32, workers_for

BUFFER = 1 << 19  # numbers in a thread's buffer: 2 MiB. A quarter would fit its L2 cache and is 5% slower
NO_BIAS = np.empty(0, np.float32)


def conv2d(x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, stride: int = 1) -> np.ndarray:
    """`reference.conv2d` for float32."""
    check_conv2d(x.shape, w.shape, None if b is None else b.shape, stride)
    x, w = float32("conv2d", x=x, w=w)
    (b,) = (NO_BIAS,) if b is None else float32("conv2d", b=b)
    KH, KW, _, C_out = w.shape
    y = np.empty(output_shape(x.shape, w.shape, stride), np.float32)
    _correlate(x, w.reshape(-1, C_out), b, y, (KH, KW), (-(KH // 2), -(KW // 2)), stride, (0, 0), 1)
    return y


def conv2d_grad_x(gy: np.ndarray, w: np.ndarray, x_shape: tuple[int, ...], stride: int = 1) -> np.ndarray:
    """`reference.conv2d_grad_x` for float32.

    Output row i saw row h of x through filter row kh = h + pad - i stride. Among the rows h = phase + stride a of one
    phase, these are every stride-th kh, and i = a + (phase + pad - kh) / stride: a convolution with those positions.
    """
    check_conv2d_grad("conv2d_grad_x", gy.shape, x_shape, w.shape, stride)
    gy, w = float32("conv2d_grad_x", gy=gy, w=w)
    KH, KW, C_in, _ = w.shape
    gx = np.empty(x_shape, np.float32)
    for phase_h in range(stride):
        kh = [k for k in reversed(range(KH)) if (phase_h + KH // 2 - k) % stride == 0]
        for phase_w in range(stride):
            kw = [k for k in reversed(range(KW)) if (phase_w + KW // 2 - k) % stride == 0]
            if not kh or not kw:
                gx[:, phase_h::stride, phase_w::stride] = 0  # no output pixel saw these
                continue
            first = (phase_h + KH // 2 - kh[0]) // stride, (phase_w + KW // 2 - kw[0]) // stride
            w_phase = np.ascontiguousarray(w[kh][:, kw].swapaxes(2, 3)).reshape(-1, C_in)
            _correlate(gy, w_phase, NO_BIAS, gx, (len(kh), len(kw)), first, 1, (phase_h, phase_w), stride)
    return gx


def conv2d_grad_w(gy: np.ndarray, x: np.ndarray, w_shape: tuple[int, ...], stride: int = 1) -> np.ndarray:
    """`reference.conv2d_grad_w` for float32; the same bits for the same number of threads."""
    check_conv2d_grad("conv2d_grad_w", gy.shape, x.shape, w_shape, stride)
    gy, x = float32("conv2d_grad_w", gy=gy, x=x)
    KH, KW, C_in, C_out = w_shape
    pixels, seen = gy.size // C_out, KH * KW * C_in
    workers = workers_for(pixels * seen * C_out)
    parts = np.zeros((workers, *w_shape), np.float32)
    filter_gradient(gy, x, parts, -(KH // 2), -(KW // 2), stride, _block(pixels, seen, workers))
    return parts.sum(0)  # in the order of the workers


def _correlate(x, w, b, y, size, first, step, phase, spread):
    _, H, W, C_out = y.shape
    Hp, Wp = len(range(phase[0], H, spread)), len(range(phase[1], W, spread))
    pixels, seen = x.shape[0] * Hp * Wp, w.shape[0]
    workers = workers_for(pixels * seen * C_out)
    correlate(x, w, b, y, *size, *first, step, *phase, spread, Hp, Wp, _block(pixels, seen, workers), workers)


def _block(pixels, seen, workers):
    """Output pixels a block: an even share of a worker's pixels, at most what fits, in steps of 16 as BLAS likes."""
    fits = min(max(BUFFER // seen, 64), 512)
    share = max(1, -(-pixels // workers))
    return -(-share // (-(-share // fits) * 16)) * 16


@njit(parallel=True, cache=True)
def correlate(x, w, b, y, KH, KW, top, left, step, phase_h, phase_w, spread, Hp, Wp, block, workers):
    """Write the pixels (phase_h + spread i, phase_w + spread j) of y, for i < Hp and j < Wp.

        y[...] = b + sum_{kh, kw} x[n, i step + top + kh, j step + left + kw] w[kh, kw]         where x is 0 outside

    x: (N, H, W, C_in). w: (KH KW C_in, C_out). b: (C_out,) or empty. y: (N, ., ., C_out).
    """
    blocks = -(-x.shape[0] * Hp * Wp // block)
    for worker in prange(workers):
        first, last = worker * blocks // workers, (worker + 1) * blocks // workers
        correlate_blocks(
            x, w, b, y, KH, KW, top, left, step, phase_h, phase_w, spread, Hp, Wp, block, first, last
        )  # fmt: skip


@njit(cache=True, nogil=True)
def correlate_blocks(x, w, b, y, KH, KW, top, left, step, phase_h, phase_w, spread, Hp, Wp, block, first, last):
    """One worker's part of `correlate`: blocks first to last - 1."""
    N, H, W, C_in = x.shape
    C_out = w.shape[1]
    pixels = N * Hp * Wp
    plain = KH * KW == 1 and step == 1  # 1x1: a pixel is already a row of the matrix
    x_rows, y_rows = x.reshape(N * H * W, C_in), y.reshape(-1, C_out)
    seen = np.empty((0 if plain else block, KH, KW, C_in), np.float32)
    apart = np.empty((0 if spread == 1 else block, C_out), np.float32)  # output rows that do not lie one after another
    for i in range(first, last):
        start, stop = i * block, min((i + 1) * block, pixels)
        if not plain:
            gather(x, seen, start, stop, Hp, Wp, top, left, step)
        rows = x_rows[start:stop] if plain else seen.reshape(block, -1)[: stop - start]
        out = y_rows[start:stop] if spread == 1 else apart[: stop - start]
        np.dot(rows, w, out)
        if len(b):
            for r in range(stop - start):
                for c in range(C_out):
                    out[r, c] += b[c]
        if spread > 1:
            for r in range(stop - start):
                n, h, j = picture_row_column(start + r, Hp, Wp)
                for c in range(C_out):
                    y[n, phase_h + spread * h, phase_w + spread * j, c] = out[r, c]


@njit(parallel=True, cache=True)
def filter_gradient(gy, x, parts, top, left, step, block):
    """Add up each worker's share of the filter's gradient in parts[worker]: (KH, KW, C_in, C_out), 0 before."""
    workers = len(parts)
    blocks = -(-gy.shape[0] * gy.shape[1] * gy.shape[2] // block)
    for worker in prange(workers):
        first, last = worker * blocks // workers, (worker + 1) * blocks // workers
        filter_gradient_blocks(gy, x, parts[worker], top, left, step, block, first, last)


@njit(cache=True, nogil=True)
def filter_gradient_blocks(gy, x, total, top, left, step, block, first, last):
    """One worker's part of `filter_gradient`: blocks first to last - 1."""
    N, Hy, Wy, C_out = gy.shape
    KH, KW, C_in, _ = total.shape
    pixels = N * Hy * Wy
    plain = KH * KW == 1 and step == 1
    x_rows, gy_rows, total = x.reshape(-1, C_in), gy.reshape(pixels, C_out), total.reshape(-1, C_out)
    seen = np.empty((0 if plain else block, KH, KW, C_in), np.float32)
    product = np.empty_like(total)
    for i in range(first, last):
        start, stop = i * block, min((i + 1) * block, pixels)
        if not plain:
            gather(x, seen, start, stop, Hy, Wy, top, left, step)
        rows = x_rows[start:stop] if plain else seen.reshape(block, -1)[: stop - start]
        np.dot(rows.T, gy_rows[start:stop], product)
        for k in range(len(total)):
            for c in range(C_out):
                total[k, c] += product[k, c]


@njit(cache=True, nogil=True)
def gather(x, seen, start, stop, Hp, Wp, top, left, step):
    """Copy what output pixels start to stop - 1 see of x into the rows of `seen` (block, KH, KW, C), 0 outside x.

    Every element is named by its full index: a slice for each pixel would cost three times what the copy does.
    """
    _, H, W, C = x.shape
    _, KH, KW, _ = seen.shape
    for r in range(stop - start):
        n, h, j = picture_row_column(start + r, Hp, Wp)
        h, j = h * step + top, j * step + left
        for kh in range(KH):
            for kw in range(KW):
                if 0 <= h + kh < H and 0 <= j + kw < W:
                    for c in range(C):
                        seen[r, kh, kw, c] = x[n, h + kh, j + kw, c]
                else:
                    for c in range(C):
                        seen[r, kh, kw, c] = 0


@njit(cache=True, nogil=True)
def picture_row_column(pixel, H, W):
    """Where pixel number `pixel` of a batch of H x W pictures lies."""
    return pixel // (H * W), pixel // W % H, pixel % W
