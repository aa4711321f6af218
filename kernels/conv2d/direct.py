"""Convolution as it is defined, by products of matrices: gather what each output pixel sees into a row, and multiply.

`reference.py` makes KH KW products of whole shifted pictures. Here each thread takes a block of output pixels and
copies the KH KW C_in numbers that each one sees into a row of a buffer (this is "im2col", a block at a time, so that
the buffer stays in the thread's own cache). The rows times the filter, read as a matrix (KH KW C_in, C_out), are the
block's outputs. A 1x1 filter needs no copy: a pixel is a row already.

All three functions are this one idea:

- the output gathers from x;
- the gradient of x gathers from gy, with the filter turned around and its channels swapped; with stride 2, pixels in
  even and odd rows and columns see different filter positions, so each of the four kinds is a convolution of its own
  with the positions that it sees;
- the gradient of w is the transposed rows times gy, summed over blocks.

Three output channels would leave thirteen of sixteen SIMD lanes idle. Where there are so few, the order is turned
around: first every pixel is multiplied with all filter positions at once, (KH KW C_out) numbers a pixel, then each
output adds up what its neighbours have for it. In the gradient of w, x and gy change places.
"""

import numpy as np
from numba import njit, prange

from minidiff.kernels.numba_memory import empty, scratch
from minidiff.kernels.numba_product import ROWS, WIDE, multiply, rounded
from minidiff.kernels.numba_threads import workers_for
from minidiff.kernels.numba_vector import LANES, load, load_part, pointer, splat, store, store_part, transpose

BUFFER = 1 << 15  # numbers in a thread's rows and outputs: 128 KiB, so that they stay in its cache with the filter
FEW = 8  # channels: half a vector
NOTHING, NO_BIAS = np.empty(0, np.float32), np.empty((0, 0), np.float32)


def convolve(x, w, shape, stride=1, bias=NO_BIAS, add=NOTHING):
    """`reference.conv2d` of x (N, H, W, C_in) and w (KH, KW, C_in, C_out); returns an array of this shape.

    bias: (1 or N, C_out rounded up to 16), or empty. add: like the result, or empty: a second picture to be added.
    """
    KH, KW, _C_in, C_out = w.shape
    y = empty(shape)
    if C_out < FEW and stride == 1:
        return _convolve_few(x, w, bias, add, y)
    panels = in_panels(w)
    _convolve(x, panels, bias, add, y, (KH, KW), (-(KH // 2), -(KW // 2)), stride, (0, 0), 1)
    return y


def convolve_back(gy, w, x_shape, stride=1, add=NOTHING):
    """`reference.conv2d_grad_x`. add: like the result, or empty.

    Output row i saw row h of x through filter row kh = h + pad - i stride. Among the rows h = phase + stride a of one
    phase, these are every stride-th kh, and i = a + (phase + pad - kh) / stride: a convolution with those positions.
    """
    KH, KW, C_in, _ = w.shape
    gx = empty(x_shape)
    if C_in < FEW and stride == 1:
        return _convolve_few(gy, w[::-1, ::-1].swapaxes(2, 3), NO_BIAS, add, gx)
    for phase_h in range(stride):
        kh = positions(KH, phase_h, stride)
        for phase_w in range(stride):
            kw = positions(KW, phase_w, stride)
            if not kh or not kw:
                unseen = np.s_[:, phase_h::stride, phase_w::stride]  # by any output pixel
                gx[unseen] = add[unseen] if add.size else 0
                continue
            first = (phase_h + KH // 2 - kh[0]) // stride, (phase_w + KW // 2 - kw[0]) // stride
            panels = in_panels(w, kh, kw, turned=True)
            _convolve(gy, panels, NO_BIAS, add, gx, (len(kh), len(kw)), first, 1, (phase_h, phase_w), stride)
    return gx


def positions(size, phase, stride):
    """The filter positions, of `size`, through which pixels of this phase are seen, from the last to the first."""
    last = size - 1 - (size - 1 - phase - size // 2) % stride
    return range(last, -1, -stride)


def correlate(gy, x, w_shape, stride=1):
    """`reference.conv2d_grad_w`."""
    KH, KW, C_in, C_out = w_shape
    if C_out < min(FEW, C_in) and stride == 1:
        return np.ascontiguousarray(correlate(x, gy, (KH, KW, C_out, C_in))[::-1, ::-1].swapaxes(2, 3))
    pixels, seen = gy.size // C_out, KH * KW * C_in
    workers = workers_for(pixels * seen * C_out)
    block = _block(pixels, seen + C_out, workers)
    depth, columns = rounded(seen, ROWS), rounded(C_out, LANES)
    rows, gradients, totals = scratch(
        "kernel", (workers, block * depth), (workers, block * columns), (workers, depth, columns)
    )
    correlate_all(gy, x, KH, KW, stride, block, rows, gradients, totals)
    return np.ascontiguousarray(totals.sum(0)[:seen, :C_out]).reshape(w_shape)  # in the order of the workers


def _convolve_few(x, w, bias, add, y):
    KH, KW, C_in, _C_out = w.shape
    N, H, W, _ = x.shape
    if not y.size:
        return y
    panels = in_panels(np.ascontiguousarray(w.transpose(2, 0, 1, 3)).reshape(1, 1, C_in, -1))
    workers = min(N * H, workers_for(x.size * panels.shape[1]))
    lines = min(-(-N * H // workers), max(2 * KH, BUFFER // (W * panels.shape[1])))
    (products,) = scratch(
        "kernel", (workers, lines + KH, rounded(W, ROWS) + KW, panels.shape[1])
    )  # a line more than is read
    convolve_few_all(x, panels, bias, add.reshape(-1), y, KH, KW, lines, products)
    return y


def in_panels(w, kh=None, kw=None, turned=False):
    """A filter (KH, KW, C_in, C_out) as a matrix (len(kh) len(kw) C_in, C_out rounded up to 16), in panels.

    Columns are filled up with zeros and stand in panels of 32, each (rows, 32), the last perhaps (rows, 16): so a
    product reads its operand from one end to the other. kh, kw: ranges of the filter's positions, all by default.
    turned: C_in and C_out change places.
    """
    kh, kw = kh or range(w.shape[0]), kw or range(w.shape[1])
    depth, columns = w.shape[2:][::-1] if turned else w.shape[2:]
    (panels,) = scratch("filter", (len(kh) * len(kw) * depth, rounded(columns, LANES)))
    workers = min(depth, workers_for(8 * panels.size))
    fill_panels(w, kh.start, kh.step, len(kh), kw.start, kw.step, len(kw), turned, panels, workers)
    return panels


@njit(parallel=True, cache=True)
def fill_panels(w, first_h, step_h, KH, first_w, step_w, KW, turned, panels, workers):
    """`in_panels`, each worker with its share of the depth."""
    depth = w.shape[3] if turned else w.shape[2]
    for worker in prange(workers):
        last = (worker + 1) * depth // workers
        for first in range(worker * depth // workers, last, LANES):
            some = min(LANES, last - first)
            fill_panels_rows(w, first_h, step_h, KH, first_w, step_w, KW, turned, panels, first, some)


@njit(cache=True, nogil=True)
def fill_panels_rows(w, first_h, step_h, KH, first_w, step_w, KW, turned, panels, first, some):
    """At each position, so many rows of the depth."""
    depth, columns = (w.shape[3], w.shape[2]) if turned else (w.shape[2], w.shape[3])
    rows, K = panels.shape
    from_w, into = pointer(w), pointer(panels)
    for h in range(KH):
        for v in range(KW):
            kh, kw, row = first_h + step_h * h, first_w + step_w * v, (h * KW + v) * depth + first
            position = kh * w.shape[1] + kw
            for j in range(0, K, LANES):
                panel = min(WIDE, K - j // WIDE * WIDE)
                at = j // WIDE * WIDE * rows + row * panel + j % WIDE
                if turned and some == LANES and j + LANES <= columns:
                    transpose(from_w, (position * columns + j) * depth + first, depth, into, at, panel)
                elif turned:
                    for i in range(some):
                        for c in range(LANES):
                            into[at + i * panel + c] = w[kh, kw, j + c, first + i] if j + c < columns else np.float32(0)
                else:
                    for i in range(some):
                        from_row = (position * depth + first + i) * columns + j
                        store(into, at + i * panel, load_part(from_w, from_row, columns - j))


def _convolve(x, panels, bias, add, y, size, first, step, phase, spread):
    _, H, W, C_out = y.shape
    Hp, Wp = len(range(phase[0], H, spread)), len(range(phase[1], W, spread))
    pixels, seen = x.shape[0] * Hp * Wp, len(panels)
    workers = workers_for(pixels * seen * C_out)
    block = _block(pixels, seen + C_out, workers)
    rows, outputs = scratch("kernel", (workers, block * seen), (workers, block * panels.shape[1]))
    convolve_all(x, panels, bias, add.reshape(-1), y, *size, *first, step, *phase, spread, Hp, Wp, block, rows, outputs)


def _block(pixels, numbers, workers):
    """Output pixels a block: an even share of a worker's, at most what fits, in whole rows of a product."""
    share = max(1, -(-pixels // workers))
    return rounded(-(-share // -(-share // max(BUFFER // numbers, 4 * ROWS))), ROWS)


@njit(parallel=True, cache=True)
def convolve_all(
    x, panels, bias, add, y, KH, KW, top, left, step, phase_h, phase_w, spread, Hp, Wp, block, rows, outputs
):  # fmt: skip
    """Write the pixels (phase_h + spread i, phase_w + spread j) of y, for i < Hp and j < Wp.

        y[...] = bias + add[...] + sum_{kh, kw} x[n, i step + top + kh, j step + left + kw] w[kh, kw]

    where x is 0 outside. x: (N, H, W, C_in). panels: (KH KW C_in, K), from `in_panels`. bias: (1 or N, K), or empty.
    add: y's numbers, or empty. y: (N, ., ., C_out).
    """
    workers, blocks = len(rows), -(-x.shape[0] * Hp * Wp // block)
    for worker in prange(workers):
        for i in range(worker * blocks // workers, (worker + 1) * blocks // workers):
            convolve_block(
                x, panels, bias, add, y, KH, KW, top, left, step, phase_h, phase_w, spread, Hp, Wp,
                i * block, min((i + 1) * block, x.shape[0] * Hp * Wp), rows[worker], outputs[worker],
            )  # fmt: skip


@njit(cache=True, nogil=True)
def convolve_block(
    x, panels, bias, add, y, KH, KW, top, left, step, phase_h, phase_w, spread, Hp, Wp, start, stop, rows, outputs
):  # fmt: skip
    """The outputs number start to stop - 1."""
    seen, K = panels.shape
    _, H, W, C_out = y.shape
    a, w, out, from_bias, from_add, into = (
        pointer(rows), pointer(panels), pointer(outputs), pointer(bias), pointer(add), pointer(y)
    )  # fmt: skip
    at = out_at = 0
    whole = (stop - start) % ROWS == 0
    if whole and KH * KW * step == 1:
        a, at = pointer(x), start * seen  # pixels are rows already
    else:
        gather(x, rows, seen, KH, KW, start, stop, Hp, Wp, top, left, step)
    straight = whole and spread == 1 and C_out == K  # products are outputs already
    if straight:
        out, out_at = into, start * K
    for j in range(0, K, WIDE):
        width = min(WIDE, K - j)
        for r in range(0, stop - start, ROWS):
            to = out_at + r * K + j
            multiply(width, a, at + r * seen, seen, 1, w, j * seen, width, out, to, K, seen, False)
    if straight and bias.size + add.size == 0:
        return
    n, h, j = picture_row_column(start, Hp, Wp)
    for r in range(stop - start):
        to = ((n * H + phase_h + spread * h) * W + phase_w + spread * j) * C_out
        for c in range(0, C_out, LANES):
            value = load(out, out_at + r * K + c)
            if bias.size:
                value = value + load(from_bias, n % len(bias) * K + c)
            if add.size:
                value = value + load_part(from_add, to + c, C_out - c)
            store_part(into, to + c, value, C_out - c)
        n, h, j = next_pixel(n, h, j, Hp, Wp)


@njit(parallel=True, cache=True)
def convolve_few_all(x, panels, bias, add, y, KH, KW, lines, products):
    """Write y (N, H, W, C_out) for few C_out. panels: (C_in, KH KW C_out rounded), from `in_panels`."""
    workers, all_lines = len(products), y.shape[0] * y.shape[1]
    for worker in prange(workers):
        end = (worker + 1) * all_lines // workers
        first = worker * all_lines // workers
        while first < end:
            # up to `lines` lines of one picture
            last = min(first + lines, end, (first // y.shape[1] + 1) * y.shape[1])
            convolve_few_lines(x, panels, bias, add, y, KH, KW, first, last, products[worker])
            first = last


@njit(cache=True, nogil=True)
def convolve_few_lines(x, panels, bias, add, y, KH, KW, first, last, products):
    """The outputs of lines first to last - 1 of all pictures' lines; they are of one picture."""
    _, H, W, C_out = y.shape
    C_in, K = panels.shape
    n, top, width = first // H, first % H, products.shape[1]
    a, w, out = pointer(x), pointer(panels), pointer(products)
    from_bias, from_add, into = pointer(bias), pointer(add), pointer(y)
    for i in range(last - first + KH - 1):
        h, line = top + i - KH // 2, i * width * K
        products[i, : KW // 2] = 0
        if 0 <= h < H:
            full = W // ROWS * ROWS
            for t in range(0, full, ROWS):
                for j in range(0, K, WIDE):
                    at, to, panel = ((n * H + h) * W + t) * C_in, line + (KW // 2 + t) * K + j, min(WIDE, K - j)
                    multiply(panel, a, at, C_in, 1, w, j * C_in, panel, out, to, K, C_in, False)
            for t in range(full, W):
                for j in range(0, K, LANES):
                    wide = min(WIDE, K - j // WIDE * WIDE)
                    total = splat(np.float32(0))
                    for c in range(C_in):
                        weights = load(w, j // WIDE * WIDE * C_in + c * wide + j % WIDE)
                        total = total + x[n, h, t, c] * weights
                    store(out, line + (KW // 2 + t) * K + j, total)
            products[i, W + KW // 2 :] = 0
        else:
            products[i] = 0
    for i in range(last - first):
        for j in range(W):
            to, value = ((n * H + top + i) * W + j) * C_out, splat(np.float32(0))
            if bias.size:
                value = load(from_bias, n % len(bias) * bias.shape[1])
            for kh in range(KH):
                for kw in range(KW):
                    value = value + load(out, ((i + kh) * width + j + kw) * K + (kh * KW + kw) * C_out)
            if add.size:
                value = value + load_part(from_add, to, C_out)
            store_part(into, to, value, C_out)


@njit(parallel=True, cache=True)
def correlate_all(gy, x, KH, KW, step, block, rows, gradients, totals):
    """Fill totals[worker], (KH KW C_in rounded, C_out rounded), with each worker's share of the filter's gradient."""
    workers, pixels = len(rows), gy.shape[0] * gy.shape[1] * gy.shape[2]
    blocks = -(-pixels // block)
    for worker in prange(workers):
        totals[worker] = 0
        for i in range(worker * blocks // workers, (worker + 1) * blocks // workers):
            start, stop = i * block, min((i + 1) * block, pixels)
            correlate_block(gy, x, KH, KW, step, start, stop, rows[worker], gradients[worker], totals[worker])


@njit(cache=True, nogil=True)
def correlate_block(gy, x, KH, KW, step, start, stop, rows, gradients, total):
    """What the outputs number start to stop - 1 have to say on the filter, added to `total`."""
    _, Hy, Wy, C_out = gy.shape
    seen, K = total.shape
    a, g, sums = pointer(rows), pointer(gradients), pointer(total)
    if KH * KW * step == 1 and x.shape[3] % ROWS == 0:
        a, at = pointer(x), start * seen
    else:
        at = 0
        gather(x, rows, seen, KH, KW, start, stop, Hy, Wy, -(KH // 2), -(KW // 2), step)
    from_gy, g_at = pointer(gy), start * C_out
    if C_out == K:
        g = from_gy
    else:
        for r in range(stop - start):
            for c in range(0, K, LANES):
                store(g, r * K + c, load_part(from_gy, g_at + r * C_out + c, C_out - c))
        g_at = 0
    for j in range(0, K, WIDE):
        for i in range(0, seen, ROWS):
            multiply(min(WIDE, K - j), a, at + i, 1, seen, g, g_at + j, K, sums, i * K + j, K, stop - start, True)


@njit(cache=True, nogil=True)
def gather(x, rows, width, KH, KW, start, stop, Hp, Wp, top, left, step):
    """Copy what output pixels start to stop - 1 see of x into rows of `width` numbers, 0 outside x and behind.

    The pixels that a row of the filter sees lie one behind the other, so they are copied as one.
    """
    _, H, W, C = x.shape
    from_x, into, length, zero = pointer(x), pointer(rows), KW * C, splat(np.float32(0))
    n, i_out, j_out = picture_row_column(start, Hp, Wp)
    r, rest = 0, width - KH * length
    while r < stop - start:
        run = min(Wp - j_out, stop - start - r)  # outputs side by side
        for kh in range(KH):
            h = i_out * step + top + kh
            for i in range(run):
                j, to = (j_out + i) * step + left, (r + i) * width + kh * length
                if h < 0 or h >= H:
                    for c in range(0, length, LANES):
                        store_part(into, to + c, zero, length - c)
                elif j >= 0 and j + KW <= W:
                    at = ((n * H + h) * W + j) * C
                    for c in range(0, length, LANES):
                        store_part(into, to + c, load_part(from_x, at + c, length - c), length - c)
                else:
                    for kw in range(KW):
                        at, inside = ((n * H + h) * W + j + kw) * C, 0 <= j + kw < W
                        for c in range(0, C, LANES):
                            value = load_part(from_x, at + c, C - c) if inside else zero
                            store_part(into, to + kw * C + c, value, C - c)
        if rest:
            for i in range(run):
                store_part(into, (r + i) * width + KH * length, zero, rest)
        r, j_out = r + run, j_out + run
        if j_out == Wp:
            i_out, j_out = i_out + 1, 0
        if i_out == Hp:
            n, i_out = n + 1, 0


@njit
def picture_row_column(pixel, H, W):
    """Where pixel number `pixel` of a batch of H x W pictures lies."""
    return pixel // (H * W), pixel // W % H, pixel % W


@njit
def next_pixel(n, h, j, H, W):
    """Where the pixel behind that one lies."""
    j += 1
    if j == W:
        h, j = h + 1, 0
    if h == H:
        n, h = n + 1, 0
    return n, h, j
