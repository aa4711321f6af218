"""Winograd's convolution on the CPU, a block of tiles at a time: the outputs, and the gradient of the input.

`winograd.py` transforms the whole batch and then multiplies it. Here a thread takes a block of whole rows of tiles,
which stays in its core's cache, through all three steps before it takes the next block:

    pixels = pack(x, block)                      # the lines that the block sees, with zeros around the image
    V = input_transform(pixels)                  # (36, tiles, C)
    for point in range(36):
        M[point] = V[point] @ U[point]           # (tiles, C) by (C, K), by the micro-kernel
    y[block] = output_transform(M) + bias + residual

With few tiles, most of the time goes into reading U. Then a thread takes all tiles, and a part of the columns of U.

What comes before and after a convolution is done on the way, where it costs no trip to memory:

- pixels may be normalised and sent through SiLU while they are packed;
- the image may be upsampled (x[h // 2, w // 2]) while it is packed. A tile then sees (a, b, b, c, c, d), and
  B' d is always 0 at the point -1: d4 - d3 + 4 (d1 - d2) = c - c + 4 (b - b). So 5 x 5 points of 36 remain;
- bias and residual are added to the outputs while they are written; or each 2x2 outputs are summed, which is the
  gradient of upsampling.

Reading order: after `winograd_transforms.py`.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from numba import prange

from minidiff.kernels.conv2d.winograd_transforms import (
    INPUT_TILE,
    OUTPUT_TILE,
    POINTS,
    always_zero,
    input_transform,
    output_transform,
)
from minidiff.kernels.numba_compile import kernel, njit
from minidiff.kernels.numba_core import TILES
from minidiff.kernels.numba_memory import empty, scratch
from minidiff.kernels.numba_product import ROWS, WIDE, multiply, round_up
from minidiff.kernels.numba_threads import workers_for
from minidiff.kernels.numba_vector import (
    LANES,
    alloca,
    fma,
    load,
    load_six,
    masked_load,
    masked_store,
    offset,
    pointer,
    prefetch,
    prefetch_to_write,
    sigmoid,
    splat,
    store,
    store_four,
    store_six,
)

FEW_TILES = 32  # for each thread: with no more, threads share out the columns of the filter as well
NOTHING, NO_BIAS = np.empty(0, np.float32), np.empty((0, 0), np.float32)


class Tiling(NamedTuple):
    """How the tiles of 4x4 outputs are counted and cut: rows of tiles in all images, of one image, and of a block.

    parts: in how many parts the columns of the filter are shared out; each part is that of several workers, or of one.
    """

    rows: int
    rows_per_image: int
    tiles_per_row: int
    block: int
    parts: int


class Buffers(NamedTuple):
    """Memory of all workers, with the workers as first axis; or of one worker, without that axis.

    pixels: (lines, pixels a line, C), what a block sees. V: (36, tiles times C, and a vector more), the input tiles.
    M: (36, tiles times K, and a vector more), the products, or the outputs' gradients when gw is computed.
    The vector more keeps the points apart: what lies powers of two apart falls on one set of the cache, and 36 points
    are more than a set holds.
    """

    pixels: np.ndarray
    V: np.ndarray
    M: np.ndarray


class Plan:
    """How N images of H x W outputs are cut into blocks of rows of tiles.

    C, K: channels in and out, rounded up to full vectors. shapes: of `Buffers`, for all workers.
    block_size: numbers of a block in the Winograd domain, V and M together.
    cut_columns: whether the columns of the filter may be cut as well.
    """

    def __init__(
        self, N: int, H: int, W: int, C_in: int, C_out: int, block_size: int = TILES, cut_columns: bool = False
    ) -> None:
        self.C, self.K = round_up(C_in, LANES), round_up(C_out, LANES)
        rows_per_image, per_row = -(-H // OUTPUT_TILE), -(-W // OUTPUT_TILE)
        rows = N * rows_per_image
        most_workers = workers_for(rows * per_row * POINTS * C_in * C_out)
        few = cut_columns and rows * per_row <= FEW_TILES * most_workers
        parts = min(-(-C_out // WIDE), most_workers) if few else 1
        takers = min(rows, most_workers // parts)  # of the rows, in each part of the columns
        self.workers = takers * parts
        full = ROWS // math.gcd(ROWS, per_row)  # so many rows of tiles fill all rows of every product
        share = -(-rows // (takers * full))
        most = max(1, block_size // (POINTS * (self.C + self.K) * per_row * full))
        block = full * -(-share // -(-share // most))  # as few blocks as possible, of equal size
        self.tiling = Tiling(rows, rows_per_image, per_row, block, parts)
        tiles = round_up(block * per_row, ROWS)
        self.shapes = (
            (self.workers, block * INPUT_TILE, per_row * OUTPUT_TILE + INPUT_TILE - OUTPUT_TILE, self.C),
            (self.workers, POINTS, tiles * self.C + LANES),
            (self.workers, POINTS, tiles * self.K + LANES),
        )

    def buffers(self) -> tuple[np.ndarray, ...]:
        """Return `Buffers`, as a plain tuple, in scratch memory: it holds until the next kernel runs."""
        return tuple(scratch("kernel", *self.shapes))


def forward(
    x: np.ndarray,
    U: np.ndarray,
    y_shape: tuple[int, ...],
    bias: np.ndarray = NO_BIAS,
    residual: np.ndarray = NOTHING,
    affine: np.ndarray = NOTHING,
    upsample: bool = False,
    sum_pool: bool = False,
) -> np.ndarray:
    """Convolve x (N, H, W, C_in) with a transformed filter; returns an array of y_shape, (N, H', W', C_out).

    U: from `transform_filter`. bias: (1 or N, C_out rounded up to 16), or empty. residual: an array like the result
    that is added to it, or empty.
    affine: (3, N, C_in rounded): mean, factor and shift of each channel, so that silu((x - mean) factor + shift) is
    convolved; or empty.
    upsample: each pixel of x stands for 2x2 pixels. sum_pool: the result is the sum of each 2x2 outputs.
    """
    N, H, W, C_out = y_shape
    plan = Plan(N, *((2 * H, 2 * W) if sum_pool else (H, W)), x.shape[3], C_out, cut_columns=True)
    y = empty(y_shape)
    bias = bias if bias.size else zero_bias(plan.K)
    residual, affine = residual.reshape(-1), affine.reshape(-1)  # empty or not, of one type: one kernel to compile
    forward_all(x, U, bias, residual, affine, y, upsample, sum_pool, tuple(plan.tiling), plan.buffers())
    return y


@functools.cache
def zero_bias(K: int) -> np.ndarray:
    """Return (1, K) zeros, which nobody changes."""
    return np.zeros((1, K), np.float32)


@kernel
def forward_all(x, U, bias, residual, affine, y, upsample, sum_pool, tiling, buffers):
    """`forward`, each worker with its share of the rows of tiles, and of the columns of the filter.

    tiling, buffers: as plain tuples, which Numba takes faster from Python than named ones.
    """
    tiling, buffers = Tiling(*tiling), Buffers(*buffers)
    workers, parts, panels = len(buffers.V), tiling.parts, -(-bias.shape[1] // WIDE)
    takers = workers // parts
    for worker in prange(workers):
        taker, part = np.int64(worker) // parts, np.int64(worker) % parts
        columns = part * panels // parts * WIDE, min((part + 1) * panels // parts * WIDE, bias.shape[1])
        own = of_worker(buffers, np.int64(worker))
        end = (taker + 1) * tiling.rows // takers
        for first in range(taker * tiling.rows // takers, end, tiling.block):
            last = min(first + tiling.block, end)
            forward_block(x, U, bias, residual, affine, y, upsample, sum_pool, tiling, (first, last), columns, own)


@njit
def of_worker(buffers, worker):
    """Return the buffers of one worker."""
    return Buffers(buffers.pixels[worker], buffers.V[worker], buffers.M[worker])


@njit
def forward_block(x, U, bias, residual, affine, y, upsample, sum_pool, tiling, rows, columns, buffers):
    """The outputs of rows[0] to rows[1] - 1 of tiles, in the channels from columns[0] to columns[1] - 1."""
    first, last = rows
    transform_input(x, affine, upsample, tiling, first, last, buffers)
    C_in, C, K = x.shape[3], buffers.pixels.shape[2], bias.shape[1]
    V, filters, M = pointer(buffers.V), pointer(U), pointer(buffers.M)
    for point in range(POINTS):
        prefetch_input(x, last, 2 * last - first, tiling.rows, point)  # the next block's pixels
        prefetch_output(y, first, last, tiling.rows, point)
        if upsample and always_zero(point):
            buffers.M[point] = 0
            continue
        a, b, c = (
            offset(V, point * buffers.V.shape[1]), offset(filters, point * U.shape[1]),
            offset(M, point * buffers.M.shape[1]),
        )  # fmt: skip
        for j in range(columns[0], columns[1], WIDE):  # a panel of the filter stays in the nearest cache for all tiles
            width, panel = min(WIDE, K - j), offset(b, j * C_in)
            for t in range(0, (last - first) * tiling.tiles_per_row, ROWS):
                multiply(width, offset(a, t * C), C, 1, panel, width, offset(c, t * K + j), K, C_in, False)
    if sum_pool:
        transform_output_and_pool(buffers.M, K, y, tiling, first, last, columns)
    else:
        transform_output(buffers.M, bias, residual, y, tiling, first, last, columns)


@njit
def prefetch_input(images, first, last, rows, point):
    """Prefetch a POINTS-th of what rows first to last - 1 of tiles see: all points together fetch the whole of it."""
    start, stop = share_of(images.size, first, last, rows, point)
    for i in range(start, stop, LANES):
        prefetch(pointer(images), i)


@njit
def prefetch_output(images, first, last, rows, point):
    """The same for a POINTS-th of what rows first to last - 1 of tiles will write."""
    start, stop = share_of(images.size, first, last, rows, point)
    for i in range(start, stop, LANES):
        prefetch_to_write(pointer(images), i)


@njit
def share_of(size, first, last, rows, point):
    """Where part number `point` of POINTS begins and ends, in the share of an array that some of the rows have."""
    start, length = size * first // rows, size * (min(last, rows) - first) // rows
    return start + length * point // POINTS, start + length * (point + 1) // POINTS


@njit
def transform_input(x, affine, upsample, tiling, first, last, buffers):
    """Pack what rows first to last - 1 of tiles see, and fill V[point, tile, channel]."""
    pixels, V = buffers.pixels, buffers.V
    _, line_length, C = pixels.shape
    line, apart = line_length * C, V.shape[1]
    from_pixels, into, half = pointer(pixels), pointer(V), alloca(36)
    top = -INPUT_TILE  # the line of `pixels` where the row of tiles begins
    for q in range(first, last):
        n, row = q // tiling.rows_per_image, q % tiling.rows_per_image
        shared = INPUT_TILE - OUTPUT_TILE if q > first and row > 0 else 0  # lines that the tiles above have seen
        top += INPUT_TILE - shared
        for i in range(shared, INPUT_TILE):
            pack_line(x, affine, upsample, n, row * OUTPUT_TILE + i - 1, pixels, top + i)
        for tile in range(tiling.tiles_per_row):
            corner, to = top * line + tile * OUTPUT_TILE * C, ((q - first) * tiling.tiles_per_row + tile) * C
            for c in range(0, C, LANES):
                for j in range(INPUT_TILE):
                    v = input_transform(load_six(from_pixels, corner + j * C + c, line))
                    store_six(half, j * LANES, INPUT_TILE * LANES, v)
                for i in range(INPUT_TILE):
                    v = input_transform(load_six(half, INPUT_TILE * i * LANES, LANES))
                    store_six(into, INPUT_TILE * i * apart + to + c, apart, v)


@njit
def pack_line(x, affine, upsample, n, h, pixels, line):
    """Write row h of image n as line `line` of `pixels`, with a zero before it and zeros behind it."""
    N, H, W, C_in = x.shape
    _, line_length, C = pixels.shape
    start, zero = line * line_length * C, splat(np.float32(0))
    times = 2 if upsample else 1
    from_x, from_affine, into = pointer(x), pointer(affine), pointer(pixels)
    if h < 0 or h >= times * H:
        for i in range(0, line_length * C, LANES):
            store(into, start + i, zero)
        return
    source, target = (n * H + h // times) * W * C_in, start + C
    for i in range(0, C, LANES):
        store(into, start + i, zero)
    for i in range(times * W * C, (line_length - 1) * C, LANES):
        store(into, target + i, zero)
    if affine.size:
        for j in range(W):
            for c in range(0, C, LANES):
                mean, factor, shift = (
                    load(from_affine, n * C + c), load(from_affine, (N + n) * C + c),
                    load(from_affine, (2 * N + n) * C + c),
                )  # fmt: skip
                z = fma(masked_load(from_x, source + j * C_in + c, C_in - c) - mean, factor, shift)
                store(into, target + j * C + c, z * sigmoid(z))
    elif upsample:
        for j in range(W):
            for c in range(0, C, LANES):
                v = masked_load(from_x, source + j * C_in + c, C_in - c)
                store(into, target + 2 * j * C + c, v)
                store(into, target + (2 * j + 1) * C + c, v)
    else:
        for j in range(W):
            for c in range(0, C, LANES):
                store(into, target + j * C + c, masked_load(from_x, source + j * C_in + c, C_in - c))


@njit
def transform_output(M, bias, residual, y, tiling, first, last, columns):
    """Fill the outputs of rows first to last - 1 of tiles from M[point, tile, channel], in some of the channels."""
    _, H, W, C_out = y.shape
    K, apart, adds = bias.shape[1], M.shape[1], residual.size > 0
    from_M, from_bias, from_residual, into = pointer(M), pointer(bias), pointer(residual), pointer(y)
    half = alloca(24)
    for q in range(first, last):
        n, row = q // tiling.rows_per_image, q % tiling.rows_per_image * OUTPUT_TILE
        for tile in range(tiling.tiles_per_row):
            column, at = tile * OUTPUT_TILE, ((q - first) * tiling.tiles_per_row + tile) * K
            for c in range(columns[0], columns[1], LANES):
                b, count = load(from_bias, n % len(bias) * K + c), C_out - c
                for j in range(INPUT_TILE):
                    v = output_transform(load_six(from_M, j * apart + at + c, INPUT_TILE * apart))
                    store_four(half, j * LANES, INPUT_TILE * LANES, v)
                for i in range(min(OUTPUT_TILE, H - row)):
                    v0, v1, v2, v3 = output_transform(load_six(half, INPUT_TILE * i * LANES, LANES))
                    to = ((n * H + row + i) * W + column) * C_out + c
                    write(into, to, v0 + b, from_residual, adds, count)
                    if column + 1 < W:
                        write(into, to + C_out, v1 + b, from_residual, adds, count)
                    if column + 2 < W:
                        write(into, to + 2 * C_out, v2 + b, from_residual, adds, count)
                    if column + 3 < W:
                        write(into, to + 3 * C_out, v3 + b, from_residual, adds, count)


@njit
def write(y, to, value, residual, adds, count):
    """Write the first `count` numbers of an output; `adds`: with the residual added."""
    masked_store(y, to, value + masked_load(residual, to, count) if adds else value, count)


@njit
def transform_output_and_pool(M, K, y, tiling, first, last, columns):
    """`transform_output`, but y gets the sum of each 2x2 outputs."""
    _, H, W, C_out = y.shape
    apart = M.shape[1]
    from_M, into, half = pointer(M), pointer(y), alloca(24)
    for q in range(first, last):
        n, row = q // tiling.rows_per_image, q % tiling.rows_per_image * 2
        for tile in range(tiling.tiles_per_row):
            column, at = tile * 2, ((q - first) * tiling.tiles_per_row + tile) * K
            for c in range(columns[0], columns[1], LANES):
                for j in range(INPUT_TILE):
                    v = output_transform(load_six(from_M, j * apart + at + c, INPUT_TILE * apart))
                    store_four(half, j * LANES, INPUT_TILE * LANES, v)
                for i in range(min(2, H - row)):
                    a0, a1, a2, a3 = output_transform(load_six(half, 2 * INPUT_TILE * i * LANES, LANES))
                    b0, b1, b2, b3 = output_transform(load_six(half, (2 * i + 1) * INPUT_TILE * LANES, LANES))
                    to = ((n * H + row + i) * W + column) * C_out + c
                    masked_store(into, to, (a0 + a1) + (b0 + b1), C_out - c)
                    if column + 1 < W:
                        masked_store(into, to + C_out, (a2 + a3) + (b2 + b3), C_out - c)
