"""Group normalisation on the CPU: each picture stays in cache while it is passed over, and channels fill SIMD lanes.

`reference.py` makes a dozen passes over the whole batch. Here a thread takes one picture at a time (32 x 32 x 64 is
256 KiB: it fits the L2 cache): memory sees x once and y once. The innermost loop runs over channels, which lie side by
side, with one number a channel for mean, scale and so on; groups appear only between passes.

Sums are float32 within a strip of 64 pixels and float64 across strips: as fast as float32, and its error does not
grow with the picture.
"""

import numpy as np
from numba import njit, prange

from minidiff.kernels.norm.reference import check_group_norm
from minidiff.kernels.numba_math import sigmoid
from minidiff.kernels.numba_threads import float32, workers_for

STRIP = 64  # pixels whose sums are float32
FAST = {"contract", "nsz", "arcp"}  # sums keep their order; NaN and infinity stay what they are


def group_norm(
    x: np.ndarray, scale: np.ndarray, shift: np.ndarray, groups: int, eps: float, silu: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`reference.group_norm` for float32; the same bits for any number of threads."""
    check_group_norm("group_norm", x.shape, scale.shape, shift.shape, groups)
    x, scale, shift = float32("group_norm", x=x, scale=scale, shift=shift)
    pictures, scale, shift, parts = _prepare(x, scale, shift, groups)
    y = np.empty_like(pictures)
    mean, rstd = np.empty((2, len(x), groups), np.float32)
    normalize(pictures, scale, shift, eps, silu, y, mean, rstd, parts)
    return y.reshape(x.shape), mean, rstd


def group_norm_grad(
    gy: np.ndarray,
    x: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    mean: np.ndarray,
    rstd: np.ndarray,
    groups: int,
    silu: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`reference.group_norm_grad` for float32; the same bits for any number of threads."""
    name = "group_norm_grad"
    check_group_norm(name, x.shape, scale.shape, shift.shape, groups, gy.shape, mean.shape, rstd.shape)
    gy, x, scale, shift, mean, rstd = float32(name, gy=gy, x=x, scale=scale, shift=shift, mean=mean, rstd=rstd)
    pictures, scale, shift, parts = _prepare(x, scale, shift, groups)
    gx = np.empty_like(pictures)
    gscale, gshift = np.empty((2, *scale.shape), np.float32)
    normalize_grad(gy.reshape(gx.shape), pictures, scale, shift, mean, rstd, silu, gx, gscale, gshift, parts)
    return gx.reshape(x.shape), gscale, gshift


def _prepare(x, scale, shift, groups):
    """x as (N, pixels, C), scale and shift as (N, C), and into how many parts to cut each picture's channels."""
    N, H, W, C = x.shape
    scale, shift = (np.tile(a, (N, 1)) if a.ndim == 1 else a for a in (scale, shift))
    parts = 1
    while N * parts < workers_for(8 * x.size) and groups % (2 * parts) == 0 and C // (2 * parts) >= 16:
        parts *= 2  # fewer pictures than threads: groups do not touch each other, so a picture's can be shared out
    return x.reshape(N, H * W, C), scale, shift, parts


@njit(parallel=True, cache=True)
def normalize(x, scale, shift, eps, silu, y, mean, rstd, parts):
    """Fill y (N, pixels, C), mean and rstd (N, groups) for x (N, pixels, C), scale and shift (N, C)."""
    for unit in prange(len(x) * parts):
        normalize_part(x, scale, shift, eps, silu, y, mean, rstd, unit // parts, unit % parts, parts)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def normalize_part(x, scale, shift, eps, silu, y, mean, rstd, n, part, parts):
    """Normalise one part of the channels of picture n."""
    _, pixels, C = x.shape
    groups = mean.shape[1]
    width = C // groups
    first, last = part * groups // parts, (part + 1) * groups // parts
    low, high = np.uint64(first * width), np.uint64(last * width)  # unsigned: a sign check an element prevents SIMD
    center, factor, strip = np.zeros(C, np.float32), np.empty(C, np.float32), np.empty(C, np.float32)
    total = np.zeros(C)
    # First the means (center is 0), then the mean squares of what remains (center is the mean): subtracting the
    # squared mean from the mean square instead would lose every digit where the mean is large.
    for moment in range(2):
        total[:] = 0
        for start in range(0, pixels, STRIP):
            strip[:] = 0
            for i in range(start, min(start + STRIP, pixels)):
                if moment == 0:
                    for c in range(low, high):
                        strip[c] += x[n, i, c]
                else:
                    for c in range(low, high):
                        strip[c] += (x[n, i, c] - center[c]) * (x[n, i, c] - center[c])
            for c in range(low, high):
                total[c] += strip[c]
        for g in range(first, last):
            average = total[g * width : (g + 1) * width].sum() / (pixels * width)
            if moment == 0:
                mean[n, g] = average
                center[g * width : (g + 1) * width] = mean[n, g]
            else:
                rstd[n, g] = 1 / np.sqrt(average + eps)
                for c in range(g * width, (g + 1) * width):
                    factor[c] = scale[n, c] * rstd[n, g]
    for i in range(pixels):
        if silu:
            for c in range(low, high):
                z = (x[n, i, c] - center[c]) * factor[c] + shift[n, c]
                y[n, i, c] = z * sigmoid(z)
        else:
            for c in range(low, high):
                y[n, i, c] = (x[n, i, c] - center[c]) * factor[c] + shift[n, c]


@njit(parallel=True, cache=True)
def normalize_grad(gy, x, scale, shift, mean, rstd, silu, gx, gscale, gshift, parts):
    """Fill gx (N, pixels, C), gscale and gshift (N, C)."""
    for unit in prange(len(x) * parts):
        normalize_grad_part(
            gy, x, scale, shift, mean, rstd, silu, gx, gscale, gshift, unit // parts, unit % parts, parts
        )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def normalize_grad_part(gy, x, scale, shift, mean, rstd, silu, gx, gscale, gshift, n, part, parts):
    """The gradients of one part of the channels of picture n."""
    _, pixels, C = x.shape
    groups = mean.shape[1]
    width = C // groups
    first, last = part * groups // parts, (part + 1) * groups // parts
    low, high = np.uint64(first * width), np.uint64(last * width)  # unsigned: a sign check an element prevents SIMD
    center, inverse = np.empty(C, np.float32), np.empty(C, np.float32)
    for c in range(low, high):
        center[c], inverse[c] = mean[n, c // width], rstd[n, c // width]

    # Pass 1: gz, kept in gx, and its sums.
    strip_shift, strip_scale = np.empty(C, np.float32), np.empty(C, np.float32)
    total_shift, total_scale = np.zeros(C), np.zeros(C)
    for start in range(0, pixels, STRIP):
        strip_shift[:] = 0
        strip_scale[:] = 0
        for i in range(start, min(start + STRIP, pixels)):
            for c in range(low, high):
                x_hat = (x[n, i, c] - center[c]) * inverse[c]
                gz = gy[n, i, c]
                if silu:
                    z = scale[n, c] * x_hat + shift[n, c]
                    s = sigmoid(z)
                    gz *= s * (np.float32(1) + z * (np.float32(1) - s))
                gx[n, i, c] = gz
                strip_shift[c] += gz
                strip_scale[c] += gz * x_hat
        for c in range(low, high):
            total_shift[c] += strip_shift[c]
            total_scale[c] += strip_scale[c]

    # Between: gx = rstd (gz scale - average_g - x_hat average_g_x_hat) becomes three numbers a channel.
    by_gz, by_x, constant = np.empty(C, np.float32), np.empty(C, np.float32), np.empty(C, np.float32)
    for g in range(first, last):
        average_g = average_g_x_hat = 0.0
        for c in range(g * width, (g + 1) * width):
            gshift[n, c], gscale[n, c] = total_shift[c], total_scale[c]
            average_g += scale[n, c] * total_shift[c] / (pixels * width)
            average_g_x_hat += scale[n, c] * total_scale[c] / (pixels * width)
        for c in range(g * width, (g + 1) * width):
            by_gz[c] = rstd[n, g] * scale[n, c]
            by_x[c] = rstd[n, g] * rstd[n, g] * average_g_x_hat
            constant[c] = rstd[n, g] * average_g

    # Pass 2: the picture's gz and x still lie in cache.
    for i in range(pixels):
        for c in range(low, high):
            gx[n, i, c] = by_gz[c] * gx[n, i, c] - by_x[c] * (x[n, i, c] - center[c]) - constant[c]
