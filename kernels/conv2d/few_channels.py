"""Convolution with fewer than 8 output channels: first the products, then the sums over filter positions.

Three output channels would leave thirteen of sixteen SIMD lanes without work. So the order of the two steps is
exchanged. First every pixel is multiplied with all filter positions at once, which makes KH KW C_out columns; then each
output adds up what its neighbours hold for it:

    products = x @ w.transpose(2, 0, 1, 3).reshape(C_in, KH KW C_out)           # for every pixel
    y[i, j] = bias + residual[i, j] + sum_{kh, kw} products[i + kh - KH // 2, j + kw - KW // 2, kh, kw]

Reading order: after `pack.py`. `implicit_gemm.py` calls this for outputs and for gradients of x, with stride 1 only.
For the gradient of a filter with few output channels, it exchanges x and gy and does not need this file.
"""

import numpy as np
from numba import prange

from minidiff.kernels.conv2d.pack import pack_filter
from minidiff.kernels.numba_compile import kernel, njit
from minidiff.kernels.numba_memory import scratch
from minidiff.kernels.numba_product import ROWS, WIDE, multiply, round_up
from minidiff.kernels.numba_threads import workers_for
from minidiff.kernels.numba_vector import LANES, load, masked_load, masked_store, offset, pointer, splat, store


def forward_few(x, w, bias, residual, y, buffer):
    """Fill y and return it; see `implicit_gemm.forward`. buffer: how many numbers of products a thread may hold."""
    KH, KW, C_in, _ = w.shape
    N, H, W, _ = x.shape
    if not y.size:
        return y
    panels = pack_filter(w.transpose(2, 0, 1, 3).copy().reshape(1, 1, C_in, -1))
    workers = min(N * H, workers_for(x.size * panels.shape[1]))
    block = min(-(-N * H // workers), max(2 * KH, buffer // (W * panels.shape[1])))
    shape = (workers, block + KH, round_up(W, ROWS) + KW, panels.shape[1])  # one line more than is read
    (products,) = scratch("kernel", shape)
    forward_few_all(x, panels, bias, residual.reshape(-1), y, (KH, KW), block, products)
    return y


@kernel
def forward_few_all(x, panels, bias, residual, y, size, block, products):
    """Write y (N, H, W, C_out). panels: (C_in, KH KW C_out rounded), from `pack_filter`. size: KH, KW."""
    workers, lines = len(products), y.shape[0] * y.shape[1]
    for worker in prange(workers):
        end = (worker + 1) * lines // workers
        first = worker * lines // workers
        while first < end:
            # at most `block` lines, all of one image
            last = min(first + block, end, (first // y.shape[1] + 1) * y.shape[1])
            forward_few_lines(x, panels, bias, residual, y, size, first, last, products[worker])
            first = last


@njit
def forward_few_lines(x, panels, bias, residual, y, size, first, last, products):
    """The outputs of lines first to last - 1, counted through all images; these lines belong to one image."""
    KH, KW = size
    _, H, W, C_out = y.shape
    C_in, K = panels.shape
    n, top, width = first // H, first % H, products.shape[1]
    a, w, out = pointer(x), pointer(panels), pointer(products)
    from_bias, from_residual, into = pointer(bias), pointer(residual), pointer(y)
    for i in range(last - first + KH - 1):
        h, line = top + i - KH // 2, i * width * K
        if 0 <= h < H:
            full = W // ROWS * ROWS
            for t in range(0, full, ROWS):
                for j in range(0, K, WIDE):
                    pixels, to, panel = ((n * H + h) * W + t) * C_in, line + (KW // 2 + t) * K + j, min(WIDE, K - j)
                    multiply(
                        panel, offset(a, pixels), C_in, 1, offset(w, j * C_in), panel, offset(out, to), K, C_in, False
                    )
            for t in range(full, W):
                for j in range(0, K, LANES):
                    panel = min(WIDE, K - j // WIDE * WIDE)
                    total = splat(np.float32(0))
                    for c in range(C_in):
                        weights = load(w, j // WIDE * WIDE * C_in + c * panel + j % WIDE)
                        total = total + x[n, h, t, c] * weights
                    store(out, line + (KW // 2 + t) * K + j, total)
            clear_borders(products, i, KW // 2, KW // 2 + W)
        else:
            clear_borders(products, i, width, width)
    for i in range(last - first):
        for j in range(W):
            to, value = ((n * H + top + i) * W + j) * C_out, splat(np.float32(0))
            if bias.size:
                value = load(from_bias, n % len(bias) * bias.shape[1])
            for kh in range(KH):
                for kw in range(KW):
                    value = value + load(out, ((i + kh) * width + j + kw) * K + (kh * KW + kw) * C_out)
            if residual.size:
                value = value + masked_load(from_residual, to, C_out)
            masked_store(into, to, value, C_out)


@njit
def clear_borders(products, i, left, right):
    """products[i, :left] = products[i, right:] = 0; assignments of slices would take a second to compile."""
    for t in range(products.shape[1]):
        if not left <= t < right:
            for k in range(products.shape[2]):
                products[i, t, k] = 0
