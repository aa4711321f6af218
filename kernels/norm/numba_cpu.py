"""Group normalisation on the CPU: each picture stays in cache while it is passed over, channels fill SIMD lanes.

`reference.py` makes a dozen passes over the whole batch. Here a thread takes one picture at a time (32 x 32 x 64 is
256 KiB: it fits the L2 cache): memory sees x once and y once. Sixteen channels, which lie side by side, are one
vector; groups appear only between passes.

Sums are float32 within a strip of 64 pixels and float64 across strips: as fast as float32, and their error does not
grow with the picture.
"""

import numpy as np
from numba import prange

from minidiff.kernels.norm import reference
from minidiff.kernels.norm.reference import check_group_norm
from minidiff.kernels.numba_compile import njit
from minidiff.kernels.numba_memory import empty
from minidiff.kernels.numba_product import rounded
from minidiff.kernels.numba_threads import float32, unless_empty, workers_for
from minidiff.kernels.numba_vector import LANES, fma, load, load_part, pointer, room, sigmoid, splat, store, store_part

STRIP = 64  # pixels whose sums are float32
NOTHING = np.empty(0, np.float32)


@unless_empty(reference.group_norm)
def group_norm(
    x: np.ndarray, scale: np.ndarray, shift: np.ndarray, groups: int, eps: float, silu: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`reference.group_norm` for float32; the same bits for any number of threads."""
    check_group_norm("group_norm", x.shape, scale.shape, shift.shape, groups)
    x, scale, shift = float32("group_norm", x=x, scale=scale, shift=shift)
    scale, shift = for_each_picture(scale, len(x)), for_each_picture(shift, len(x))
    y, mean, rstd, lines = empty(x.shape), *statistics_for(x, groups)
    normalize(_pixels(x), scale, shift, eps, silu, _pixels(y), mean, rstd, lines, _parts(x, groups))
    return y, mean, rstd


def statistics(
    x: np.ndarray, scale: np.ndarray, shift: np.ndarray, groups: int, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`group_norm` without its result: mean, rstd (N, groups), and `lines_of` them."""
    scale, shift = for_each_picture(scale, len(x)), for_each_picture(shift, len(x))
    mean, rstd, lines = statistics_for(x, groups)
    measure(_pixels(x), scale, shift, eps, mean, rstd, lines, _parts(x, groups))
    return mean, rstd, lines


def lines_of(scale: np.ndarray, shift: np.ndarray, mean: np.ndarray, rstd: np.ndarray) -> np.ndarray:
    """Normalisation as a line for each channel: mean, factor, shift of (x - mean) factor + shift.

    (3, N, C rounded up to 16), zeros behind C.
    """
    N, C = len(mean), scale.shape[-1]
    lines = np.zeros((3, N, rounded(C, LANES)), np.float32)
    width = C // mean.shape[1]
    lines[0, :, :C] = mean.repeat(width, axis=1)
    lines[1, :, :C] = scale * rstd.repeat(width, axis=1)
    lines[2, :, :C] = shift
    return lines


def apply_lines(x: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """silu((x - mean) factor + shift), from `lines_of`."""
    y = empty(x.shape)
    normalize_known(_pixels(x), lines, True, _pixels(y), 1)
    return y


@unless_empty(reference.group_norm_grad)
def group_norm_grad(
    gy: np.ndarray,
    x: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    mean: np.ndarray,
    rstd: np.ndarray,
    groups: int,
    silu: bool,
    add: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`reference.group_norm_grad` for float32; the same bits for any number of threads."""
    name = "group_norm_grad"
    check_group_norm(name, x.shape, scale.shape, shift.shape, groups, gy.shape, mean.shape, rstd.shape, add)
    gy, x, scale, shift, mean, rstd = float32(name, gy=gy, x=x, scale=scale, shift=shift, mean=mean, rstd=rstd)
    (add,) = (NOTHING,) if add is None else float32(name, add=add)
    gx = empty(x.shape)
    gscale, gshift = np.empty((2, len(x), x.shape[3]), np.float32)
    scale, lines = for_each_picture(scale, len(x)), lines_of(scale, shift, mean, rstd)
    back = np.zeros_like(lines)
    normalize_grad(
        _pixels(gy), _pixels(x), scale, lines, rstd, silu, _pixels(gx), add.reshape(-1), gscale, gshift, back,
        _parts(x, groups),
    )  # fmt: skip
    return gx, gscale, gshift


def for_each_picture(a, N):
    """(C,) or (N, C) as (N, C)."""
    return a[None].repeat(N, axis=0) if a.ndim == 1 else a


def _pixels(x):
    return x.reshape(len(x), -1, x.shape[3])


def statistics_for(x, groups):
    mean, rstd = np.empty((2, len(x), groups), np.float32)
    return mean, rstd, np.zeros((3, len(x), rounded(x.shape[3], LANES)), np.float32)


def _parts(x, groups):
    """Into how many parts to cut each picture's channels: with fewer pictures than threads, groups are shared out."""
    parts, C = 1, x.shape[3]
    while len(x) * parts < workers_for(8 * x.size) and groups % (2 * parts) == 0 and C % (2 * parts * LANES) == 0:
        parts *= 2
    return parts


@njit(parallel=True, cache=True)
def normalize(x, scale, shift, eps, silu, y, mean, rstd, lines, parts):
    """Fill y (N, pixels, C), mean and rstd (N, groups) and lines (3, N, C rounded), for x (N, pixels, C)."""
    for unit in prange(len(x) * parts):
        n, part = unit // parts, unit % parts
        measure_part(x, scale, shift, eps, mean, rstd, lines, n, part, parts)
        normalize_part(x, lines, silu, y, n, part, parts)


@njit(parallel=True, cache=True)
def measure(x, scale, shift, eps, mean, rstd, lines, parts):
    """Fill mean and rstd (N, groups) and lines (3, N, C rounded), for x (N, pixels, C)."""
    for unit in prange(len(x) * parts):
        measure_part(x, scale, shift, eps, mean, rstd, lines, unit // parts, unit % parts, parts)


@njit(cache=True, nogil=True, error_model="numpy")
def measure_part(x, scale, shift, eps, mean, rstd, lines, n, part, parts):
    """Mean and deviation of one part of the channels of picture n.

    First the means, then the mean squares of what remains: subtracting the squared mean from the mean square instead
    would lose every digit where the mean is large.
    """
    _, pixels, C = x.shape
    groups, wide = mean.shape[1], lines.shape[2]
    width = C // groups
    low, high = part * C // parts, (part + 1) * C // parts
    from_x, line, strip, total = pointer(x), pointer(lines), room(1), np.zeros(wide)
    for moment in range(2):
        total[:] = 0
        for start in range(0, pixels, STRIP):
            for c in range(low, high, LANES):
                sums, center = splat(np.float32(0)), load(line, n * wide + c)
                for i in range(start, min(start + STRIP, pixels)):
                    v = load_part(from_x, (n * pixels + i) * C + c, C - c)
                    if moment == 0:
                        sums = sums + v
                    else:
                        sums = fma(v - center, v - center, sums)
                store(strip, 0, sums)
                for lane in range(LANES):
                    total[c + lane] += strip[lane]
        for g in range(low // width, high // width):
            average = total[g * width : (g + 1) * width].sum() / (pixels * width)
            if moment == 0:
                mean[n, g] = average
            else:
                rstd[n, g] = 1 / np.sqrt(average + eps)
            for c in range(g * width, (g + 1) * width):
                if moment == 0:
                    lines[0, n, c] = mean[n, g]
                else:
                    lines[1, n, c], lines[2, n, c] = scale[n, c] * rstd[n, g], shift[n, c]


@njit(parallel=True, cache=True)
def normalize_known(x, lines, silu, y, parts):
    """Fill y (N, pixels, C) with x normalised by known lines."""
    for unit in prange(len(x) * parts):
        normalize_part(x, lines, silu, y, unit // parts, unit % parts, parts)


@njit(cache=True, nogil=True)
def normalize_part(x, lines, silu, y, n, part, parts):
    """One part of the channels of picture n, normalised."""
    N, pixels, C = x.shape
    wide, from_x, line, into = lines.shape[2], pointer(x), pointer(lines), pointer(y)
    for i in range(pixels):
        for c in range(part * C // parts, (part + 1) * C // parts, LANES):
            at = (n * pixels + i) * C + c
            z = load_part(from_x, at, C - c) - load(line, n * wide + c)
            z = fma(z, load(line, (N + n) * wide + c), load(line, (2 * N + n) * wide + c))
            store_part(into, at, z * sigmoid(z) if silu else z, C - c)


@njit(parallel=True, cache=True)
def normalize_grad(gy, x, scale, lines, rstd, silu, gx, add, gscale, gshift, back, parts):
    """Fill gx (N, pixels, C), gscale and gshift (N, C), and on the way back (3, N, C rounded)."""
    for unit in prange(len(x) * parts):
        n, part = unit // parts, unit % parts
        normalize_grad_part(gy, x, scale, lines, rstd, silu, gx, add, gscale, gshift, back, n, part, parts)


@njit(cache=True, nogil=True, error_model="numpy")
def normalize_grad_part(gy, x, scale, lines, rstd, silu, gx, add, gscale, gshift, back, n, part, parts):
    """The gradients of one part of the channels of picture n."""
    N, pixels, C = x.shape
    groups, wide = rstd.shape[1], lines.shape[2]
    width = C // groups
    low, high = part * C // parts, (part + 1) * C // parts
    from_gy, from_x, into, line = pointer(gy), pointer(x), pointer(gx), pointer(lines)
    strip, one = room(2), splat(np.float32(1))
    totals = np.zeros((2, wide))

    # Pass 1: gz, kept in gx, and its sums, alone and times x - mean.
    for start in range(0, pixels, STRIP):
        for c in range(low, high, LANES):
            mean, factor, shift = (
                load(line, n * wide + c), load(line, (N + n) * wide + c), load(line, (2 * N + n) * wide + c)
            )  # fmt: skip
            sum_shift = sum_scale = splat(np.float32(0))
            for i in range(start, min(start + STRIP, pixels)):
                at = (n * pixels + i) * C + c
                centered, gz = load_part(from_x, at, C - c) - mean, load_part(from_gy, at, C - c)
                if silu:
                    z = fma(centered, factor, shift)
                    s = sigmoid(z)
                    gz = gz * s * fma(z, one - s, one)
                store_part(into, at, gz, C - c)
                sum_shift, sum_scale = sum_shift + gz, fma(gz, centered, sum_scale)
            store(strip, 0, sum_shift)
            store(strip, LANES, sum_scale)
            for lane in range(LANES):
                totals[0, c + lane] += strip[lane]
                totals[1, c + lane] += strip[LANES + lane]

    # Between: gx = rstd (gz scale - average_g - x_hat average_g_x_hat) becomes three numbers a channel.
    for g in range(low // width, high // width):
        average_g = average_g_x_hat = 0.0
        for c in range(g * width, (g + 1) * width):
            gshift[n, c], gscale[n, c] = totals[0, c], totals[1, c] * rstd[n, g]
            average_g += scale[n, c] * totals[0, c] / (pixels * width)
            average_g_x_hat += scale[n, c] * totals[1, c] * rstd[n, g] / (pixels * width)
        for c in range(g * width, (g + 1) * width):
            back[0, n, c] = rstd[n, g] * scale[n, c]
            back[1, n, c] = rstd[n, g] * rstd[n, g] * average_g_x_hat
            back[2, n, c] = rstd[n, g] * average_g

    # Pass 2: the picture's gz and x still lie in cache.
    by, from_add = pointer(back), pointer(add)
    for i in range(pixels):
        for c in range(low, high, LANES):
            at = (n * pixels + i) * C + c
            centered = load_part(from_x, at, C - c) - load(line, n * wide + c)
            from_mean = fma(load(by, (N + n) * wide + c), centered, load(by, (2 * N + n) * wide + c))
            value = fma(load(by, n * wide + c), load_part(into, at, C - c), -from_mean)
            store_part(into, at, value + load_part(from_add, at, C - c) if add.size else value, C - c)
