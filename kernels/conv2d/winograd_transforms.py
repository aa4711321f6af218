"""Winograd's F(4x4, 3x3): the transforms along one side of a tile, sixteen channels at a time, and of whole filters.

The equations stand in `winograd.py`, in NumPy. Along one side of a tile, 4 outputs see 6 pixels. A transform takes
numbers into the Winograd domain, where there is one number for each of 6 points, or back:

    B' d   6 pixels   -> 6 points        input_transform
    G w    3 weights  -> 6 points        filter_transform              filter_transform_transposed: back, for gradients
    A' m   6 points   -> 4 outputs       output_transform              output_transform_transposed: gradients of outputs

Each is a few additions; terms that two rows of its matrix have in common are computed once. In two dimensions a
transform is applied to columns and then to rows: 36 points. Filters and their gradients are transformed as a whole,
here; images are transformed block by block, in `winograd_forward.py` and `winograd_backward_filter.py`.

Reading order: after `winograd.py`.
"""

import numpy as np
from numba import prange

from minidiff.kernels.numba_compile import kernel, njit
from minidiff.kernels.numba_memory import empty, scratch
from minidiff.kernels.numba_product import WIDE, round_up
from minidiff.kernels.numba_threads import workers_for
from minidiff.kernels.numba_vector import (
    LANES,
    alloca,
    fma,
    load,
    load_six,
    masked_load,
    masked_store,
    pointer,
    store,
    store_six,
    transpose,
)

OUTPUT_TILE, INPUT_TILE = 4, 6  # pixels along a side of a tile: outputs, and what they see
POINTS = INPUT_TILE * INPUT_TILE

# ---- along one side of a tile: six points ---------------------------------------------------------------------------


@njit
def input_transform(d):
    """B' d: six pixels, one number for each of the points 0, 1, -1, 2, -2 and infinity; interpolation transposed."""
    d0, d1, d2, d3, d4, d5 = d
    four, two = np.float32(4), np.float32(2)
    even, odd = fma(-four, d2, d4), fma(-four, d1, d3)
    even_2, odd_2 = d4 - d2, d3 - d1
    return (
        fma(four, d0 - d2, even_2),
        even + odd,
        even - odd,
        fma(two, odd_2, even_2),
        fma(-two, odd_2, even_2),
        fma(four, d1 - d3, d5 - d3),
    )


@njit
def filter_transform(w):
    """G w: three weights, evaluated at the points and divided there by what interpolation has to divide by."""
    w0, w1, w2 = w
    sixth, twelfth = np.float32(1 / 6), np.float32(1 / 12)
    even, even_2 = -sixth * (w0 + w2), fma(np.float32(1 / 24), w0, sixth * w2)
    return (
        np.float32(0.25) * w0,
        fma(-sixth, w1, even),
        fma(sixth, w1, even),
        fma(twelfth, w1, even_2),
        fma(-twelfth, w1, even_2),
        w2,
    )


@njit
def output_transform(m):
    """A' m: four outputs from the products at the points; evaluation of a cubic polynomial transposed."""
    m0, m1, m2, m3, m4, m5 = m
    two, four, eight = np.float32(2), np.float32(4), np.float32(8)
    even, odd, even_2, odd_2 = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    return m0 + even + even_2, fma(two, odd_2, odd), fma(four, even_2, even), fma(eight, odd_2, odd) + m5


@njit
def output_transform_transposed(g):
    """A g: the gradients of four outputs, evaluated at the points; `output_transform` transposed."""
    g0, g1, g2, g3 = g
    two, four = np.float32(2), np.float32(4)
    even, odd = g0 + g2, g1 + g3
    even_2, odd_2 = fma(four, g2, g0), fma(four, g3, g1)
    return g0, even + odd, even - odd, fma(two, odd_2, even_2), fma(-two, odd_2, even_2), g3


@njit
def filter_transform_transposed(u):
    """G' u: the gradients of three weights; `filter_transform` transposed."""
    u0, u1, u2, u3, u4, u5 = u
    sixth, twelfth = np.float32(1 / 6), np.float32(1 / 12)
    even, even_2 = u1 + u2, u3 + u4
    return (
        fma(np.float32(1 / 24), even_2, fma(-sixth, even, np.float32(0.25) * u0)),
        fma(sixth, u2 - u1, twelfth * (u3 - u4)),
        fma(sixth, even_2 - even, u5),
    )


@njit
def always_zero(point):
    """Return whether an upsampled image is 0 at this point: it is at -1, the third of six, along either side."""
    return point // INPUT_TILE == 2 or point % INPUT_TILE == 2


# ---- filters, and their gradients -----------------------------------------------------------------------------------


def transform_filter(w: np.ndarray, rotated: bool = False, keep: bool = False) -> np.ndarray:
    """Return U = G w G' for a filter w (3, 3, C_in, C_out): (36, C_in times C_out rounded up to 16, and a vector more).

    At each point the columns stand in panels of 32, each (C_in, 32); the last may be (C_in, 16).
    rotated: by 180 degrees, with input and output channels swapped: the filter that makes the gradient of x.
    keep: the result must hold longer than until the next call, so it gets memory of its own.
    """
    rows, columns = w.shape[2:][::-1] if rotated else w.shape[2:]
    shape = POINTS, rows * round_up(columns, LANES) + LANES
    U = empty(shape) if keep else scratch("filter", shape)[0]
    transform_filter_all(w, U, rotated, workers_for(30 * w.size))
    return U


def filter_gradient(totals: np.ndarray, w_shape: tuple[int, ...]) -> np.ndarray:
    """Return gw = G' (sum of totals) G, (3, 3, C_in, C_out). totals: (workers, 36, C_in C_out rounded)."""
    gw = empty(w_shape)
    filter_gradient_all(totals, gw, workers_for(30 * gw.size))
    return gw


@kernel
def transform_filter_all(w, U, rotated, workers):
    """`transform_filter`, each worker with its share of the columns, as they are shared out where U is read."""
    vectors = -(-(w.shape[2] if rotated else w.shape[3]) // LANES)
    for worker in prange(workers):
        first, last = np.int64(worker) * vectors // workers, (np.int64(worker) + 1) * vectors // workers
        transform_filter_columns(w, U, rotated, LANES * first, LANES * last)


@njit
def transform_filter_columns(w, U, rotated, first, last):
    """Columns first to last - 1 of U at every point: output channels, or input channels if `rotated`."""
    _, _, C_in, C_out = w.shape
    rows, columns = (C_out, C_in) if rotated else (C_in, C_out)
    K, apart = -(-columns // LANES) * LANES, U.shape[1]
    from_w, into, weights, half = pointer(w), pointer(U), alloca(144), alloca(18)  # weights: nine of each of 16 rows
    for j in range(first, last, LANES):
        width = min(WIDE, K - j // WIDE * WIDE)  # of this panel
        start = j // WIDE * WIDE * rows + j % WIDE
        for i in range(0, rows, LANES):
            count, whole = min(LANES, rows - i), i + LANES <= rows and j + LANES <= columns
            for k in range(9):
                if rotated and whole:
                    transpose(from_w, ((8 - k) * C_in + j) * C_out + i, C_out, weights, k * LANES, 9 * LANES)
                elif rotated:
                    for row in range(count):
                        for lane in range(LANES):
                            inside = j + lane < columns
                            weight = w[2 - k // 3, 2 - k % 3, j + lane, i + row] if inside else np.float32(0)
                            weights[(9 * row + k) * LANES + lane] = weight
                else:
                    for row in range(count):
                        at = (k * C_in + i + row) * C_out + j
                        store(weights, (9 * row + k) * LANES, masked_load(from_w, at, columns - j))
            for row in range(count):
                for k in range(3):
                    at = (9 * row + k) * LANES
                    column = load(weights, at), load(weights, at + 3 * LANES), load(weights, at + 6 * LANES)
                    store_six(half, k * LANES, 3 * LANES, filter_transform(column))
                for p in range(INPUT_TILE):
                    at = 3 * p * LANES
                    line = load(half, at), load(half, at + LANES), load(half, at + 2 * LANES)
                    store_six(into, 6 * p * apart + start + (i + row) * width, apart, filter_transform(line))


@kernel
def filter_gradient_all(totals, gw, workers):
    """`filter_gradient`, each worker with its share of the input channels."""
    rows = gw.shape[2]
    for worker in prange(workers):
        filter_gradient_rows(totals, gw, worker * rows // workers, (worker + 1) * rows // workers)


@njit
def filter_gradient_rows(totals, gw, first, last):
    """Input channels first to last - 1 of gw."""
    parts, _, apart = totals.shape
    _, _, C_in, C_out = gw.shape
    K = -(-C_out // LANES) * LANES
    from_totals, into, whole, half = pointer(totals), pointer(gw), alloca(36), alloca(18)
    for i in range(first, last):
        for j in range(0, C_out, LANES):
            for p in range(POINTS):
                at = p * apart + i * K + j
                total = load(from_totals, at)
                for part in range(1, parts):  # in the order of the workers
                    total = total + load(from_totals, part * POINTS * apart + at)
                store(whole, p * LANES, total)
            for p in range(INPUT_TILE):
                column = filter_transform_transposed(load_six(whole, p * LANES, INPUT_TILE * LANES))
                store(half, p * LANES, column[0])
                store(half, (6 + p) * LANES, column[1])
                store(half, (12 + p) * LANES, column[2])
            for k in range(3):
                row = filter_transform_transposed(load_six(half, 6 * k * LANES, LANES))
                at = (3 * k * C_in + i) * C_out + j
                masked_store(into, at, row[0], C_out - j)
                masked_store(into, at + C_in * C_out, row[1], C_out - j)
                masked_store(into, at + 2 * C_in * C_out, row[2], C_out - j)
