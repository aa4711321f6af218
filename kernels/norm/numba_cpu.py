"""Group normalisation on the CPU: a thread makes all passes over an image in cache, sixteen channels at once.

`reference.py` makes a dozen passes over the whole batch. Here a thread takes one image at a time (32 x 32 x 64 numbers
are 256 KiB and fit the L2 cache), so x is read from memory once and y is written once. With fewer images than threads,
an image's groups are shared out among threads if they fill whole vectors. Sixteen channels, which lie side by side, are
one vector. The passes sum over each channel; only between passes are the sums of a group's channels combined.

Sums are float32 within a strip of 64 pixels and float64 across strips: as fast as float32, and their error does not
grow with the image.

Reading order: after `reference.py`. In what follows, "affine" is normalisation as one map for each channel of each
image: (x - mean) factor + shift, with factor = scale rstd.
"""

from typing import NamedTuple

import numpy as np
from numba import prange

from minidiff.kernels.norm import reference
from minidiff.kernels.norm.checks import check_group_norm
from minidiff.kernels.numba_compile import kernel, njit
from minidiff.kernels.numba_memory import empty, zeros
from minidiff.kernels.numba_product import round_up
from minidiff.kernels.numba_threads import float32, reference_if_empty, workers_for
from minidiff.kernels.numba_vector import (
    LANES,
    alloca,
    fma,
    load,
    masked_load,
    masked_store,
    pointer,
    sigmoid,
    splat,
    store,
)

STRIP = 64  # pixels whose sums are float32
NOTHING = np.empty(0, np.float32)


class Statistics(NamedTuple):
    """What a forward pass computes of x. mean, rstd: (N, groups). affine: (3, N, C rounded up to 16), zeros behind C.

    affine holds mean, factor and shift of each channel of each image.
    """

    mean: np.ndarray
    rstd: np.ndarray
    affine: np.ndarray


class Forward(NamedTuple):
    """What a backward pass needs of the forward pass. scale: (N, C). rstd, affine: as in `Statistics`."""

    scale: np.ndarray
    rstd: np.ndarray
    affine: np.ndarray


class Gradients(NamedTuple):
    """What a backward pass fills beside gx. gscale, gshift: (N, C).

    coefficients: (3, N, C rounded up to 16), the three numbers a channel of which gx is made.
    """

    gscale: np.ndarray
    gshift: np.ndarray
    coefficients: np.ndarray


@reference_if_empty(reference.group_norm)
def group_norm(
    x: np.ndarray, scale: np.ndarray, shift: np.ndarray, groups: int, eps: float, silu: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`reference.group_norm` for float32; the same bits for any number of threads."""
    check_group_norm("group_norm", x.shape, scale.shape, shift.shape, groups)
    x, scale, shift = float32("group_norm", x=x, scale=scale, shift=shift)
    scale, shift = per_image(scale, len(x)), per_image(shift, len(x))
    y, statistics = empty(x.shape), new_statistics(x, groups)
    normalize(_pixels(x), scale, shift, eps, silu, _pixels(y), tuple(statistics), _parts(x, groups))
    return y, statistics.mean, statistics.rstd


def compute_statistics(x: np.ndarray, scale: np.ndarray, shift: np.ndarray, groups: int, eps: float) -> Statistics:
    """Return the statistics of `group_norm` without its result."""
    scale, shift = per_image(scale, len(x)), per_image(shift, len(x))
    statistics = new_statistics(x, groups)
    fill_statistics(_pixels(x), scale, shift, eps, tuple(statistics), _parts(x, groups))
    return statistics


def affine_of(scale: np.ndarray, shift: np.ndarray, mean: np.ndarray, rstd: np.ndarray) -> np.ndarray:
    """Return `Statistics.affine` for statistics that are known."""
    N, C = len(mean), scale.shape[-1]
    affine = three_numbers(N, C)
    width = C // mean.shape[1]
    affine[0, :, :C] = mean.repeat(width, axis=1)
    affine[1, :, :C] = scale * rstd.repeat(width, axis=1)
    affine[2, :, :C] = shift
    return affine


def apply_affine_silu(x: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return silu((x - mean) factor + shift)."""
    y = empty(x.shape)
    normalize_known(_pixels(x), affine, True, _pixels(y), 1)
    return y


@reference_if_empty(reference.group_norm_grad)
def group_norm_grad(
    gy: np.ndarray,
    x: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    mean: np.ndarray,
    rstd: np.ndarray,
    groups: int,
    silu: bool,
    gx_so_far: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`reference.group_norm_grad` for float32; the same bits for any number of threads."""
    name = "group_norm_grad"
    check_group_norm(name, x.shape, scale.shape, shift.shape, groups, gy.shape, mean.shape, rstd.shape, gx_so_far)
    gy, x, scale, shift, mean, rstd = float32(name, gy=gy, x=x, scale=scale, shift=shift, mean=mean, rstd=rstd)
    (gx_so_far,) = (NOTHING,) if gx_so_far is None else float32(name, gx_so_far=gx_so_far)
    gx = empty(x.shape)
    forward = Forward(per_image(scale, len(x)), rstd, affine_of(scale, shift, mean, rstd))
    gradients = new_gradients(x)
    normalize_grad(
        _pixels(gy), _pixels(x), tuple(forward), silu, _pixels(gx), gx_so_far.reshape(-1), tuple(gradients),
        _parts(x, groups),
    )  # fmt: skip
    return gx, gradients.gscale, gradients.gshift


def per_image(a: np.ndarray, N: int) -> np.ndarray:
    """Return (C,) or (N, C) as (N, C)."""
    return a[None].repeat(N, axis=0) if a.ndim == 1 else a


def new_statistics(x: np.ndarray, groups: int) -> Statistics:
    """Return arrays to be filled for x (N, H, W, C)."""
    mean, rstd = empty((2, len(x), groups))
    return Statistics(mean, rstd, three_numbers(len(x), x.shape[3]))


def new_gradients(x: np.ndarray) -> Gradients:
    """Return arrays to be filled for x (N, H, W, C)."""
    gscale, gshift = empty((2, len(x), x.shape[3]))
    return Gradients(gscale, gshift, three_numbers(len(x), x.shape[3]))


def three_numbers(N: int, C: int) -> np.ndarray:
    """Return an array for three numbers of each channel, (3, N, C rounded up to 16), with zeros behind the channels."""
    return (zeros if C % LANES else empty)((3, N, round_up(C, LANES)))


def _pixels(x):
    return x.reshape(len(x), -1, x.shape[3])


def _parts(x, groups):
    """Into how many parts each image's channels are cut: with fewer images than threads, groups are shared out."""
    parts, C = 1, x.shape[3]
    while len(x) * parts < workers_for(8 * x.size) and groups % (2 * parts) == 0 and C % (2 * parts * LANES) == 0:
        parts *= 2
    return parts


@kernel
def normalize(x, scale, shift, eps, silu, y, statistics, parts):
    """Fill y (N, pixels, C) and the statistics, for x (N, pixels, C).

    statistics: as a plain tuple, which Numba takes faster from Python than a named one; so in all parallel kernels.
    """
    statistics = Statistics(*statistics)
    for unit in prange(len(x) * parts):
        n, part = unit // parts, unit % parts
        statistics_part(x, scale, shift, eps, statistics, n, part, parts)
        normalize_part(x, statistics.affine, silu, y, n, part, parts)


@kernel
def fill_statistics(x, scale, shift, eps, statistics, parts):
    """Fill the statistics, for x (N, pixels, C)."""
    statistics = Statistics(*statistics)
    for unit in prange(len(x) * parts):
        statistics_part(x, scale, shift, eps, statistics, unit // parts, unit % parts, parts)


@njit(error_model="numpy")
def statistics_part(x, scale, shift, eps, statistics, n, part, parts):
    """Mean and deviation of one part of the channels of image n.

    First the means, then the mean squares of x - mean. Subtracting the squared mean from the mean square of x instead
    would lose every digit where the mean is large.
    """
    mean, rstd, affine = statistics
    _, pixels, C = x.shape
    groups, wide = mean.shape[1], affine.shape[2]
    width = C // groups
    low, high = part * C // parts, (part + 1) * C // parts
    from_x, from_affine, strip, total = pointer(x), pointer(affine), alloca(1), np.zeros(wide)
    for moment in range(2):
        for c in range(wide):
            total[c] = 0
        for start in range(0, pixels, STRIP):
            for c in range(low, high, LANES):
                sums, center = splat(np.float32(0)), load(from_affine, n * wide + c)
                for i in range(start, min(start + STRIP, pixels)):
                    v = masked_load(from_x, (n * pixels + i) * C + c, C - c)
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
                    affine[0, n, c] = mean[n, g]
                else:
                    affine[1, n, c], affine[2, n, c] = scale[n, c] * rstd[n, g], shift[n, c]


@kernel
def normalize_known(x, affine, silu, y, parts):
    """Fill y (N, pixels, C) with x normalised by statistics that are known."""
    for unit in prange(len(x) * parts):
        normalize_part(x, affine, silu, y, unit // parts, unit % parts, parts)


@njit
def normalize_part(x, affine, silu, y, n, part, parts):
    """One part of the channels of image n, normalised."""
    N, pixels, C = x.shape
    wide, from_x, from_affine, into = affine.shape[2], pointer(x), pointer(affine), pointer(y)
    for i in range(pixels):
        for c in range(part * C // parts, (part + 1) * C // parts, LANES):
            at = (n * pixels + i) * C + c
            z = masked_load(from_x, at, C - c) - load(from_affine, n * wide + c)
            z = fma(z, load(from_affine, (N + n) * wide + c), load(from_affine, (2 * N + n) * wide + c))
            masked_store(into, at, z * sigmoid(z) if silu else z, C - c)


@kernel
def normalize_grad(gy, x, forward, silu, gx, gx_so_far, gradients, parts):
    """Fill gx (N, pixels, C) and the other gradients."""
    forward, gradients = Forward(*forward), Gradients(*gradients)
    for unit in prange(len(x) * parts):
        normalize_grad_part(gy, x, forward, silu, gx, gx_so_far, gradients, unit // parts, unit % parts, parts)


@njit(error_model="numpy")
def normalize_grad_part(gy, x, forward, silu, gx, gx_so_far, gradients, n, part, parts):
    """The gradients of one part of the channels of image n."""
    scale, rstd, affine = forward
    gscale, gshift, coefficients = gradients
    N, pixels, C = x.shape
    groups, wide = rstd.shape[1], affine.shape[2]
    width = C // groups
    low, high = part * C // parts, (part + 1) * C // parts
    from_gy, from_x, into, from_affine = pointer(gy), pointer(x), pointer(gx), pointer(affine)
    strip, one = alloca(2), splat(np.float32(1))
    totals = np.zeros((2, wide))

    # Pass 1: gz, kept in gx, and its sums, alone and times x - mean.
    for start in range(0, pixels, STRIP):
        for c in range(low, high, LANES):
            mean, factor, shift = (
                load(from_affine, n * wide + c), load(from_affine, (N + n) * wide + c),
                load(from_affine, (2 * N + n) * wide + c),
            )  # fmt: skip
            sum_shift = sum_scale = splat(np.float32(0))
            for i in range(start, min(start + STRIP, pixels)):
                at = (n * pixels + i) * C + c
                centered, gz = masked_load(from_x, at, C - c) - mean, masked_load(from_gy, at, C - c)
                if silu:
                    z = fma(centered, factor, shift)
                    s = sigmoid(z)
                    gz = gz * s * fma(z, one - s, one)
                masked_store(into, at, gz, C - c)
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
            coefficients[0, n, c] = rstd[n, g] * scale[n, c]
            coefficients[1, n, c] = rstd[n, g] * rstd[n, g] * average_g_x_hat
            coefficients[2, n, c] = rstd[n, g] * average_g

    # Pass 2: the image's gz and x still lie in cache.
    line, from_so_far = pointer(coefficients), pointer(gx_so_far)
    for i in range(pixels):
        for c in range(low, high, LANES):
            at, a, b, d = (
                (n * pixels + i) * C + c,
                load(line, n * wide + c), load(line, (N + n) * wide + c), load(line, (2 * N + n) * wide + c),
            )  # fmt: skip
            centered = masked_load(from_x, at, C - c) - load(from_affine, n * wide + c)
            value = fma(a, masked_load(into, at, C - c), -fma(b, centered, d))
            masked_store(into, at, value + masked_load(from_so_far, at, C - c) if gx_so_far.size else value, C - c)
