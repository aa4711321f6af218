"""Group normalisation on a GPU, written in Python: the kernels of `group_norm.cu`, to be read beside them.

In the forward pass each block has one group of an image. Its threads walk over the group's numbers three times: for the
mean, for the variance, and to normalise. In the backward pass a kernel with one block for each channel of an image sums
gscale and gshift, and a kernel with one block for each group makes gx from these sums. Sums are float64.

scale and shift come as (1, C) or (N, C); pixel i of an image is (i // W, i % W). The sizes come as `s`: pixels, C,
groups, the rows of scale and of shift, silu, eps.
"""

import math

from numba import cuda, float32

from minidiff.kernels.norm.cuda_host import GroupNorm
from minidiff.kernels.numba_cuda_launch import THREADS, Functions, sum_of_block


@cuda.jit(device=True)
def sigmoid(z):
    return float32(1) / (float32(1) + math.exp(-z))


@cuda.jit
def norm_forward(x, scale, shift, y, mean, rstd, s):
    """y (N, H, W, C), mean and rstd (N, groups). grid: N groups."""
    pixels, C, groups, scale_rows, shift_rows, silu, eps = s
    g, n, W, width = cuda.blockIdx.x % groups, cuda.blockIdx.x // groups, x.shape[2], C // groups
    count = pixels * width
    total = 0.0
    for i in range(cuda.threadIdx.x, count, THREADS):
        pixel, c = i // width, g * width + i % width
        total += x[n, pixel // W, pixel % W, c]
    center = float32(sum_of_block(total) / count)
    total = 0.0
    for i in range(cuda.threadIdx.x, count, THREADS):
        pixel, c = i // width, g * width + i % width
        centered = x[n, pixel // W, pixel % W, c] - center
        total += centered * centered
    factor = float32(1 / math.sqrt(sum_of_block(total) / count + eps))
    if cuda.threadIdx.x == 0:
        mean[n, g], rstd[n, g] = center, factor
    for i in range(cuda.threadIdx.x, count, THREADS):
        pixel, c = i // width, g * width + i % width
        h, v = pixel // W, pixel % W
        z = (x[n, h, v, c] - center) * factor * scale[n % scale_rows, c] + shift[n % shift_rows, c]
        y[n, h, v, c] = z * sigmoid(z) if silu else z


@cuda.jit
def norm_again(x, scale, shift, mean, rstd, y, s):
    """y from the known mean and rstd. grid: N groups."""
    pixels, C, groups, scale_rows, shift_rows, silu, _eps = s
    g, n, W, width = cuda.blockIdx.x % groups, cuda.blockIdx.x // groups, x.shape[2], C // groups
    for i in range(cuda.threadIdx.x, pixels * width, THREADS):
        pixel, c = i // width, g * width + i % width
        h, v = pixel // W, pixel % W
        z = (x[n, h, v, c] - mean[n, g]) * rstd[n, g] * scale[n % scale_rows, c] + shift[n % shift_rows, c]
        y[n, h, v, c] = z * sigmoid(z) if silu else z


@cuda.jit(device=True)
def before_silu(gy, z, silu):
    """gz, the gradient of SiLU's input; gy itself without SiLU."""
    sig = sigmoid(z)
    return gy * sig * (float32(1) + z * (float32(1) - sig)) if silu else gy


@cuda.jit
def norm_grad_channels(gy, x, scale, shift, mean, rstd, gscale, gshift, s):
    """gscale and gshift (N, C). grid: N C, one block for each channel."""
    pixels, C, groups, scale_rows, shift_rows, silu, _eps = s
    c, n, W = cuda.blockIdx.x % C, cuda.blockIdx.x // C, x.shape[2]
    g = c // (C // groups)
    for_scale = for_shift = 0.0
    for pixel in range(cuda.threadIdx.x, pixels, THREADS):
        h, v = pixel // W, pixel % W
        x_hat = (x[n, h, v, c] - mean[n, g]) * rstd[n, g]
        gz = before_silu(gy[n, h, v, c], x_hat * scale[n % scale_rows, c] + shift[n % shift_rows, c], silu)
        for_shift += gz
        for_scale += gz * x_hat
    for_shift, for_scale = sum_of_block(for_shift), sum_of_block(for_scale)
    if cuda.threadIdx.x == 0:
        gshift[n, c], gscale[n, c] = for_shift, for_scale


@cuda.jit
def norm_grad_x(gy, x, scale, shift, mean, rstd, gscale, gshift, gx_so_far, gx, s):
    """gx = rstd (gz scale - average(gz scale) - x_hat average(gz scale x_hat)) + gx_so_far. grid: N groups."""
    pixels, C, groups, scale_rows, shift_rows, silu, _eps = s
    g, n, W, width = cuda.blockIdx.x % groups, cuda.blockIdx.x // groups, x.shape[2], C // groups
    average = average_x_hat = 0.0
    for c in range(g * width, (g + 1) * width):
        average += scale[n % scale_rows, c] * gshift[n, c] / (pixels * width)
        average_x_hat += scale[n % scale_rows, c] * gscale[n, c] / (pixels * width)
    for i in range(cuda.threadIdx.x, pixels * width, THREADS):
        pixel, c = i // width, g * width + i % width
        h, v, slope = pixel // W, pixel % W, scale[n % scale_rows, c]
        x_hat = (x[n, h, v, c] - mean[n, g]) * rstd[n, g]
        gz = before_silu(gy[n, h, v, c], x_hat * slope + shift[n % shift_rows, c], silu)
        value = rstd[n, g] * (gz * slope - float32(average) - x_hat * float32(average_x_hat))
        gx[n, h, v, c] = value + gx_so_far[n, h, v, c] if gx_so_far.size > 0 else value


_norm = GroupNorm(
    Functions(
        absent=4,
        norm_forward=(THREADS, norm_forward),
        norm_again=(THREADS, norm_again),
        norm_grad_channels=(THREADS, norm_grad_channels),
        norm_grad_x=(THREADS, norm_grad_x),
    )
)

group_norm, group_norm_again, group_norm_grad = _norm.group_norm, _norm.group_norm_again, _norm.group_norm_grad
