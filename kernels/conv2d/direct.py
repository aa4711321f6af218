"""Convolution as it is defined, by products of matrices: a row of what each output pixel sees, times the filter.

`reference.py` makes KH KW products of whole shifted pictures. Here the KH KW C_in numbers that an output pixel sees are
a row of a matrix, the filter is another matrix (KH KW C_in, C_out), and their product holds the outputs. Written out
("im2col"), the rows would hold each number of x KH KW times. But the number that pixel p sees at filter position k lies
at pixels[p] + positions[k], so two short tables are all that there is of them. Each thread takes a block of whole
lines of outputs and lays out the lines of x that they see, with zeros around the picture, in a buffer that stays in its
cache.

All three functions are this one idea:

- the output sees x;
- the gradient of x sees gy, with the filter turned around and its channels swapped; with stride 2, pixels in even and
  odd rows and columns see different filter positions, so each of the four kinds is a convolution of its own with the
  positions that it sees;
- the gradient of w is the transposed rows times gy, summed over blocks: the two tables change places.

A 1x1 filter over a few pixels, as a layer of a time embedding is, is a product of two small matrices: NumPy's BLAS has
it done before kernels of our own would have been called.

Three output channels would leave thirteen of sixteen SIMD lanes idle. Where there are so few, the order is turned
around: first every pixel is multiplied with all filter positions at once, (KH KW C_out) numbers a pixel, then each
output adds up what its neighbours have for it. In the gradient of w, x and gy change places.
"""

import math

import numpy as np
from numba import prange

from minidiff.kernels.numba_compile import njit
from minidiff.kernels.numba_memory import empty, scratch
from minidiff.kernels.numba_product import ROWS, WIDE, multiply, multiply_by_table, rounded
from minidiff.kernels.numba_threads import workers_for
from minidiff.kernels.numba_vector import LANES, beyond, load, load_part, pointer, splat, store, store_part, transpose

BUFFER = 1 << 15  # numbers in a thread's lines and outputs: 128 KiB, so that they stay in its cache with the filter
FEW = 8  # channels: half a vector
SMALL = 2_000_000  # multiplications of a product that is left to BLAS
NONE = np.int64(0)  # Python's own 0 would be a type of its own to the compiler, and `fill` compiled once more for it
NOTHING, NO_BIAS = np.empty(0, np.float32), np.empty((0, 0), np.float32)


def convolve(x, w, shape, stride=1, bias=NO_BIAS, add=NOTHING):
    """`reference.conv2d` of x (N, H, W, C_in) and w (KH, KW, C_in, C_out); returns an array of this shape.

    bias: (1 or N, C_out rounded up to 16), or empty. add: like the result, or empty: a second picture to be added.
    """
    KH, KW, C_in, C_out = w.shape
    if is_small_product(x.shape, w.shape, stride):
        y = (x.reshape(len(x), -1, C_in) @ w[0, 0] + (bias[:, None, :C_out] if bias.size else 0)).reshape(shape)
        return y + add if add.size else y
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
    KH, KW, C_in, C_out = w.shape
    if is_small_product(x_shape, w.shape, stride):
        gx = (gy.reshape(-1, C_out) @ w[0, 0].T).reshape(x_shape)
        return gx + add if add.size else gx
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


def is_small_product(x_shape, w_shape, stride):
    """Whether a convolution is the product of two matrices, and one too small to be shared out."""
    multiplications = math.prod(x_shape[:3]) * w_shape[2] * w_shape[3]
    return w_shape[0] * w_shape[1] * stride == 1 and 0 < multiplications < SMALL


def positions(size, phase, stride):
    """The filter positions, of `size`, through which pixels of this phase are seen, from the last to the first."""
    last = size - 1 - (size - 1 - phase - size // 2) % stride
    return range(last, -1, -stride)


def correlate(gy, x, w_shape, stride=1):
    """`reference.conv2d_grad_w`."""
    KH, KW, C_in, C_out = w_shape
    if is_small_product(x.shape, w_shape, stride):
        return (x.reshape(-1, C_in).T @ gy.reshape(-1, C_out)).reshape(w_shape)
    if C_out < min(FEW, C_in) and stride == 1:
        return np.ascontiguousarray(correlate(x, gy, (KH, KW, C_out, C_in))[::-1, ::-1].swapaxes(2, 3))
    if not gy.size:
        return np.zeros(w_shape, np.float32)
    N, H, W, _ = gy.shape
    depth = KH * KW * C_in
    block, buffers = _cut(x.shape, (KH, KW), stride, N * H, W, C_out)
    seen, gradients, totals = scratch("kernel", *buffers, (buffers[0][0], rounded(depth, ROWS), rounded(C_out, LANES)))
    correlate_all(gy, x, KH, KW, stride, block, seen, gradients, totals)
    return np.ascontiguousarray(totals.sum(0)[:depth, :C_out]).reshape(w_shape)  # in the order of the workers


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
    N, H, W, C_out = y.shape
    lines, across = N * len(range(phase[0], H, spread)), len(range(phase[1], W, spread))
    if not lines * across:
        return
    block, buffers = _cut(x.shape, size, step, lines, across, C_out)
    seen, outputs = scratch("kernel", *buffers)
    convolve_all(
        x, panels, bias, add.reshape(-1), y, *size, *first, step, *phase, spread, across, block, seen, outputs
    )  # fmt: skip


def _cut(x_shape, size, step, lines, across, C_out):
    """How `lines` lines of `across` outputs, in all pictures together, are cut into blocks.

    Returns lines a block, and for each worker the shapes of what these see and of the outputs.
    """
    (KH, KW), C, K = size, x_shape[3], rounded(C_out, LANES)
    workers = min(lines, workers_for(lines * across * KH * KW * C * C_out))
    line, share = ((across - 1) * step + KW) * C, -(-lines // workers)
    most = max(1, BUFFER // (line * step + across * K), -(-4 * ROWS // across))
    block = -(-share // -(-share // most))
    return block, ((workers, block * max(step, KH) * line), (workers, rounded(block * across, ROWS), K))


@njit(parallel=True, cache=True)
def convolve_all(
    x, panels, bias, add, y, KH, KW, top, left, step, phase_h, phase_w, spread, across, block, seen, outputs
):  # fmt: skip
    """Write the pixels (phase_h + spread i, phase_w + spread j) of y, for j < across and all i.

        y[...] = bias + add[...] + sum_{kh, kw} x[n, i step + top + kh, j step + left + kw] w[kh, kw]

    where x is 0 outside. x: (N, H, W, C_in). panels: (KH KW C_in, K), from `in_panels`. bias: (1 or N, K), or empty.
    add: y's numbers, or empty. y: (N, ., ., C_out). block: lines at a time.
    """
    positions = positions_of(KH, KW, x.shape[3], across, step)
    workers, lines = len(seen), len(y) * -(-(y.shape[1] - phase_h) // spread)
    for worker in prange(workers):
        pixels = np.empty(outputs.shape[1], np.int64)
        end = (worker + 1) * lines // workers
        for first in range(worker * lines // workers, end, block):
            convolve_block(
                x, panels, bias, add, y, KH, KW, top, left, step, phase_h, phase_w, spread, across,
                first, min(first + block, end), positions, pixels, seen[worker], outputs[worker],
            )  # fmt: skip


@njit(cache=True, nogil=True)
def convolve_block(
    x, panels, bias, add, y, KH, KW, top, left, step, phase_h, phase_w, spread, across,
    start, stop, positions, pixels, seen, outputs,
):  # fmt: skip
    """Lines number start to stop - 1 of the outputs."""
    depth, K = panels.shape
    _, H, W, C_out = y.shape
    down, count = -(-(H - phase_h) // spread), (stop - start) * across
    lay_out(x, KH, KW, top, left, step, down, across, start, stop, seen, pixels)
    w, out, from_bias, from_add, into = pointer(panels), pointer(outputs), pointer(bias), pointer(add), pointer(y)
    a, at, out_at, positions_k, pointwise = pointer(seen), 0, 0, pointer(positions), KH * KW * step == 1
    if pointwise:  # pixels are rows already
        a, at = pointer(x), start * across * depth
    straight = count % ROWS == 0 and spread == 1 and C_out == K  # products are outputs already
    if straight:
        out, out_at = into, start * across * K
    for j in range(0, K, WIDE):
        width = min(WIDE, K - j)
        for r in range(0, count, ROWS):
            to, pixels_r = out_at + r * K + j, beyond(pointer(pixels), r)
            if pointwise and r + ROWS <= count:
                multiply(width, a, at + r * depth, depth, 1, w, j * depth, width, out, to, K, depth, False)
            else:
                multiply_by_table(width, a, at, pixels_r, positions_k, w, j * depth, width, out, to, K, depth, False)
    if straight and bias.size + add.size == 0:
        return
    for line in range(start, stop):
        n, h = line // down, phase_h + spread * (line % down)
        for j in range(across):
            to, r = ((n * H + h) * W + phase_w + spread * j) * C_out, (line - start) * across + j
            for c in range(0, C_out, LANES):
                value = load(out, out_at + r * K + c)
                if bias.size:
                    value = value + load(from_bias, n % len(bias) * K + c)
                if add.size:
                    value = value + load_part(from_add, to + c, C_out - c)
                store_part(into, to + c, value, C_out - c)


@njit
def positions_of(KH, KW, C, across, step):
    """Where a filter's KH KW C numbers meet what they multiply, from the first on; the last again up to whole ROWS."""
    seen, line = KW * C, ((across - 1) * step + KW) * C
    positions = np.empty(-(-KH * seen // ROWS) * ROWS, np.int64)
    for i in range(len(positions)):
        k = min(i, KH * seen - 1)
        positions[i] = k // seen * line + k % seen
    return positions


@njit(cache=True, nogil=True)
def lay_out(x, KH, KW, top, left, step, down, across, start, stop, seen, pixels):
    """Fill `seen` with the lines of x that lines start to stop - 1 of the outputs see, zeros around pictures included.

    pixels: filled with where in `seen` each output begins to see, the last one's again until they are full.
    A 1x1 filter with step 1 gets the places alone, for x as it lies.
    """
    _, H, W, C = x.shape
    from_x, into = pointer(x), pointer(seen)
    length, copied = ((across - 1) * step + KW) * C, KH * KW * step > 1
    before = min(length, max(0, -left) * C)
    inside = max(0, min(length - before, (W - max(0, left)) * C))
    base = have = 0  # the line where the filter lies, and how many lines there are
    for line in range(start, stop):
        n, h = line // down, line % down * step + top
        base = have if line == start or h == top else base + step
        for j in range(across):
            pixels[(line - start) * across + j] = base * length + j * step * C
        for i in range(max(base, have), base + KH):
            row = h + i - base
            source = ((n * H + row) * W + max(0, left)) * C
            if copied and 0 <= row < H:
                fill(into, i * length, from_x, NONE, NONE, before)
                fill(into, i * length + before, from_x, source, inside, inside)
                fill(into, i * length + before + inside, from_x, NONE, NONE, length - before - inside)
            elif copied:
                fill(into, i * length, from_x, NONE, NONE, length)
        have = base + KH
    count = (stop - start) * across
    pixels[count:] = pixels[count - 1]


@njit
def fill(into, to, x, source, some, length):
    """Copy so many numbers of x, and zeros behind them up to this length."""
    for c in range(0, length, LANES):
        store_part(into, to + c, load_part(x, source + c, some - c), length - c)


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
def correlate_all(gy, x, KH, KW, step, block, seen, gradients, totals):
    """Fill totals[worker], (KH KW C_in rounded, C_out rounded), with each worker's share of the filter's gradient."""
    positions = positions_of(KH, KW, x.shape[3], gy.shape[2], step)
    workers, lines = len(seen), gy.shape[0] * gy.shape[1]
    for worker in prange(workers):
        pixels = np.empty(gradients.shape[1], np.int64)
        totals[worker] = 0
        end = (worker + 1) * lines // workers
        for first in range(worker * lines // workers, end, block):
            correlate_block(
                gy, x, KH, KW, step, first, min(first + block, end),
                positions, pixels, seen[worker], gradients[worker], totals[worker],
            )  # fmt: skip


@njit(cache=True, nogil=True)
def correlate_block(gy, x, KH, KW, step, start, stop, positions, pixels, seen, gradients, total):
    """What lines start to stop - 1 of the outputs have to say on the filter, added to `total`."""
    _, Hy, Wy, C_out = gy.shape
    depth, K = total.shape
    count = (stop - start) * Wy
    lay_out(x, KH, KW, -(KH // 2), -(KW // 2), step, Hy, Wy, start, stop, seen, pixels)
    a, at, g, g_at, sums, pixels_k = pointer(seen), 0, pointer(gy), start * Wy * C_out, pointer(total), pointer(pixels)
    if KH * KW * step == 1:
        a, at = pointer(x), start * Wy * x.shape[3]
    if C_out < K:  # with zeros beside them
        for r in range(count):
            fill(pointer(gradients), r * K, g, g_at + r * C_out, C_out, K)
        g, g_at = pointer(gradients), 0
    pointwise = KH * KW * step == 1 and depth == x.shape[3]
    for j in range(0, K, WIDE):
        width = min(WIDE, K - j)
        for i in range(0, depth, ROWS):
            to, positions_i = i * K + j, beyond(pointer(positions), i)
            if pointwise:
                multiply(width, a, at + i, 1, depth, g, g_at + j, K, sums, to, K, count, True)
            else:
                multiply_by_table(width, a, at, positions_i, pixels_k, g, g_at + j, K, sums, to, K, count, True)
