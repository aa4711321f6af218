"""Convolution as a product of two matrices of which the first is never written to memory: implicit GEMM.

im2col (`ladder.py`) copies the KH KW C_in numbers that an output pixel sees into a row of a matrix, makes the filter
another matrix (KH KW C_in, C_out), and multiplies the two. The first matrix holds each number of x KH KW times. Here it
is not written. Each thread takes a block of whole lines of outputs. The lines of x that these outputs see are packed
once, with zeros around the image, into a buffer that stays in the thread's cache (`pack.py`). In this buffer, the
number that output pixel p sees at filter position k lies at pixels[p] + positions[k]: two short tables stand for the
matrix.

In NumPy, for one block:

    rows = seen[pixels[:, None] + positions]        # (pixels, KH KW C_in), what im2col would write
    y = rows @ w + bias + residual                  # forward
    gw += rows.T @ gy                               # backward_filter: the tables change places

`backward_data`, the gradient of x, is a forward convolution of gy with the filter rotated by 180 degrees and its
channels swapped. With stride 2, pixels of x in even and odd rows and columns were seen through different filter
positions. So each of these four kinds of pixels is a convolution of its own, with its own positions.

A 1x1 filter over a few pixels, as in the layers of a time embedding, is a product of two small matrices. NumPy's BLAS
computes it in less time than a call of a kernel takes.

Reading order: after `pack.py`; `few_channels.py` is the case of fewer than 8 output channels.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import prange

from minidiff.kernels.conv2d.few_channels import forward_few
from minidiff.kernels.conv2d.pack import Window, copy, pack_filter, pack_lines, position_offsets
from minidiff.kernels.numba_compile import kernel, njit
from minidiff.kernels.numba_memory import empty, scratch, zeros
from minidiff.kernels.numba_product import ROWS, WIDE, multiply, multiply_by_table, round_up
from minidiff.kernels.numba_threads import workers_for
from minidiff.kernels.numba_vector import LANES, load, masked_load, masked_store, offset, pointer

BUFFER = 1 << 15  # numbers in a thread's lines and outputs: 128 KiB, so that they stay in its cache with the filter
FEW = 8  # channels: half a vector
SMALL = 2_000_000  # multiplications of a product that is left to BLAS
NOTHING, NO_BIAS = np.empty(0, np.float32), np.empty((0, 0), np.float32)


class Grid(NamedTuple):
    """Which pixels of y are computed: (phase_h + step i, phase_w + step j), for j < per_line and all i.

    block: how many lines of them a thread computes at a time.
    """

    phase_h: int
    phase_w: int
    step: int
    per_line: int
    block: int


def forward(
    x: np.ndarray,
    w: np.ndarray,
    y_shape: tuple[int, ...],
    stride: int = 1,
    bias: np.ndarray = NO_BIAS,
    residual: np.ndarray = NOTHING,
) -> np.ndarray:
    """`reference.conv2d` of x (N, H, W, C_in) and w (KH, KW, C_in, C_out); returns an array of y_shape.

    bias: (1 or N, C_out rounded up to 16), or empty. residual: an array like the result that is added to it, or empty.
    """
    KH, KW, C_in, C_out = w.shape
    if is_small_product(x.shape, w.shape, stride):
        added = bias[:, None, :C_out] if bias.size else 0
        y = (x.reshape(len(x), -1, C_in) @ w[0, 0] + added).reshape(y_shape)
        return y + residual if residual.size else y
    y = empty(y_shape)
    if C_out < FEW and stride == 1:
        return forward_few(x, w, bias, residual, y, BUFFER)
    _forward(x, pack_filter(w), bias, residual, y, Window(KH, KW, -(KH // 2), -(KW // 2), stride), (0, 0), 1)
    return y


def backward_data(
    gy: np.ndarray, w: np.ndarray, x_shape: tuple[int, ...], stride: int = 1, gx_so_far: np.ndarray = NOTHING
) -> np.ndarray:
    """`reference.conv2d_grad_x`. gx_so_far: an array like the result that is added to it, or empty.

    Output row i saw row h of x through filter row kh = h + pad - i stride. Among the rows h = phase + stride a of one
    phase, these are every stride-th kh, and i = a + (phase + pad - kh) / stride: a convolution with those positions.
    """
    KH, KW, C_in, C_out = w.shape
    if is_small_product(x_shape, w.shape, stride):
        gx = (gy.reshape(-1, C_out) @ w[0, 0].T).reshape(x_shape)
        return gx + gx_so_far if gx_so_far.size else gx
    gx = empty(x_shape)
    if C_in < FEW and stride == 1:
        return forward_few(gy, w[::-1, ::-1].swapaxes(2, 3), NO_BIAS, gx_so_far, gx, BUFFER)
    for phase_h in range(stride):
        kh = positions_of_phase(KH, phase_h, stride)
        for phase_w in range(stride):
            kw = positions_of_phase(KW, phase_w, stride)
            if not kh or not kw:
                unseen = np.s_[:, phase_h::stride, phase_w::stride]  # pixels that no output saw
                gx[unseen] = gx_so_far[unseen] if gx_so_far.size else 0
                continue
            top, left = (phase_h + KH // 2 - kh[0]) // stride, (phase_w + KW // 2 - kw[0]) // stride
            window = Window(len(kh), len(kw), top, left, 1)
            panels = pack_filter(w, kh, kw, transposed=True)
            _forward(gy, panels, NO_BIAS, gx_so_far, gx, window, (phase_h, phase_w), stride)
    return gx


def backward_filter(gy: np.ndarray, x: np.ndarray, w_shape: tuple[int, ...], stride: int = 1) -> np.ndarray:
    """`reference.conv2d_grad_w`."""
    KH, KW, C_in, C_out = w_shape
    if is_small_product(x.shape, w_shape, stride):
        return (x.reshape(-1, C_in).T @ gy.reshape(-1, C_out)).reshape(w_shape)
    if C_out < min(FEW, C_in) and stride == 1:
        exchanged = backward_filter(x, gy, (KH, KW, C_out, C_in))
        return exchanged[::-1, ::-1].swapaxes(2, 3).copy()
    if not gy.size:
        return zeros(w_shape)
    N, H, W, _ = gy.shape
    depth, window = KH * KW * C_in, Window(KH, KW, -(KH // 2), -(KW // 2), stride)
    block, shapes = _blocks(x.shape, window, N * H, W, C_out)
    totals_shape = (shapes[0][0], round_up(depth, ROWS), round_up(C_out, LANES))
    seen, gradients, totals = scratch("kernel", *shapes, totals_shape)
    backward_filter_all(gy, x, tuple(window), block, seen, gradients, totals)
    total = totals.sum(0)  # in the order of the workers
    return (total if total.shape == (depth, C_out) else total[:depth, :C_out].copy()).reshape(w_shape)


def is_small_product(x_shape: tuple[int, ...], w_shape: tuple[int, ...], stride: int) -> bool:
    """Return whether a convolution is the product of two matrices, and one that is too small for several threads."""
    multiplications = math.prod(x_shape[:3]) * w_shape[2] * w_shape[3]
    return w_shape[0] * w_shape[1] * stride == 1 and 0 < multiplications < SMALL


def positions_of_phase(size: int, phase: int, stride: int) -> range:
    """Return the filter positions through which pixels of this phase are seen, from the last to the first."""
    last = size - 1 - (size - 1 - phase - size // 2) % stride
    return range(last, -1, -stride)


def _forward(x, panels, bias, residual, y, window, phase, step):
    N, H, W, C_out = y.shape
    lines, per_line = N * len(range(phase[0], H, step)), len(range(phase[1], W, step))
    if not lines * per_line:
        return
    block, shapes = _blocks(x.shape, window, lines, per_line, C_out)
    seen, outputs = scratch("kernel", *shapes)
    grid = (*phase, step, per_line, block)
    forward_all(x, panels, bias, residual.reshape(-1), y, tuple(window), grid, seen, outputs)


def _blocks(x_shape, window, lines, per_line, C_out):
    """Cut `lines` lines of `per_line` outputs, those of all images together, into blocks.

    Returns how many lines a block has, and the shapes of two buffers for every worker: what a block sees, its outputs.
    """
    KH, KW, _, _, stride = window
    C, K = x_shape[3], round_up(C_out, LANES)
    workers = min(lines, workers_for(lines * per_line * KH * KW * C * C_out))
    length, share = ((per_line - 1) * stride + KW) * C, -(-lines // workers)
    most = max(1, BUFFER // (length * stride + per_line * K), -(-4 * ROWS // per_line))
    block = -(-share // -(-share // most))
    return block, ((workers, block * max(stride, KH) * length), (workers, round_up(block * per_line, ROWS), K))


@kernel
def forward_all(x, panels, bias, residual, y, window, grid, seen, outputs):
    """Write the pixels of y that `grid` names.

        y[...] = bias + residual[...] + sum_{kh, kw} x[n, i stride + top + kh, j stride + left + kw] w[kh, kw]

    where x is 0 outside. x: (N, H, W, C_in). panels: (KH KW C_in, K), from `pack_filter`. bias: (1 or N, K), or empty.
    residual: as many numbers as y, or empty. y: (N, ., ., C_out). seen, outputs: buffers, from `_blocks`.
    window, grid: as plain tuples, which Numba takes faster from Python than named ones.
    """
    window, grid = Window(*window), Grid(*grid)
    positions = position_offsets(window, x.shape[3], grid.per_line)
    workers, lines = len(seen), len(y) * -(-(y.shape[1] - grid.phase_h) // grid.step)
    for worker in prange(workers):
        pixels = np.empty(outputs.shape[1], np.int64)
        end = (worker + 1) * lines // workers
        for first in range(worker * lines // workers, end, grid.block):
            forward_block(
                x, panels, bias, residual, y, window, grid, (first, min(first + grid.block, end)),
                positions, pixels, seen[worker], outputs[worker],
            )  # fmt: skip


@njit
def forward_block(x, panels, bias, residual, y, window, grid, lines, positions, pixels, seen, outputs):
    """The output lines from lines[0] to lines[1] - 1."""
    start, stop = lines
    depth, K = panels.shape
    _, H, W, C_out = y.shape
    per_line, lines_per_image = grid.per_line, -(-(H - grid.phase_h) // grid.step)
    count = (stop - start) * per_line
    pack_lines(x, window, lines_per_image, per_line, start, stop, seen, pixels)
    w, out, from_bias, from_residual, into = (
        pointer(panels), pointer(outputs), pointer(bias), pointer(residual), pointer(y)
    )  # fmt: skip
    a, out_at, positions_k, pointwise = pointer(seen), 0, pointer(positions), window.KH * window.KW * window.stride == 1
    if pointwise:  # pixels are rows already
        a = offset(pointer(x), start * per_line * depth)
    in_place = count % ROWS == 0 and grid.step == 1 and C_out == K  # the products are written where the outputs lie
    if in_place:
        out, out_at = into, start * per_line * K
    for j in range(0, K, WIDE):
        width, panel = min(WIDE, K - j), offset(w, j * depth)
        for r in range(0, count, ROWS):
            to = offset(out, out_at + r * K + j)
            if pointwise and r + ROWS <= count:
                multiply(width, offset(a, r * depth), depth, 1, panel, width, to, K, depth, False)
            else:
                pixels_r = offset(pointer(pixels), r)
                multiply_by_table(width, a, pixels_r, positions_k, panel, width, to, K, depth, False)
    if in_place and bias.size + residual.size == 0:
        return
    for line in range(start, stop):
        n, h = line // lines_per_image, grid.phase_h + grid.step * (line % lines_per_image)
        for j in range(per_line):
            to, r = ((n * H + h) * W + grid.phase_w + grid.step * j) * C_out, (line - start) * per_line + j
            for c in range(0, C_out, LANES):
                value = load(out, out_at + r * K + c)
                if bias.size:
                    value = value + load(from_bias, n % len(bias) * K + c)
                if residual.size:
                    value = value + masked_load(from_residual, to + c, C_out - c)
                masked_store(into, to + c, value, C_out - c)


@kernel
def backward_filter_all(gy, x, window, block, seen, gradients, totals):
    """Fill totals[worker], (KH KW C_in rounded, C_out rounded), with each worker's share of the filter's gradient."""
    window = Window(*window)
    positions = position_offsets(window, x.shape[3], gy.shape[2])
    workers, lines = len(seen), gy.shape[0] * gy.shape[1]
    for worker in prange(workers):
        pixels = np.empty(gradients.shape[1], np.int64)
        totals[worker] = 0
        end = (worker + 1) * lines // workers
        for first in range(worker * lines // workers, end, block):
            backward_filter_block(
                gy, x, window, first, min(first + block, end),
                positions, pixels, seen[worker], gradients[worker], totals[worker],
            )  # fmt: skip


@njit
def backward_filter_block(gy, x, window, start, stop, positions, pixels, seen, gradients, total):
    """The contribution of output lines start to stop - 1 to the filter's gradient, added to `total`."""
    _, Hy, Wy, C_out = gy.shape
    depth, K = total.shape
    count = (stop - start) * Wy
    pack_lines(x, window, Hy, Wy, start, stop, seen, pixels)
    a, g, sums, pixels_k = pointer(seen), offset(pointer(gy), start * Wy * C_out), pointer(total), pointer(pixels)
    one_position = window.KH * window.KW * window.stride == 1
    if one_position:
        a = offset(pointer(x), start * Wy * x.shape[3])
    if C_out < K:  # gradients with zeros beside them, in whole vectors
        for r in range(count):
            copy(pointer(gradients), r * K, g, r * C_out, C_out, K)
        g = pointer(gradients)
    pointwise = one_position and depth == x.shape[3]
    for j in range(0, K, WIDE):
        width, columns = min(WIDE, K - j), offset(g, j)
        for i in range(0, depth, ROWS):
            to = offset(sums, i * K + j)
            if pointwise:
                multiply(width, offset(a, i), 1, depth, columns, K, to, K, count, True)
            else:
                positions_i = offset(pointer(positions), i)
                multiply_by_table(width, a, positions_i, pixels_k, columns, K, to, K, count, True)
