"""The gradient of the filter by Winograd's algorithm on the CPU: gw = G' [ sum over tiles of (B' d B) * (A gy A') ] G.

A thread takes a block of rows of tiles, transforms its pixels and the gradients of its outputs, and adds the products
to a sum of its own; `winograd_transforms.filter_gradient` takes the sums of all threads back from the Winograd domain.

    V, gM = input_transform(pixels), output_transform_transposed(gy)       # (36, tiles, C), (36, tiles, K)
    for point in range(36):
        total[point] += V[point].T @ gM[point]                             # (C, tiles) by (tiles, K)

C and K are the channels of x and gy, rounded up to full vectors. With few tiles, threads share out the points instead.

Reading order: after `winograd_forward.py`, whose tiling, buffers and input transform it takes. gM lies in buffers.M.
"""

import numpy as np
from numba import prange

from minidiff.kernels.conv2d.winograd_forward import (
    NOTHING,
    Buffers,
    Plan,
    Tiling,
    of_worker,
    prefetch_input,
    transform_input,
)
from minidiff.kernels.conv2d.winograd_transforms import (
    INPUT_TILE,
    OUTPUT_TILE,
    POINTS,
    always_zero,
    filter_gradient,
    output_transform_transposed,
)
from minidiff.kernels.numba_compile import kernel, njit
from minidiff.kernels.numba_memory import scratch
from minidiff.kernels.numba_product import ROWS, WIDE, multiply
from minidiff.kernels.numba_vector import (
    LANES,
    alloca,
    load_four,
    masked_load,
    offset,
    pointer,
    prefetch_to_write,
    splat,
    store_six,
)

BLOCK = 1 << 19  # numbers: larger than in the forward pass, as each block also reads and writes the sum, itself large
ALL_POINTS = np.int64(0), np.int64(POINTS)
FEW_TILES = 64  # up to so many in all, workers share out the points instead of the tiles, and have no sums to add up


def backward_filter(gy: np.ndarray, x: np.ndarray, affine: np.ndarray = NOTHING, upsample: bool = False) -> np.ndarray:
    """The gradient (3, 3, C_in, C_out) of the filter of `winograd_forward.forward`, for gy (N, H, W, C_out)."""
    N, H, W, C_out = gy.shape
    plan = Plan(N, H, W, x.shape[3], C_out, BLOCK)
    parts = plan.workers if plan.tiling.rows * plan.tiling.tiles_per_row > FEW_TILES else 1
    *buffers, totals = scratch("kernel", *plan.shapes, (parts, POINTS, plan.C * plan.K + LANES))
    backward_filter_all(gy, x, affine.reshape(-1), upsample, tuple(plan.tiling), tuple(buffers), totals)
    return filter_gradient(totals, (3, 3, x.shape[3], C_out))


@kernel
def backward_filter_all(gy, x, affine, upsample, tiling, buffers, totals):
    """Add up the filter's gradient in the Winograd domain, in totals (parts, 36, C K and a vector more).

    With as many parts as workers, each worker has its share of the tiles; with one part, its share of the points.
    """
    tiling, buffers = Tiling(*tiling), Buffers(*buffers)
    workers, parts = len(buffers.V), len(totals)
    for worker in prange(workers):
        share = np.int64(worker)  # prange counts without signs; both kinds of integers together would become floats
        own = of_worker(buffers, share)
        if parts == 1:
            begin, end, points = 0, tiling.rows, (share * POINTS // workers, (share + 1) * POINTS // workers)
        else:
            begin, end, points = share * tiling.rows // workers, (share + 1) * tiling.rows // workers, ALL_POINTS
        for first in range(begin, end, tiling.block):
            last, accumulate = min(first + tiling.block, end), first > begin
            backward_filter_block(
                gy, x, affine, upsample, tiling, first, last, points, own, totals[worker % parts], accumulate
            )


@njit
def backward_filter_block(gy, x, affine, upsample, tiling, first, last, points, buffers, total, accumulate):
    """The contribution of rows first to last - 1 of tiles to the points from points[0] to points[1] - 1 of `total`.

    accumulate: it is added; otherwise it is written.
    """
    C, K, apart = buffers.pixels.shape[2], -(-gy.shape[3] // LANES) * LANES, total.shape[1]
    tiles = (last - first) * tiling.tiles_per_row
    transform_input(x, affine, upsample, tiling, first, last, buffers)
    transform_gradients(gy, tiling, first, last, K, buffers.M)
    V, gM, sums = pointer(buffers.V), pointer(buffers.M), pointer(total)
    first_point, last_point = points
    for point in range(first_point, last_point):
        prefetch_input(x, last, 2 * last - first, tiling.rows, point)
        prefetch_input(gy, last, 2 * last - first, tiling.rows, point)
        if upsample and always_zero(point):
            total[point] = 0
            continue
        a, b, start = offset(V, point * buffers.V.shape[1]), offset(gM, point * buffers.M.shape[1]), point * apart
        for j in range(0, K, WIDE):
            next_point = start + apart
            stop = next_point + C * min(K, j + WIDE) if point + 1 < last_point else 0
            for i in range(next_point + C * j, stop, LANES):
                prefetch_to_write(sums, i)  # a share of the next point's sum
            for i in range(0, C, ROWS):
                to = offset(sums, start + i * K + j)
                multiply(min(WIDE, K - j), offset(a, i), 1, C, offset(b, j), K, to, K, tiles, accumulate)


@njit
def transform_gradients(gy, tiling, first, last, K, gM):
    """Fill gM[point, tile, channel] with A gy A' of rows first to last - 1 of tiles."""
    _, H, W, C_out = gy.shape
    apart, line = gM.shape[1], W * C_out
    from_gy, into, half, zero = pointer(gy), pointer(gM), alloca(24), splat(np.float32(0))
    for q in range(first, last):
        n, row = q // tiling.rows_per_image, q % tiling.rows_per_image * OUTPUT_TILE
        for tile in range(tiling.tiles_per_row):
            to = ((q - first) * tiling.tiles_per_row + tile) * K
            for c in range(0, K, LANES):
                for j in range(OUTPUT_TILE):
                    at = ((n * H + row) * W + tile * OUTPUT_TILE + j) * C_out + c
                    inside = min(OUTPUT_TILE, H - row) if tile * OUTPUT_TILE + j < W else 0
                    g0 = masked_load(from_gy, at, C_out - c) if inside > 0 else zero
                    g1 = masked_load(from_gy, at + line, C_out - c) if inside > 1 else zero
                    g2 = masked_load(from_gy, at + 2 * line, C_out - c) if inside > 2 else zero
                    g3 = masked_load(from_gy, at + 3 * line, C_out - c) if inside > 3 else zero
                    store_six(half, j * LANES, OUTPUT_TILE * LANES, output_transform_transposed((g0, g1, g2, g3)))
                for i in range(INPUT_TILE):
                    v = output_transform_transposed(load_four(half, OUTPUT_TILE * i * LANES, LANES))
                    store_six(into, INPUT_TILE * i * apart + to + c, apart, v)
