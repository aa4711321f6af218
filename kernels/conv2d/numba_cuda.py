"""Convolution on a GPU, written in Python: the naive and the tiled kernels, to be read beside those in CUDA C++.

The naive kernels are those of `conv2d_naive.cu`: each thread computes one number and loads everything for itself. The
tiled kernels compute a convolution as a product of matrices A B, see `cuda_host.py`. The 16 x 16 threads of a block
share what they load: 16 columns of A and 16 rows of B at a time lie in shared memory, so each number is loaded a
sixteenth as often. `conv2d_tiled.cu` goes one step further and keeps parts of both in registers.

The sizes come as `s`: N, H, W, C_in, KH, KW, C_out, stride, Hy, Wy, up; see `cuda_host.numbers_of`.
"""

from numba import cuda, float32

from minidiff.kernels.conv2d.cuda_host import THREADS, Convolution, NaiveConvolution
from minidiff.kernels.numba_cuda_launch import Functions, smaller

TILE = 16

# ---- one thread for each number -------------------------------------------------------------------------------------


@cuda.jit
def conv2d_naive(x, w, b, y, s):
    """y (N, Hy, Wy, C_out) of x (N, H, W, C_in), w (KH, KW, C_in, C_out) and b, which is (C_out,) or empty."""
    _N, H, W, C_in, KH, KW, C_out, stride, Hy, Wy, _up = s
    i = cuda.grid(1)
    if i >= y.size:
        return
    o, column, row, n = i % C_out, i // C_out % Wy, i // C_out // Wy % Hy, i // C_out // Wy // Hy
    total = float32(0)
    for kh in range(KH):
        for kw in range(KW):
            h, v = row * stride + kh - KH // 2, column * stride + kw - KW // 2
            if 0 <= h < H and 0 <= v < W:
                for c in range(C_in):
                    total += x[n, h, v, c] * w[kh, kw, c, o]
    y[n, row, column, o] = total + b[o] if b.size > 0 else total


@cuda.jit
def conv2d_grad_x_naive(gy, w, gx, s):
    """gx (N, H, W, C_in): each thread gathers from every output that saw its number."""
    _N, H, W, C_in, KH, KW, C_out, stride, Hy, Wy, _up = s
    i = cuda.grid(1)
    if i >= gx.size:
        return
    c, column, row, n = i % C_in, i // C_in % W, i // C_in // W % H, i // C_in // W // H
    total = float32(0)
    for kh in range(KH):
        for kw in range(KW):
            h, v = row - kh + KH // 2, column - kw + KW // 2  # stride times the output's position
            if h >= 0 and v >= 0 and h % stride == 0 and v % stride == 0 and h // stride < Hy and v // stride < Wy:
                for o in range(C_out):
                    total += gy[n, h // stride, v // stride, o] * w[kh, kw, c, o]
    gx[n, row, column, c] = total


@cuda.jit
def conv2d_grad_w_naive(gy, x, gw, s):
    """gw (KH, KW, C_in, C_out): each thread adds up all pixels, line by line, so that the error grows less."""
    N, H, W, C_in, KH, KW, C_out, stride, Hy, Wy, _up = s
    i = cuda.grid(1)
    if i >= gw.size:
        return
    o, c, kw, kh = i % C_out, i // C_out % C_in, i // C_out // C_in % KW, i // C_out // C_in // KW
    total = float32(0)
    for n in range(N):
        for row in range(Hy):
            h = row * stride + kh - KH // 2
            if 0 <= h < H:
                line = float32(0)
                for column in range(Wy):
                    v = column * stride + kw - KW // 2
                    if 0 <= v < W:
                        line += x[n, h, v, c] * gy[n, row, column, o]
                total += line
    gw[kh, kw, c, o] = total


# ---- in tiles -------------------------------------------------------------------------------------------------------


@cuda.jit(device=True)
def seen(x, s, pixel, k):
    """What this pixel of y sees of x at k = (kh, kw, c); 0 outside."""
    N, H, W, C_in, KH, KW, _C_out, stride, Hy, Wy, up = s
    n, row, column = pixel // (Hy * Wy), pixel // Wy % Hy, pixel % Wy
    kh, kw, c = k // (KW * C_in), k // C_in % KW, k % C_in
    h, v = row * stride + kh - KH // 2, column * stride + kw - KW // 2
    if n < N and kh < KH and 0 <= h < H and 0 <= v < W:
        return x[n, h >> up, v >> up, c]
    return float32(0)


@cuda.jit(device=True)
def seen_by(gy, s, pixel, k):
    """The gradient of the output that saw this pixel of x at k = (kh, kw, o); 0 if there is none."""
    N, H, W, _C_in, KH, KW, C_out, stride, Hy, Wy, _up = s
    n, row, column = pixel // (H * W), pixel // W % H, pixel % W
    kh, kw, o = k // (KW * C_out), k // C_out % KW, k % C_out
    h, v = row - kh + KH // 2, column - kw + KW // 2  # stride times the output's position
    inside = n < N and kh < KH and h >= 0 and v >= 0 and h // stride < Hy and v // stride < Wy
    if inside and h % stride == 0 and v % stride == 0:
        return gy[n, h // stride, v // stride, o]
    return float32(0)


@cuda.jit(device=True)
def weight(w, s, k, o):
    """w at k = (kh, kw, c), for output channel o."""
    _N, _H, _W, C_in, KH, KW, C_out, _stride, _Hy, _Wy, _up = s
    kh, kw, c = k // (KW * C_in), k // C_in % KW, k % C_in
    return w[kh, kw, c, o] if kh < KH and o < C_out else float32(0)


@cuda.jit(device=True)
def weight_transposed(w, s, k, c):
    """w at k = (kh, kw, o), for input channel c."""
    _N, _H, _W, C_in, KH, KW, C_out, _stride, _Hy, _Wy, _up = s
    kh, kw, o = k // (KW * C_out), k // C_out % KW, k % C_out
    return w[kh, kw, c, o] if kh < KH and c < C_in else float32(0)


@cuda.jit(device=True)
def seen_by_weight(x, s, k, pixel):
    """`seen` with rows and columns exchanged."""
    return seen(x, s, pixel, k)


@cuda.jit(device=True)
def gradient(gy, s, pixel, o):
    """gy of this pixel of y."""
    N, _H, _W, _C_in, _KH, _KW, C_out, _stride, Hy, Wy, _up = s
    n, row, column = pixel // (Hy * Wy), pixel // Wy % Hy, pixel % Wy
    return gy[n, row, column, o] if n < N and o < C_out else float32(0)


def product(number_of_a, number_of_b):
    """Make the function that computes one number of A B, from functions that return the numbers of A and of B."""

    @cuda.jit(device=True)
    def multiply(left, right, s, first, stop):
        """The sum over columns first to stop - 1 of A, for this thread's row and column of the product."""
        a = cuda.shared.array((TILE, TILE), float32)
        b = cuda.shared.array(
            (TILE, TILE), float32
        )  # on a line of its own: the simulator identifies arrays by line number
        i, j = cuda.threadIdx.y, cuda.threadIdx.x
        row, column = cuda.blockIdx.x * TILE + i, cuda.blockIdx.y * TILE + j
        total = float32(0)
        for k in range(first, stop, TILE):
            a[i, j] = number_of_a(left, s, row, k + j)
            b[i, j] = number_of_b(right, s, k + i, column)
            cuda.syncthreads()  # both tiles are there
            for p in range(TILE):
                total += a[i, p] * b[p, j]
            cuda.syncthreads()  # no thread needs them any more
        return total

    return multiply


forward, backward_data, backward_filter = (
    product(seen, weight),
    product(seen_by, weight_transposed),
    product(seen_by_weight, gradient),
)


@cuda.jit
def conv2d_tiled(x, w, b, y, s):
    """y (N, Hy, Wy, C_out); b is (C_out,) or empty."""
    N, _H, _W, C_in, KH, KW, C_out, _stride, Hy, Wy, _up = s
    total = forward(x, w, s, 0, KH * KW * C_in)
    pixel, o = cuda.blockIdx.x * TILE + cuda.threadIdx.y, cuda.blockIdx.y * TILE + cuda.threadIdx.x
    if pixel < N * Hy * Wy and o < C_out:
        y[pixel // (Hy * Wy), pixel // Wy % Hy, pixel % Wy, o] = total + b[o] if b.size > 0 else total


@cuda.jit
def conv2d_grad_x_tiled(gy, w, gx, s):
    """gx (N, H, W, C_in)."""
    N, H, W, C_in, KH, KW, C_out, _stride, _Hy, _Wy, _up = s
    total = backward_data(gy, w, s, 0, KH * KW * C_out)
    pixel, c = cuda.blockIdx.x * TILE + cuda.threadIdx.y, cuda.blockIdx.y * TILE + cuda.threadIdx.x
    if pixel < N * H * W and c < C_in:
        gx[pixel // (H * W), pixel // W % H, pixel % W, c] = total


@cuda.jit
def conv2d_grad_w_tiled(gy, x, parts, slice_, s):
    """parts (slices, KH KW C_in, C_out): the filter's gradient over each slice of the pixels."""
    first = cuda.blockIdx.z * slice_
    total = backward_filter(x, gy, s, first, smaller(first + slice_, gy.size // gy.shape[3]))
    k, o = cuda.blockIdx.x * TILE + cuda.threadIdx.y, cuda.blockIdx.y * TILE + cuda.threadIdx.x
    if k < parts.shape[1] and o < parts.shape[2]:
        parts[cuda.blockIdx.z, k, o] = total


@cuda.jit
def add_parts(parts, gw, count, slices):
    """gw = the sum of the slices' parts, always in the same order."""
    i = cuda.grid(1)
    if i >= count:
        return
    C_in, C_out = gw.shape[2:]
    k, o = i // C_out, i % C_out
    total = float32(0)
    for part in range(slices):
        total += parts[part, k, o]
    gw[k // C_in // gw.shape[1], k // C_in % gw.shape[1], k % C_in, o] = total


# ---- the functions --------------------------------------------------------------------------------------------------

naive = NaiveConvolution(
    Functions(
        conv2d_naive=(THREADS, conv2d_naive),
        conv2d_grad_x_naive=(THREADS, conv2d_grad_x_naive),
        conv2d_grad_w_naive=(THREADS, conv2d_grad_w_naive),
    )
)
_tiled = Convolution(
    Functions(
        conv2d_tiled=((TILE, TILE), conv2d_tiled),
        conv2d_grad_x_tiled=((TILE, TILE), conv2d_grad_x_tiled),
        conv2d_grad_w_tiled=((TILE, TILE), conv2d_grad_w_tiled),
        add_parts=(THREADS, add_parts),
    ),
    rows=TILE,
    columns=TILE,
)

conv2d, conv2d_grad_x, conv2d_grad_w = _tiled.conv2d, _tiled.conv2d_grad_x, _tiled.conv2d_grad_w
conv2d_grad_b, constant_filters = _tiled.conv2d_grad_b, _tiled.constant_filters
