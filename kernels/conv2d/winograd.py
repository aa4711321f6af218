"""3x3 convolution with a quarter of the multiplications: Winograd's F(4x4, 3x3).

A filter of 3 moved along 6 numbers makes 4 outputs with 12 multiplications. Six are enough: 6 numbers are the
coefficients of a polynomial, the filter those of another, and their product is known once its values at 6 points are
(0, 1, -1, 2, -2 and infinity). So: evaluate both, multiply point by point, and interpolate; in two dimensions 36
multiplications for 16 outputs instead of 144.

    Y = A' [ (G w G') * (B' d B) ] A          d: 6x6 pixels, w: 3x3 filter, Y: 4x4 outputs, *: number by number

Over many channels and tiles, each of the 36 points is a product of matrices, (tiles, C_in) by (C_in, C_out), and
evaluating and interpolating are a few additions each. The weight gradient is the same turned around: dL/dw is
G' [ (B' d B) * (A gy A') ] G, summed over tiles.

A thread takes a block of whole rows of tiles at a time, which stays in its own cache: it lays the pixels that they
see side by side, zeros around the picture included, evaluates, multiplies and interpolates. What comes before and
after a convolution is done on the way, where it costs no trip to memory:

- pixels may be normalised and sent through SiLU while they are laid out;
- the picture may be laid out at twice its size (x[h // 2, w // 2]). A tile then sees (a, b, b, c, c, d), whose value
  at the point -1 is always 0: (a, b, b, c, c, d) gives d4 - d3 + 4 (d1 - d2) = 0. So 25 points of 36 remain;
- bias and a second picture are added to the outputs, or 2x2 outputs are added up, while they are written.

The price is precision: the points' powers cancel, and the error is up to ten times that of a direct sum: at most 3e-5
of the largest output.

Source: Lavin & Gray 2015, arXiv:1509.09308, section 4.1 and eq. 15; Winograd 1980, Arithmetic Complexity of
Computations.
"""

import math

import numpy as np
from numba import prange

from minidiff.kernels.numba_compile import njit
from minidiff.kernels.numba_memory import empty, scratch
from minidiff.kernels.numba_product import ROWS, WIDE, multiply, rounded
from minidiff.kernels.numba_threads import workers_for
from minidiff.kernels.numba_vector import (
    LANES,
    fma,
    load,
    load_four,
    load_part,
    load_six,
    pointer,
    prefetch,
    prefetch_to_write,
    room,
    sigmoid,
    splat,
    store,
    store_four,
    store_part,
    store_six,
    transpose,
)

TILE, SEEN = 4, 6  # outputs, and the pixels that they see, along a side of a tile
POINTS = SEEN * SEEN
BLOCK = 1 << 17  # numbers of a block at the points, before and after the product: half a core's cache of 1 MiB
BLOCK_OF_GRADIENT = 1 << 19  # more, as each block reads and writes the filter's gradient, which may be larger than that
FEW_TILES = 64  # up to so many in all, workers share out the points instead, and have no gradients to add up
NOTHING, NO_BIAS = np.empty(0, np.float32), np.empty((0, 0), np.float32)


def convolve(x, w, shape, bias=NO_BIAS, add=NOTHING, norm=NOTHING, double=False, halve=False):
    """Convolve x (N, H, W, C_in) with a filter at its points; returns the array of this shape, (N, H', W', C_out).

    w: from `filter_at_points`. bias: (1 or N, C_out rounded up to 16), or empty. add: like the result, or empty.
    norm: (3, N, C_in rounded), mean, factor and shift of each channel: silu((x - mean) factor + shift) is convolved.
    double: each pixel of x stands for 2x2 pixels. halve: the result is the sum of each 2x2 outputs.
    """
    N, H, W, C_out = shape
    plan = Plan(N, *((2 * H, 2 * W) if halve else (H, W)), x.shape[3], C_out)
    y = empty(shape)
    pixels, points, products = plan.buffers()
    bias = bias if bias.size else np.zeros((1, plan.K), np.float32)
    add, norm = add.reshape(-1), norm.reshape(-1)  # one number of dimensions, empty or not: one kernel to compile
    convolve_all(x, w, bias, add, norm, y, double, halve, *plan.cut, pixels, points, products)
    return y


def filter_at_points(w, turned=False, keep=False):
    """The filter w (3, 3, C_in, C_out) at the points: (36, C_in times C_out rounded up to 16, and a vector more).

    At each point the columns stand in panels of 32, each (C_in, 32), the last perhaps (C_in, 16).
    turned: half around, and with input and output swapped: the filter that the gradient of x is a convolution with.
    keep: it will be used after the next call, too.
    """
    rows, columns = w.shape[2:][::-1] if turned else w.shape[2:]
    shape = POINTS, rows * rounded(columns, LANES) + LANES
    out = empty(shape) if keep else scratch("filter", shape)[0]
    filter_points(w, out, rows, columns, turned, workers_for(30 * w.size))
    return out


def correlate(gy, x, norm=NOTHING, double=False):
    """The gradient (3, 3, C_in, C_out) of the filter of `convolve`, for gy (N, H, W, C_out)."""
    N, H, W, C_out = gy.shape
    plan = Plan(N, H, W, x.shape[3], C_out, BLOCK_OF_GRADIENT)
    rows, across, _ = plan.cut
    parts = plan.workers if rows * across > FEW_TILES else 1
    *buffers, totals = plan.buffers((parts, POINTS, plan.C * plan.K + LANES))
    correlate_all(gy, x, norm.reshape(-1), double, *plan.cut, *buffers, totals)
    gw = empty((3, 3, x.shape[3], C_out))
    filter_from_points(totals, gw, workers_for(30 * gw.size))
    return gw


class Plan:
    """How N pictures of H x W outputs are cut into blocks of rows of tiles.

    C, K: channels in and out, rounded up to full vectors. cut: rows of tiles in all, tiles a row, rows a block.
    """

    def __init__(self, N, H, W, C_in, C_out, fits=BLOCK):
        self.C, self.K = rounded(C_in, LANES), rounded(C_out, LANES)
        rows, across = N * -(-H // TILE), -(-W // TILE)
        self.workers = min(rows, workers_for(rows * across * POINTS * C_in * C_out))
        full = ROWS // math.gcd(ROWS, across)  # so many rows of tiles fill all rows of every product
        share = -(-rows // (self.workers * full))
        most = max(1, fits // (POINTS * (self.C + self.K) * across * full))
        self.cut = rows, across, full * -(-share // -(-share // most))  # as few blocks as may be, of equal size

    def buffers(self, *others):
        """Memory of `shapes`, and of other shapes."""
        return scratch("kernel", *self.shapes, *others)

    @property
    def shapes(self):
        """For each worker the pixels of a block, its numbers at the points, and the products there.

        One vector more than needed at each point, here and for filters: what lies powers of two apart falls on one set
        of the cache, and 36 points are more than a set holds.
        """
        _, across, block = self.cut
        tiles = rounded(block * across, ROWS)
        return (
            (self.workers, block * SEEN, across * TILE + SEEN - TILE, self.C),
            (self.workers, POINTS, tiles * self.C + LANES),
            (self.workers, POINTS, tiles * self.K + LANES),
        )


# ---- along one side: six points, polynomials of degree 5, 2 and 3 ----------------------------------------------------


@njit
def pixels_at_points(d):
    """B' d: six pixels at the points 0, 1, -1, 2, -2 and infinity."""
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
def weights_at_points(w):
    """G w: three weights at the points, each divided by what interpolation has to divide by there."""
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
def outputs_from_points(m):
    """A' m: the four outputs of the products at the points."""
    m0, m1, m2, m3, m4, m5 = m
    two, four, eight = np.float32(2), np.float32(4), np.float32(8)
    even, odd, even_2, odd_2 = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    return m0 + even + even_2, fma(two, odd_2, odd), fma(four, even_2, even), fma(eight, odd_2, odd) + m5


@njit
def gradients_at_points(g):
    """A g: four outputs' gradients at the points; `outputs_from_points` transposed."""
    g0, g1, g2, g3 = g
    two, four = np.float32(2), np.float32(4)
    even, odd = g0 + g2, g1 + g3
    even_2, odd_2 = fma(four, g2, g0), fma(four, g3, g1)
    return g0, even + odd, even - odd, fma(two, odd_2, even_2), fma(-two, odd_2, even_2), g3


@njit
def weights_from_points(u):
    """G' u: the gradients of three weights; `weights_at_points` transposed."""
    u0, u1, u2, u3, u4, u5 = u
    sixth, twelfth = np.float32(1 / 6), np.float32(1 / 12)
    even, even_2 = u1 + u2, u3 + u4
    return (
        fma(np.float32(1 / 24), even_2, fma(-sixth, even, np.float32(0.25) * u0)),
        fma(sixth, u2 - u1, twelfth * (u3 - u4)),
        fma(sixth, even_2 - even, u5),
    )


# ---- filters --------------------------------------------------------------------------------------------------------


@njit(parallel=True, cache=True)
def filter_points(w, out, rows, columns, turned, workers):
    """Fill out, from `filter_at_points`, for w (3, 3, C_in, C_out), a worker a share of the rows."""
    for worker in prange(workers):
        filter_points_rows(w, out, rows, columns, turned, worker * rows // workers, (worker + 1) * rows // workers)


@njit(cache=True, nogil=True)
def filter_points_rows(w, out, rows, columns, turned, first, last):
    _, _, C_in, C_out = w.shape
    K, apart = -(-columns // LANES) * LANES, out.shape[1]
    from_w, into, weights, half = pointer(w), pointer(out), room(144), room(18)  # weights: nine of 16 rows
    for j in range(0, columns, LANES):
        panel = min(WIDE, K - j // WIDE * WIDE)  # the last panel may be half as wide
        start = j // WIDE * WIDE * rows + j % WIDE
        for i in range(first, last, LANES):
            some, whole = min(LANES, last - i), i + LANES <= rows and j + LANES <= columns
            for k in range(9):
                if turned and whole:
                    transpose(from_w, ((8 - k) * C_in + j) * C_out + i, C_out, weights, k * LANES, 9 * LANES)
                elif turned:
                    for row in range(some):
                        for lane in range(LANES):
                            inside = j + lane < columns
                            weight = w[2 - k // 3, 2 - k % 3, j + lane, i + row] if inside else np.float32(0)
                            weights[(9 * row + k) * LANES + lane] = weight
                else:
                    for row in range(some):
                        at = (k * C_in + i + row) * C_out + j
                        store(weights, (9 * row + k) * LANES, load_part(from_w, at, columns - j))
            for row in range(some):
                for k in range(3):
                    at = (9 * row + k) * LANES
                    column = load(weights, at), load(weights, at + 3 * LANES), load(weights, at + 6 * LANES)
                    store_six(half, k * LANES, 3 * LANES, weights_at_points(column))
                for p in range(SEEN):
                    h = 3 * p * LANES
                    line = load(half, h), load(half, h + LANES), load(half, h + 2 * LANES)
                    store_six(into, 6 * p * apart + start + (i + row) * panel, apart, weights_at_points(line))


@njit(parallel=True, cache=True)
def filter_from_points(totals, gw, workers):
    """Fill gw (3, 3, C_in, C_out) from what each worker added up at the points."""
    rows = gw.shape[2]
    for worker in prange(workers):
        filter_from_points_rows(totals, gw, worker * rows // workers, (worker + 1) * rows // workers)


@njit(cache=True, nogil=True)
def filter_from_points_rows(totals, gw, first, last):
    parts, _, apart = totals.shape
    _, _, C_in, C_out = gw.shape
    K = -(-C_out // LANES) * LANES
    at_points, into, whole, half = pointer(totals), pointer(gw), room(36), room(18)
    for i in range(first, last):
        for j in range(0, C_out, LANES):
            for p in range(POINTS):
                at = p * apart + i * K + j
                total = load(at_points, at)
                for part in range(1, parts):  # in the order of the workers
                    total = total + load(at_points, part * POINTS * apart + at)
                store(whole, p * LANES, total)
            for p in range(SEEN):
                column = weights_from_points(load_six(whole, p * LANES, SEEN * LANES))
                store(half, p * LANES, column[0])
                store(half, (6 + p) * LANES, column[1])
                store(half, (12 + p) * LANES, column[2])
            for k in range(3):
                row = weights_from_points(load_six(half, 6 * k * LANES, LANES))
                at = (3 * k * C_in + i) * C_out + j
                store_part(into, at, row[0], C_out - j)
                store_part(into, at + C_in * C_out, row[1], C_out - j)
                store_part(into, at + 2 * C_in * C_out, row[2], C_out - j)


# ---- pictures -------------------------------------------------------------------------------------------------------


@njit(parallel=True, cache=True)
def convolve_all(x, w, bias, add, norm, y, double, halve, rows, across, block, pixels, points, products):
    """`convolve`, each worker with its share of the rows of tiles."""
    workers = len(points)
    for worker in prange(workers):
        end = (worker + 1) * rows // workers
        for first in range(worker * rows // workers, end, block):
            convolve_block(
                x, w, bias, add, norm, y, double, halve, across, first, min(first + block, end),
                pixels[worker], points[worker], products[worker],
            )  # fmt: skip


@njit(cache=True, nogil=True)
def convolve_block(
    x, w, bias, add, norm, y, double, halve, across, first, last, pixels, points, products
):  # fmt: skip
    """The outputs of rows first to last - 1 of tiles."""
    down = -(-((2 * y.shape[1]) if halve else y.shape[1]) // TILE)
    evaluate_pixels(x, norm, double, down, across, first, last, pixels, points)
    C_in, C, K = x.shape[3], pixels.shape[2], bias.shape[1]
    at_points, filters, multiplied = pointer(points), pointer(w), pointer(products)
    rows = x.shape[0] * down
    for point in range(POINTS):
        ask_for(x, last, 2 * last - first, rows, point)  # the next block's pixels
        ask_to_write(y, first, last, rows, point)
        a, b, c = point * points.shape[1], point * w.shape[1], point * products.shape[1]
        if double and always_zero(point):
            products[point] = 0
            continue
        for j in range(0, K, WIDE):  # a panel of the filter stays in the nearest cache for all tiles
            for t in range(0, (last - first) * across, ROWS):
                at, to, width = a + t * C, c + t * K + j, min(WIDE, K - j)
                multiply(width, at_points, at, C, 1, filters, b + j * C_in, width, multiplied, to, K, C_in, False)
    if halve:
        interpolate_sums(products, K, y, down, across, first, last)
    else:
        interpolate(products, bias, add, y, down, across, first, last)


@njit
def ask_for(pictures, first, last, rows, point):
    """Ask for a POINTS-th of what rows of tiles first to last - 1 see, to lie in cache when its turn comes."""
    start, stop = share_of(pictures.size, first, last, rows, point)
    for i in range(start, stop, LANES):
        prefetch(pointer(pictures), i)


@njit
def ask_to_write(pictures, first, last, rows, point):
    """The same for a POINTS-th of what rows of tiles first to last - 1 will write."""
    start, stop = share_of(pictures.size, first, last, rows, point)
    for i in range(start, stop, LANES):
        prefetch_to_write(pointer(pictures), i)


@njit
def share_of(size, first, last, rows, point):
    """Where the part number `point` of POINTS begins and ends in the share that some of the rows have of an array."""
    start, length = size * first // rows, size * (min(last, rows) - first) // rows
    return start + length * point // POINTS, start + length * (point + 1) // POINTS


@njit
def always_zero(point):
    """Whether a picture at twice its size is 0 at this point: it is at -1, the third of six, either way."""
    return point // SEEN == 2 or point % SEEN == 2


@njit(cache=True, nogil=True)
def evaluate_pixels(x, norm, double, down, across, first, last, pixels, points):
    """Lay out what rows first to last - 1 of tiles see, and fill points[point, tile, channel]."""
    _, wide, C = pixels.shape
    column, line, apart = C, wide * C, points.shape[1]
    laid_out, at_points, half = pointer(pixels), pointer(points), room(36)
    top = -SEEN  # the row of `pixels` where the row of tiles begins
    for q in range(first, last):
        n, row = q // down, q % down
        shared = SEEN - TILE if q > first and row > 0 else 0  # rows of pixels that the tiles above have seen
        top += SEEN - shared
        for i in range(shared, SEEN):
            lay_out(x, norm, double, n, row * TILE + i - 1, pixels, top + i)
        for tile in range(across):
            corner, to = top * line + tile * TILE * column, ((q - first) * across + tile) * C
            for c in range(0, C, LANES):
                for j in range(SEEN):
                    v = pixels_at_points(load_six(laid_out, corner + j * column + c, line))
                    store_six(half, j * LANES, SEEN * LANES, v)
                for i in range(SEEN):
                    v = pixels_at_points(load_six(half, SEEN * i * LANES, LANES))
                    store_six(at_points, SEEN * i * apart + to + c, apart, v)


@njit(cache=True, nogil=True)
def lay_out(x, norm, double, n, h, pixels, row):
    """Row h of picture n, with a zero before it and zeros behind it, as row `row` of `pixels`."""
    N, H, W, C_in = x.shape
    _, wide, C = pixels.shape
    start, zero = row * wide * C, splat(np.float32(0))
    times = 2 if double else 1
    from_x, from_norm, into = pointer(x), pointer(norm), pointer(pixels)
    if h < 0 or h >= times * H:
        for i in range(0, wide * C, LANES):
            store(into, start + i, zero)
        return
    source, target = (n * H + h // times) * W * C_in, start + C
    for i in range(0, C, LANES):
        store(into, start + i, zero)
    for i in range(times * W * C, (wide - 1) * C, LANES):
        store(into, target + i, zero)
    if norm.size:
        for j in range(W):
            for c in range(0, C, LANES):
                mean, factor, shift = (
                    load(from_norm, n * C + c), load(from_norm, (N + n) * C + c), load(from_norm, (2 * N + n) * C + c)
                )  # fmt: skip
                z = fma(load_part(from_x, source + j * C_in + c, C_in - c) - mean, factor, shift)
                store(into, target + j * C + c, z * sigmoid(z))
    elif double:
        for j in range(W):
            for c in range(0, C, LANES):
                v = load_part(from_x, source + j * C_in + c, C_in - c)
                store(into, target + 2 * j * C + c, v)
                store(into, target + (2 * j + 1) * C + c, v)
    else:
        for j in range(W):
            for c in range(0, C, LANES):
                store(into, target + j * C + c, load_part(from_x, source + j * C_in + c, C_in - c))


@njit(cache=True, nogil=True)
def interpolate(products, bias, add, y, down, across, first, last):
    """Fill the outputs of rows first to last - 1 of tiles from products[point, tile, channel]."""
    _, H, W, C_out = y.shape
    K, apart, adds = bias.shape[1], products.shape[1], add.size > 0
    at_points, from_bias, from_add, into = pointer(products), pointer(bias), pointer(add), pointer(y)
    half = room(24)
    for q in range(first, last):
        n, row = q // down, q % down * TILE
        for tile in range(across):
            column, at = tile * TILE, ((q - first) * across + tile) * K
            for c in range(0, K, LANES):
                b, part = load(from_bias, n % len(bias) * K + c), C_out - c
                for j in range(SEEN):
                    v = outputs_from_points(load_six(at_points, j * apart + at + c, SEEN * apart))
                    store_four(half, j * LANES, SEEN * LANES, v)
                for i in range(min(TILE, H - row)):
                    v0, v1, v2, v3 = outputs_from_points(load_six(half, SEEN * i * LANES, LANES))
                    to = ((n * H + row + i) * W + column) * C_out + c
                    write(into, to, v0 + b, from_add, adds, part)
                    if column + 1 < W:
                        write(into, to + C_out, v1 + b, from_add, adds, part)
                    if column + 2 < W:
                        write(into, to + 2 * C_out, v2 + b, from_add, adds, part)
                    if column + 3 < W:
                        write(into, to + 3 * C_out, v3 + b, from_add, adds, part)


@njit
def write(y, to, value, add, adds, part):
    """Write the first `part` numbers of an output, and with them what is to be added."""
    store_part(y, to, value + load_part(add, to, part) if adds else value, part)


@njit(cache=True, nogil=True)
def interpolate_sums(products, K, y, down, across, first, last):
    """`interpolate`, but with the sum of each 2x2 outputs."""
    _, H, W, C_out = y.shape
    apart = products.shape[1]
    at_points, into, half = pointer(products), pointer(y), room(24)
    for q in range(first, last):
        n, row = q // down, q % down * 2
        for tile in range(across):
            column, at = tile * 2, ((q - first) * across + tile) * K
            for c in range(0, K, LANES):
                for j in range(SEEN):
                    v = outputs_from_points(load_six(at_points, j * apart + at + c, SEEN * apart))
                    store_four(half, j * LANES, SEEN * LANES, v)
                for i in range(min(2, H - row)):
                    a0, a1, a2, a3 = outputs_from_points(load_six(half, 2 * SEEN * i * LANES, LANES))
                    b0, b1, b2, b3 = outputs_from_points(load_six(half, (2 * i + 1) * SEEN * LANES, LANES))
                    to = ((n * H + row + i) * W + column) * C_out + c
                    store_part(into, to, (a0 + a1) + (b0 + b1), C_out - c)
                    if column + 1 < W:
                        store_part(into, to + C_out, (a2 + a3) + (b2 + b3), C_out - c)


@njit(parallel=True, cache=True)
def correlate_all(gy, x, norm, double, rows, across, block, pixels, points, products, totals):
    """Add up the filter's gradient at the points, in totals (parts, 36, C K and a vector more).

    With as many parts as workers, each has its share of the tiles; with one, each has its share of the points.
    """
    workers, parts = len(points), len(totals)
    for worker in prange(workers):
        share = np.int64(worker)  # prange counts without signs, and both kinds together would become floats
        begin, end, first_point, last_point = share * rows // workers, (share + 1) * rows // workers, 0, POINTS
        if parts == 1:
            begin, end, first_point, last_point = 0, rows, share * POINTS // workers, (share + 1) * POINTS // workers
        for first in range(begin, end, block):
            correlate_block(
                gy, x, norm, double, across, first, min(first + block, end), first_point, last_point,
                pixels[worker], points[worker], products[worker], totals[worker % parts], first > begin,
            )  # fmt: skip


@njit(cache=True, nogil=True)
def correlate_block(
    gy, x, norm, double, across, first, last, first_point, last_point, pixels, points, products, total, add
):  # fmt: skip
    """What rows first to last - 1 of tiles have to say on the filter, added to `total` if `add`."""
    C, K, apart = pixels.shape[2], -(-gy.shape[3] // LANES) * LANES, total.shape[1]
    down, tiles = -(-gy.shape[1] // TILE), (last - first) * across
    evaluate_pixels(x, norm, double, down, across, first, last, pixels, points)
    evaluate_gradients(gy, down, across, first, last, K, products)
    pixels_there, gradients_there, sums = pointer(points), pointer(products), pointer(total)
    rows = len(x) * down
    for point in range(first_point, last_point):
        ask_for(x, last, 2 * last - first, rows, point)
        ask_for(gy, last, 2 * last - first, rows, point)
        a, b, c = point * points.shape[1], point * products.shape[1], point * apart
        if double and always_zero(point):
            total[point] = 0
            continue
        for j in range(0, K, WIDE):
            for i in range(c + apart + C * j, c + apart + C * min(K, j + WIDE) if point + 1 < last_point else 0, LANES):
                prefetch_to_write(sums, i)  # a share of the next point's
            for i in range(0, C, ROWS):
                width, to = min(WIDE, K - j), c + i * K + j
                multiply(width, pixels_there, a + i, 1, C, gradients_there, b + j, K, sums, to, K, tiles, add)


@njit(cache=True, nogil=True)
def evaluate_gradients(gy, down, across, first, last, K, products):
    """Fill products[point, tile, channel] with the gradients of the outputs of rows first to last - 1 of tiles."""
    _, H, W, C_out = gy.shape
    apart, line = products.shape[1], W * C_out
    from_gy, at_points, half, zero = pointer(gy), pointer(products), room(24), splat(np.float32(0))
    for q in range(first, last):
        n, row = q // down, q % down * TILE
        for tile in range(across):
            to = ((q - first) * across + tile) * K
            for c in range(0, K, LANES):
                for j in range(TILE):
                    at = ((n * H + row) * W + tile * TILE + j) * C_out + c
                    wanted = min(TILE, H - row) if tile * TILE + j < W else 0
                    g0 = load_part(from_gy, at, C_out - c) if wanted > 0 else zero
                    g1 = load_part(from_gy, at + line, C_out - c) if wanted > 1 else zero
                    g2 = load_part(from_gy, at + 2 * line, C_out - c) if wanted > 2 else zero
                    g3 = load_part(from_gy, at + 3 * line, C_out - c) if wanted > 3 else zero
                    store_six(half, j * LANES, TILE * LANES, gradients_at_points((g0, g1, g2, g3)))
                for i in range(SEEN):
                    v = gradients_at_points(load_four(half, TILE * i * LANES, LANES))
                    store_six(at_points, SEEN * i * apart + to + c, apart, v)
