"""Packing for the implicit GEMM: filters into panels, and image lines into a buffer that stays in a thread's cache.

A product of matrices reads its operands from one end to the other, so both are first copied into that order. Filters
become panels of 32 columns. Of the images, a thread packs those lines that a block of outputs sees, with the zeros
around the image. Each number of an image is packed once, not KH KW times as in im2col: two tables of offsets,
`pixels` and `positions`, say where the KH KW C_in numbers lie that an output sees.

Reading order: before `implicit_gemm.py`, which multiplies what is packed here.
"""

from typing import NamedTuple

import numpy as np
from numba import prange

from minidiff.kernels.numba_compile import kernel, njit
from minidiff.kernels.numba_memory import scratch
from minidiff.kernels.numba_product import ROWS, WIDE, round_up
from minidiff.kernels.numba_threads import workers_for
from minidiff.kernels.numba_vector import LANES, masked_load, masked_store, pointer, store, transpose

# Python's own 0 is a type of its own to the compiler: `copy` would be compiled once more for it.
ZERO = np.int64(0)


class Window(NamedTuple):
    """Which pixels the output (i, j) sees: (i stride + top + kh, j stride + left + kw), for kh < KH and kw < KW."""

    KH: int
    KW: int
    top: int
    left: int
    stride: int


class Positions(NamedTuple):
    """The KH x KW positions of a filter that are packed: (first_h + step_h h, first_w + step_w v), h < KH, v < KW."""

    first_h: int
    step_h: int
    KH: int
    first_w: int
    step_w: int
    KW: int


def pack_filter(
    w: np.ndarray, kh: range | None = None, kw: range | None = None, transposed: bool = False
) -> np.ndarray:
    """Return a filter (KH, KW, C_in, C_out) as a matrix (len(kh) len(kw) C_in, C_out rounded up to 16), in panels.

    The columns that are added hold zeros. A panel is 32 columns, stored as (rows, 32); the last may be (rows, 16).
    kh, kw: which of the filter's positions are packed, and in which order; all by default.
    transposed: C_in and C_out change places.
    The result is scratch memory: it holds until the next filter is packed.
    """
    kh, kw = kh or range(w.shape[0]), kw or range(w.shape[1])
    depth, columns = w.shape[2:][::-1] if transposed else w.shape[2:]
    (panels,) = scratch("filter", (len(kh) * len(kw) * depth, round_up(columns, LANES)))
    positions = kh.start, kh.step, len(kh), kw.start, kw.step, len(kw)
    pack_filter_all(w, positions, transposed, panels, min(depth, workers_for(8 * panels.size)))
    return panels


@kernel
def pack_filter_all(w, positions, transposed, panels, workers):
    """`pack_filter`, each worker with its share of the depth. positions: the numbers of `Positions`."""
    positions = Positions(*positions)
    depth = w.shape[3] if transposed else w.shape[2]
    for worker in prange(workers):
        last = (worker + 1) * depth // workers
        for first in range(worker * depth // workers, last, LANES):
            pack_filter_rows(w, positions, transposed, panels, first, min(LANES, last - first))


@njit
def pack_filter_rows(w, positions, transposed, panels, first, count):
    """At each position, rows first to first + count - 1 of the depth; count is at most 16."""
    depth, columns = (w.shape[3], w.shape[2]) if transposed else (w.shape[2], w.shape[3])
    rows, K = panels.shape
    from_w, into = pointer(w), pointer(panels)
    for h in range(positions.KH):
        for v in range(positions.KW):
            kh, kw = positions.first_h + positions.step_h * h, positions.first_w + positions.step_w * v
            row = (h * positions.KW + v) * depth + first
            position = kh * w.shape[1] + kw
            for j in range(0, K, LANES):
                width = min(WIDE, K - j // WIDE * WIDE)  # of this panel
                at = j // WIDE * WIDE * rows + row * width + j % WIDE
                if transposed and count == LANES and j + LANES <= columns:
                    transpose(from_w, (position * columns + j) * depth + first, depth, into, at, width)
                elif transposed:
                    for i in range(count):
                        for c in range(LANES):
                            into[at + i * width + c] = w[kh, kw, j + c, first + i] if j + c < columns else np.float32(0)
                else:
                    for i in range(count):
                        row_of_w = (position * depth + first + i) * columns + j
                        store(into, at + i * width, masked_load(from_w, row_of_w, columns - j))


@njit
def position_offsets(window, C, per_line):
    """Where the KH KW C numbers that an output sees lie, counted from the first; the last is repeated to whole ROWS.

    per_line: outputs a line, which tells how long a packed line is.
    """
    row, line = window.KW * C, ((per_line - 1) * window.stride + window.KW) * C
    positions = np.empty(-(-window.KH * row // ROWS) * ROWS, np.int64)
    for i in range(len(positions)):
        k = min(i, window.KH * row - 1)
        positions[i] = k // row * line + k % row
    return positions


@njit
def pack_lines(x, window, lines_per_image, per_line, start, stop, seen, pixels):
    """Fill `seen` with the lines of x that output lines start to stop - 1 see, with the zeros around the image.

    pixels: filled with the place in `seen` where each output's window begins; the last is repeated until it is full.
    A 1x1 filter with stride 1 sees x as it lies: only `pixels` is filled.
    """
    _, H, W, C = x.shape
    KH, KW, top, left, stride = window
    from_x, into = pointer(x), pointer(seen)
    length, copied = ((per_line - 1) * stride + KW) * C, KH * KW * stride > 1
    before = min(length, max(0, -left) * C)
    inside = max(0, min(length - before, (W - max(0, left)) * C))
    base = have = 0  # the packed line where the window begins, and how many lines are packed
    for line in range(start, stop):
        n, h = line // lines_per_image, line % lines_per_image * stride + top
        base = have if line == start or h == top else base + stride
        for j in range(per_line):
            pixels[(line - start) * per_line + j] = base * length + j * stride * C
        for i in range(max(base, have), base + KH):
            row = h + i - base
            source = ((n * H + row) * W + max(0, left)) * C
            if copied and 0 <= row < H:
                copy(into, i * length, from_x, ZERO, ZERO, before)
                copy(into, i * length + before, from_x, source, inside, inside)
                copy(into, i * length + before + inside, from_x, ZERO, ZERO, length - before - inside)
            elif copied:
                copy(into, i * length, from_x, ZERO, ZERO, length)
        have = base + KH
    count = (stop - start) * per_line
    for i in range(count, len(pixels)):
        pixels[i] = pixels[count - 1]


@njit
def copy(into, to, x, source, count, length):
    """Copy `count` numbers of x, and write zeros behind them up to `length` numbers."""
    for c in range(0, length, LANES):
        masked_store(into, to + c, masked_load(x, source + c, count - c), length - c)
