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

BLOCK = 1 << 16  # numbers in a thread's buffer: 256 KiB, a quarter of its L2 cache; BLAS packs its own copy beside it
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
    parts = np.zeros((workers, seen, C_out), np.float32)
    filter_gradient(gy, x, parts, KH, KW, -(KH // 2), -(KW // 2), stride, _block(pixels, seen, workers))
    return parts.sum(0).reshape(w_shape)  # in the order of the workers


def _correlate(x, w, b, y, size, first, step, phase, spread):
    _, H, W, C_out = y.shape
    Hp, Wp = len(range(phase[0], H, spread)), len(range(phase[1], W, spread))
    pixels, seen = x.shape[0] * Hp * Wp, w.shape[0]
    workers = workers_for(pixels * seen * C_out)
    correlate(x, w, b, y, *size, *first, step, *phase, spread, Hp, Wp, _block(pixels, seen, workers), workers)


def _block(pixels, seen, workers):
    """Output pixels a block: what fits the buffer, at least one block a worker, in steps of 16 as BLAS likes."""
    fits = min(max(BLOCK // seen, 64), 1024)
    share = -(-pixels // workers)
    return max(1, min(fits, -(-share // 16) * 16))


@njit(parallel=True, cache=True)
def correlate(x, w, b, y, KH, KW, top, left, step, phase_h, phase_w, spread, Hp, Wp, block, workers):
    """Write the pixels (phase_h + spread i, phase_w + spread j) of y, for i < Hp, j < Wp.

        y[...] = b + sum_{kh, kw} x[n, i step + top + kh, j step + left + kw] w[kh, kw]       x is 0 outside

    x (N, H, W, C_in), w (KH KW C_in, C_out), b (C_out,) or empty, y (N, ., ., C_out).
    """
    pixels = x.shape[0] * Hp * Wp
    blocks = (pixels + block - 1) // block
    for worker in prange(workers):
        correlate_blocks(
            x, w, b, y, KH, KW, top, left, step, phase_h, phase_w, spread, Hp, Wp, block,
            worker * blocks // workers, (worker + 1) * blocks // workers,
        )  # fmt: skip


@njit(cache=True, nogil=True)
def correlate_blocks(
    x, w, b, y, KH, KW, top, left, step, phase_h, phase_w, spread, Hp, Wp, block, first_block, last_block
):
    N, H, W, C_in = x.shape
    C_out = w.shape[1]
    pixels = N * Hp * Wp
    plain = KH * KW == 1 and step == 1  # 1x1: the pixels are the rows already
    x_rows = x.reshape(N * H * W, C_in)
    y_rows = y.reshape(-1, C_out)
    seen = np.empty((1 if plain else block, w.shape[0]), np.float32)
    out = np.empty((1 if spread == 1 else block, C_out), np.float32)
    for i in range(first_block, last_block):
        start, stop = i * block, min((i + 1) * block, pixels)
        if not plain:
            gather(x, seen, start, stop, Hp, Wp, KH, KW, top, left, step)
        rows = x_rows[start:stop] if plain else seen[: stop - start]
        target = y_rows[start:stop] if spread == 1 else out[: stop - start]
        np.dot(rows, w, target)
        if len(b):
            for r in range(stop - start):
                row = target[r]
                for c in range(C_out):
                    row[c] += b[c]
        if spread > 1:
            for r in range(stop - start):
                pixel = start + r
                n, h, j = pixel // (Hp * Wp), pixel // Wp % Hp, pixel % Wp
                row, to = target[r], y[n, phase_h + spread * h, phase_w + spread * j]
                for c in range(C_out):
                    to[c] = row[c]


@njit(cache=True, nogil=True)
def gather(x, seen, start, stop, Hp, Wp, KH, KW, top, left, step):
    """Fill row r of `seen` with the KH KW C_in numbers that pixel start + r sees, zeros outside the picture."""
    _, H, W, C = x.shape
    flat = x.reshape(-1)
    for r in range(stop - start):
        pixel = start + r
        n, h, j = pixel // (Hp * Wp), pixel // Wp % Hp * step + top, pixel % Wp * step + left
        a, z = max(0, -j) , min(KW, W - j)
        row = seen[r]
        for kh in range(KH):
            to = row[kh * KW * C : (kh + 1) * KW * C]
            if h + kh < 0 or h + kh >= H or z <= a:
                to[:] = 0
            elif a == 0 and z == KW:
                at = ((n * H + h + kh) * W + j) * C
                source = flat[at : at + KW * C]
                for c in range(KW * C):
                    to[c] = source[c]
            else:
                at = ((n * H + h + kh) * W + j + a) * C
                source = flat[at : at + (z - a) * C]
                inner = to[a * C : z * C]
                to[: a * C] = 0
                for c in range((z - a) * C):
                    inner[c] = source[c]
                to[z * C :] = 0


@njit(parallel=True, cache=True)
def filter_gradient(gy, x, parts, KH, KW, top, left, step, block):
    """Add up each worker's share of the filter's gradient into parts[worker] (KH KW C_in, C_out), which come as 0."""
    N, Hy, Wy, _ = gy.shape
    blocks = (N * Hy * Wy + block - 1) // block
    workers = len(parts)
    for worker in prange(workers):
        filter_gradient_blocks(
            gy, x, parts[worker], KH, KW, top, left, step, block,
            worker * blocks // workers, (worker + 1) * blocks // workers,
        )  # fmt: skip


@njit(cache=True, nogil=True)
def filter_gradient_blocks(gy, x, total, KH, KW, top, left, step, block, first_block, last_block):
    N, Hy, Wy, C_out = gy.shape
    pixels = N * Hy * Wy
    plain = KH * KW == 1 and step == 1
    gy_rows = gy.reshape(pixels, C_out)
    x_rows = x.reshape(-1, x.shape[3])
    seen = np.empty((1 if plain else block, len(total)), np.float32)
    product = np.empty_like(total)
    for i in range(first_block, last_block):
        start, stop = i * block, min((i + 1) * block, pixels)
        if not plain:
            gather(x, seen, start, stop, Hy, Wy, KH, KW, top, left, step)
        rows = x_rows[start:stop] if plain else seen[: stop - start]
        np.dot(rows.T, gy_rows[start:stop], product)
        for k in range(len(total)):
            total_row, product_row = total[k], product[k]
            for c in range(C_out):
                total_row[c] += product_row[c]
