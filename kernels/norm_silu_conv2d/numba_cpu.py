"""Normalise, SiLU, convolve and add on the CPU, in one pass: pixels are normalised while Winograd packs them.

A thread takes a few images at a time and does everything to them while they lie in its cache:

    for images in a worker's share:                   # forward, `forward_all`
        statistics of the images' groups
        y = winograd(silu(normalise(x))) + bias + residual

    for images in a worker's share:                   # backward, `backward_all`
        gw += winograd_backward_filter(gy, silu(normalise(x)))
        gb = sum of gy over pixels
        gx = winograd(gy, rotated filter)             # the gradient of what was convolved
        gx, gscale, gshift = group_norm_grad(gx, x)   # in place, through SiLU and the normalisation

If gw in the Winograd domain is larger than what an image holds (x, gx and gy), it is computed in a loop of its own,
before the rest. With too few images for all threads, the steps follow one another over the whole batch, but Winograd
still normalises while it packs. If Winograd does not suit the convolution, normalised pixels are written to memory.

Reading order: after `conv2d/winograd_backward_filter.py` and `norm/numba_cpu.py`, whose functions for blocks it calls.
"""

from typing import NamedTuple

import numpy as np
from numba import prange

from minidiff.kernels.conv2d import implicit_gemm, winograd_backward_filter, winograd_forward
from minidiff.kernels.conv2d import numba_cpu as convolution
from minidiff.kernels.conv2d.numba_cpu import sum_pixels_of
from minidiff.kernels.conv2d.winograd_backward_filter import ALL_POINTS, backward_filter_block
from minidiff.kernels.conv2d.winograd_forward import Buffers, Plan, Tiling, forward_block, of_worker
from minidiff.kernels.conv2d.winograd_transforms import OUTPUT_TILE, POINTS, filter_gradient
from minidiff.kernels.norm import numba_cpu as norm
from minidiff.kernels.norm.numba_cpu import Forward, Gradients, Statistics, normalize_grad_part, statistics_part
from minidiff.kernels.norm_silu_conv2d import reference
from minidiff.kernels.norm_silu_conv2d.checks import check_norm_silu_conv2d, check_norm_silu_conv2d_grad
from minidiff.kernels.numba_compile import kernel
from minidiff.kernels.numba_memory import empty, scratch
from minidiff.kernels.numba_threads import float32, reference_if_empty
from minidiff.kernels.numba_vector import LANES

# Python's own False and 0 have types of their own in the compiler, and every function would be compiled once more.
NO, YES, PART, PARTS = np.bool_(False), np.bool_(True), np.int64(0), np.int64(1)


class Schedule(NamedTuple):
    """In which order a worker goes through its images.

    images: how many are taken at a time. block_w: rows of tiles in a block of the filter's gradient.
    interleaved: whether the filter's gradient is made of the same images in turn, while they lie in cache, or of all of
    the worker's images before the rest.
    """

    images: int
    block_w: int
    interleaved: bool


@reference_if_empty(reference.norm_silu_conv2d)
def norm_silu_conv2d(
    x: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    groups: int,
    eps: float,
    w: np.ndarray,
    b: np.ndarray,
    residual: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`reference.norm_silu_conv2d` for float32; the same bits for any number of threads."""
    name = "norm_silu_conv2d"
    check_norm_silu_conv2d(x, scale, shift, groups, w, b, residual)
    x, scale, shift, w, b = float32(name, x=x, scale=scale, shift=shift, w=w, b=b)
    (residual,) = (convolution.NOTHING,) if residual is None else float32(name, residual=residual)
    shape, bias = (*x.shape[:3], w.shape[3]), convolution.pad_bias(b)
    if not convolution.suits_winograd(shape, w.shape, 1):
        a, mean, rstd = norm.group_norm(x, scale, shift, groups, eps, silu=True)
        return implicit_gemm.forward(a, w, shape, 1, bias, residual), mean, rstd
    N, H, W, C_in = x.shape
    U, plan = convolution.transformed(w), Plan(N, H, W, C_in, shape[3], cut_columns=True)
    images = _images_at_a_time(plan, len(x))
    if not images:
        statistics = norm.compute_statistics(x, scale, shift, groups, eps)
        y = winograd_forward.forward(x, U, shape, bias, residual, statistics.affine)
        return y, statistics.mean, statistics.rstd
    scale, shift = norm.per_image(scale, len(x)), norm.per_image(shift, len(x))
    y, statistics = empty(shape), norm.new_statistics(x, groups)
    residual = residual.reshape(-1)
    forward_all(
        x, scale, shift, eps, U, bias, residual, y, tuple(statistics), tuple(plan.tiling), images, plan.buffers()
    )
    return y, statistics.mean, statistics.rstd


@reference_if_empty(reference.norm_silu_conv2d_grad)
def norm_silu_conv2d_grad(
    gy: np.ndarray,
    x: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    mean: np.ndarray,
    rstd: np.ndarray,
    groups: int,
    w: np.ndarray,
    gx_so_far: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`reference.norm_silu_conv2d_grad` for float32; the same bits for the same number of threads."""
    name = "norm_silu_conv2d_grad"
    check_norm_silu_conv2d_grad(gy, x, scale, shift, mean, rstd, groups, w, gx_so_far)
    gy, x, scale, shift = float32(name, gy=gy, x=x, scale=scale, shift=shift)
    mean, rstd, w = float32(name, mean=mean, rstd=rstd, w=w)
    affine = norm.affine_of(scale, shift, mean, rstd)
    N, H, W, C_in = x.shape
    plan, suits = Plan(N, H, W, w.shape[3], C_in, cut_columns=True), convolution.suits_winograd(gy.shape, w.shape, 1)
    images = _images_at_a_time(plan, N) if suits else 0
    if not images:
        if suits:
            gw = winograd_backward_filter.backward_filter(gy, x, affine)
        else:
            gw = implicit_gemm.backward_filter(gy, norm.apply_affine_silu(x, affine), w.shape)
        ga = convolution.conv2d_grad_x(gy, w, x.shape)
        gx, gscale, gshift = norm.group_norm_grad(ga, x, scale, shift, mean, rstd, groups, True, gx_so_far)
        return gx, gscale, gshift, gw, convolution.conv2d_grad_b(gy)
    (gx_so_far,) = (convolution.NOTHING,) if gx_so_far is None else float32(name, gx_so_far=gx_so_far)
    plan_w = Plan(N, H, W, C_in, w.shape[3], winograd_backward_filter.BLOCK)
    U = convolution.transformed(w, rotated=True)
    gradients, no_bias = norm.new_gradients(x), winograd_forward.zero_bias(affine.shape[2])
    gx, gb = empty(x.shape), empty((N, w.shape[3]))
    forward = norm.per_image(scale, N), rstd, affine
    *buffers, totals = scratch("kernel", *plan.shapes, *plan_w.shapes, (plan.workers, POINTS, plan.C * plan.K + LANES))
    backward_all(
        gy, U, no_bias, x, forward, (gx, gx_so_far.reshape(-1), gb), tuple(gradients),
        (images, plan_w.tiling.block, _interleaved(plan, N)), tuple(plan.tiling),
        tuple(buffers[:3]), tuple(buffers[3:]), totals,
    )  # fmt: skip
    return gx, gradients.gscale, gradients.gshift, filter_gradient(totals, w.shape), gb


def _images_at_a_time(plan, N):
    """How many images a thread takes at a time: enough to fill a product.

    0 if a thread would be left without, or if threads share out the columns of the filter.
    """
    images = -(-16 // (plan.tiling.rows_per_image * plan.tiling.tiles_per_row))
    return images if images * plan.workers <= N and plan.tiling.parts == 1 else 0


def _interleaved(plan, N):
    """Whether the filter's gradient is made from the same images in turn, while they lie in cache.

    Meanwhile that gradient leaves the cache, so that pays where x, gx and gy are larger than the gradient is.
    """
    pixels = plan.tiling.rows_per_image * plan.tiling.tiles_per_row * OUTPUT_TILE**2
    return pixels * (plan.C + 2 * plan.K) >= POINTS * plan.C * plan.K


@kernel
def forward_all(x, scale, shift, eps, U, bias, residual, y, statistics, tiling, images, buffers):
    """Fill y (N, H, W, C_out) and the statistics of x. images: how many are taken at a time.

    statistics, tiling, buffers: as plain tuples, which Numba takes faster from Python than named ones.
    """
    statistics, tiling, buffers = Statistics(*statistics), Tiling(*tiling), Buffers(*buffers)
    N, workers = len(x), len(buffers.V)
    shares, down = -(-N // images), tiling.rows_per_image
    flat, affine = x.reshape(N, x.shape[1] * x.shape[2], x.shape[3]), statistics.affine.reshape(-1)
    columns = np.int64(0), bias.shape[1]  # all of them
    for worker in prange(workers):
        own = of_worker(buffers, np.int64(worker))
        for share in range(worker * shares // workers, (worker + 1) * shares // workers):
            first, last = share * images, min((share + 1) * images, N)
            for n in range(first, last):
                statistics_part(flat, scale, shift, eps, statistics, n, PART, PARTS)
            for row in range(first * down, last * down, tiling.block):
                stop = min(row + tiling.block, last * down)
                forward_block(x, U, bias, residual, affine, y, NO, NO, tiling, (row, stop), columns, own)


@kernel
def backward_all(gy, U, bias, x, forward, outputs, gradients, schedule, tiling, buffers, buffers_w, totals):
    """Fill outputs, gradients, and totals: gw in the Winograd domain. bias: zeros. Tuples are plain, as above.

    outputs: gx (N, H, W, C_in); gx_so_far, as many numbers that are added to it, or none; gb (N, C_out).
    """
    gx, gx_so_far, gb = outputs
    forward, gradients, schedule = Forward(*forward), Gradients(*gradients), Schedule(*schedule)
    tiling, buffers, buffers_w = Tiling(*tiling), Buffers(*buffers), Buffers(*buffers_w)
    N, workers, images = len(x), len(buffers.V), schedule.images
    shares, down = -(-N // images), tiling.rows_per_image
    shape = N, x.shape[1] * x.shape[2], x.shape[3]
    flat, flat_gx, affine = x.reshape(shape), gx.reshape(shape), forward.affine.reshape(-1)
    nothing = bias.reshape(-1)[:0]
    columns = np.int64(0), bias.shape[1]  # all of them
    for worker in prange(workers):
        own, own_w = of_worker(buffers, np.int64(worker)), of_worker(buffers_w, np.int64(worker))
        begin, end = worker * shares // workers, (worker + 1) * shares // workers
        for share in range(begin, end):
            first, last = share * images, min((share + 1) * images, N)
            stop_w = last if schedule.interleaved else min(end * images, N)
            rows_w = stop_w * down if schedule.interleaved or share == begin else 0
            for row in range(first * down, rows_w, schedule.block_w):
                backward_filter_block(
                    gy, x, affine, NO, tiling, row, min(row + schedule.block_w, rows_w), ALL_POINTS,
                    own_w, totals[worker], row > begin * images * down,
                )  # fmt: skip
            sum_pixels_of(gy, gb, first, last)
            for row in range(first * down, last * down, tiling.block):
                stop = min(row + tiling.block, last * down)
                forward_block(gy, U, bias, nothing, nothing, gx, NO, NO, tiling, (row, stop), columns, own)
            for n in range(first, last):
                normalize_grad_part(flat_gx, flat, forward, YES, flat_gx, gx_so_far, gradients, n, PART, PARTS)
