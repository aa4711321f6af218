"""Normalise, SiLU, convolve, add on the CPU, in one pass: pixels are normalised where Winograd lays them out.

A thread takes a few pictures at a time and does everything to them while they lie in its cache: forwards it measures
their groups and convolves; backwards it adds their share to the gradients of the filter and of the bias, finds the
gradient of what was convolved, and takes it through SiLU and the normalisation at once, in the memory where it ends.
Where the convolution is not Winograd's, or there are fewer pictures than threads, the operations follow one another.
"""

import numpy as np
from numba import prange

from minidiff.kernels.conv2d import direct, winograd
from minidiff.kernels.conv2d import numba_cpu as convolution
from minidiff.kernels.conv2d.numba_cpu import sum_pixels_of
from minidiff.kernels.conv2d.reference import check_conv2d, check_conv2d_grad, check_like_x
from minidiff.kernels.conv2d.winograd import convolve_block, correlate_block
from minidiff.kernels.norm import numba_cpu as norm
from minidiff.kernels.norm.numba_cpu import measure_part, normalize_grad_part
from minidiff.kernels.norm.reference import check_group_norm
from minidiff.kernels.norm_silu_conv2d import reference
from minidiff.kernels.norm_silu_conv2d.reference import check_added
from minidiff.kernels.numba_compile import njit
from minidiff.kernels.numba_memory import empty
from minidiff.kernels.numba_threads import float32, unless_empty, workers_for
from minidiff.kernels.numba_vector import LANES

# Python's own False and 0 would be types of their own to the compiler, and every function compiled once more for them.
NO, YES, PART, PARTS = np.bool_(False), np.bool_(True), np.int64(0), np.int64(1)
POINTS = np.int64(winograd.POINTS)


@unless_empty(reference.norm_silu_conv2d)
def norm_silu_conv2d(
    x: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    groups: int,
    eps: float,
    w: np.ndarray,
    b: np.ndarray,
    add: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`reference.norm_silu_conv2d` for float32; the same bits for any number of threads."""
    name = "norm_silu_conv2d"
    check_group_norm(name, x.shape, scale.shape, shift.shape, groups)
    check_conv2d(x.shape, w.shape, None, 1, name=name)
    check_added(name, x.shape, w.shape, b.shape, None if add is None else add.shape)
    x, scale, shift, w, b = float32(name, x=x, scale=scale, shift=shift, w=w, b=b)
    (add,) = (convolution.NOTHING,) if add is None else float32(name, add=add)
    shape = (*x.shape[:3], w.shape[3])
    if not convolution.suits_winograd(shape, w.shape, 1):
        a, mean, rstd = norm.group_norm(x, scale, shift, groups, eps, silu=True)
        return direct.convolve(a, w, shape, 1, convolution.full_vectors(b), add), mean, rstd
    filters, bias = convolution.filter_at_points(w), convolution.full_vectors(b)
    plan = winograd.Plan(*shape[:3], x.shape[3], shape[3])
    together = _together(plan, len(x))
    if not together:
        mean, rstd, lines = norm.statistics(x, scale, shift, groups, eps)
        return winograd.convolve(x, filters, shape, bias, add, lines), mean, rstd
    scale, shift = norm.for_each_picture(scale, len(x)), norm.for_each_picture(shift, len(x))
    y, (mean, rstd, lines) = empty(shape), norm.statistics_for(x, groups)
    convolve_normalized(
        x, scale, shift, eps, filters, bias, add.reshape(-1), y, mean, rstd, lines, *plan.cut, together, *plan.buffers()
    )
    return y, mean, rstd


@unless_empty(reference.norm_silu_conv2d_grad)
def norm_silu_conv2d_grad(
    gy: np.ndarray,
    x: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    mean: np.ndarray,
    rstd: np.ndarray,
    groups: int,
    w: np.ndarray,
    add_to_gx: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`reference.norm_silu_conv2d_grad` for float32; the same bits for the same number of threads."""
    name = "norm_silu_conv2d_grad"
    check_group_norm(name, x.shape, scale.shape, shift.shape, groups, None, mean.shape, rstd.shape)
    check_conv2d_grad(name, gy.shape, x.shape, w.shape, 1)
    check_like_x(name, "add_to_gx", add_to_gx, x.shape)
    gy, x, scale, shift = float32(name, gy=gy, x=x, scale=scale, shift=shift)
    mean, rstd, w = float32(name, mean=mean, rstd=rstd, w=w)
    lines = norm.lines_of(scale, shift, mean, rstd)
    plan, suits = winograd.Plan(*x.shape[:3], w.shape[3], x.shape[3]), convolution.suits_winograd(gy.shape, w.shape, 1)
    together = _together(plan, len(x)) if suits else 0
    if not together:
        gw = winograd.correlate(gy, x, lines) if suits else direct.correlate(gy, norm.apply_lines(x, lines), w.shape)
        ga = convolution.conv2d_grad_x(gy, w, x.shape)
        gx, gscale, gshift = norm.group_norm_grad(ga, x, scale, shift, mean, rstd, groups, True, add_to_gx)
        return gx, gscale, gshift, gw, convolution.conv2d_grad_b(gy)
    (add,) = (convolution.NOTHING,) if add_to_gx is None else float32(name, add_to_gx=add_to_gx)
    plan_w = winograd.Plan(*x.shape[:3], x.shape[3], w.shape[3], winograd.BLOCK_OF_GRADIENT)
    filters = convolution.filter_at_points(w, turned=True)
    gx, (gscale, gshift), gw = empty(x.shape), np.empty((2, len(x), x.shape[3]), np.float32), empty(w.shape)
    gb = np.empty((len(x), w.shape[3]), np.float32)
    scale, back = norm.for_each_picture(scale, len(x)), np.zeros_like(lines)
    *buffers, totals = plan.buffers(*plan_w.shapes, (plan.workers, winograd.POINTS, plan.C * plan.K + LANES))
    gradients_normalized(
        gy, filters, np.zeros((1, back.shape[2]), np.float32), x, scale, lines, rstd, gx, add.reshape(-1),
        gscale, gshift, gb, back, *plan.cut, plan_w.cut[2], together, _in_turn(plan, len(x)), *buffers, totals,
    )  # fmt: skip
    winograd.filter_from_points(totals, gw, workers_for(30 * gw.size))
    return gx, gscale, gshift, gw, gb


def _together(plan, N):
    """How many pictures a thread takes at a time: such that they fill a product; 0 if that leaves a thread without."""
    rows, across, _ = plan.cut
    together = -(-16 // (rows // N * across))
    return together if together * plan.workers <= N else 0


def _in_turn(plan, N):
    """Whether the filter's gradient is made from the same pictures in turn, while they lie in cache.

    Meanwhile it leaves the cache itself, so that pays where x, gx and gy are larger than it is at the points.
    """
    rows, across, _ = plan.cut
    return rows // N * across * winograd.TILE**2 * (plan.C + 2 * plan.K) >= winograd.POINTS * plan.C * plan.K


@njit(parallel=True, cache=True)
def convolve_normalized(
    x, scale, shift, eps, w, bias, add, y, mean, rstd, lines, rows, across, block, together, pixels, points, products
):
    """Fill y (N, H, W, C_out), mean and rstd (N, groups), lines (3, N, C_in rounded)."""
    N, workers = len(x), len(points)
    shares, down = -(-N // together), rows // N
    flat, norm_lines = x.reshape(N, x.shape[1] * x.shape[2], x.shape[3]), lines.reshape(-1)
    for worker in prange(workers):
        for share in range(worker * shares // workers, (worker + 1) * shares // workers):
            first, last = share * together, min((share + 1) * together, N)
            for n in range(first, last):
                measure_part(flat, scale, shift, eps, mean, rstd, lines, n, PART, PARTS)
            for row in range(first * down, last * down, block):
                convolve_block(
                    x, w, bias, add, norm_lines, y, NO, NO, across, row, min(row + block, last * down),
                    pixels[worker], points[worker], products[worker],
                )  # fmt: skip


@njit(parallel=True, cache=True)
def gradients_normalized(
    gy, w, bias, x, scale, lines, rstd, gx, add, gscale, gshift, gb, back, rows, across, block, block_w, together,
    in_turn, pixels, points, products, pixels_w, points_w, products_w, totals,
):  # fmt: skip
    """Fill gx (N, H, W, C_in), gscale and gshift (N, C_in), gb (N, C_out), and totals, gw at the points."""
    N, workers = len(x), len(points)
    shares, down = -(-N // together), rows // N
    shape = N, x.shape[1] * x.shape[2], x.shape[3]
    flat, flat_gx, nothing, norm_lines = x.reshape(shape), gx.reshape(shape), bias.reshape(-1)[:0], lines.reshape(-1)
    for worker in prange(workers):
        begin, end = worker * shares // workers, (worker + 1) * shares // workers
        for share in range(begin, end):
            first, last = share * together, min((share + 1) * together, N)
            stop = last if in_turn else min(end * together, N)
            for row in range(first * down, stop * down if in_turn or share == begin else 0, block_w):
                correlate_block(
                    gy, x, norm_lines, NO, across, row, min(row + block_w, stop * down), PART, POINTS,
                    pixels_w[worker], points_w[worker], products_w[worker], totals[worker],
                    row > begin * together * down,
                )  # fmt: skip
            sum_pixels_of(gy, gb, first, last)
            for row in range(first * down, last * down, block):
                convolve_block(
                    gy, w, bias, nothing, nothing, gx, NO, NO, across, row, min(row + block, last * down),
                    pixels[worker], points[worker], products[worker],
                )  # fmt: skip
            for n in range(first, last):
                normalize_grad_part(
                    flat_gx, flat, scale, lines, rstd, YES, flat_gx, add, gscale, gshift, back, n, PART, PARTS
                )
