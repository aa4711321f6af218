"""Convolution on the CPU: Winograd where it is faster, implicit GEMM elsewhere.

Winograd is in `winograd_forward.py` and `winograd_backward_filter.py`, implicit GEMM in `implicit_gemm.py`. In this
file, `suits_winograd` decides which of the two computes a convolution, and `constant_filters` keeps the transforms of
filters that do not change.
"""

import functools

import numpy as np
from numba import prange

from minidiff.kernels import graph
from minidiff.kernels.conv2d import (
    implicit_gemm,
    reference,
    winograd_backward_filter,
    winograd_forward,
    winograd_transforms,
)
from minidiff.kernels.conv2d.checks import check_conv2d, check_conv2d_grad, check_like_x, output_shape
from minidiff.kernels.numba_compile import kernel, njit
from minidiff.kernels.numba_memory import empty, zeros
from minidiff.kernels.numba_product import round_up
from minidiff.kernels.numba_threads import float32, reference_if_empty, workers_for
from minidiff.kernels.numba_vector import LANES, masked_load, masked_store, pointer, splat

NOTHING, NO_BIAS = implicit_gemm.NOTHING, implicit_gemm.NO_BIAS
STRIP = 128  # pixels whose sum is formed before it is added to the total


def suits_winograd(y_shape: tuple[int, ...], w_shape: tuple[int, ...], stride: int) -> bool:
    """Return whether a convolution with outputs y (N, H, W, C_out) is computed by Winograd's algorithm.

    It makes 36 multiplications for a tile of 4x4 outputs, also for a tile that reaches over the edge, where implicit
    GEMM makes 9 for each output. The input and output transforms cost as much as the multiplications of a few channels,
    the filter transform as much as a few tiles. Measured on the shapes of a U-Net, Winograd is faster

    - with tiles at least half full (7x7 and 3x3 outputs are, 5x5 and 2x2 are not),
    - from 16 tiles on, in all images together,
    - from 8 channels on, in and out, for the outputs as well as for both gradients.
    """
    N, H, W, _ = y_shape
    tiles = -(-H // 4) * -(-W // 4)
    suits = (*w_shape[:2], stride) == (3, 3, 1) and min(w_shape[2:]) >= 8
    return _winograd and suits and N * tiles >= 16 and 16 * tiles <= 2 * H * W


_winograd = True


def without_winograd(function):
    """Return `function`, with implicit GEMM taken everywhere inside it."""

    @functools.wraps(function)
    def gemm_only(*args, **kwargs):
        global _winograd
        before, _winograd = _winograd, False
        try:
            return function(*args, **kwargs)
        finally:
            _winograd = before

    return gemm_only


@reference_if_empty(reference.conv2d)
def conv2d(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, stride: int = 1, upsample: bool = False
) -> np.ndarray:
    """`reference.conv2d` for float32; the same bits for any number of threads."""
    check_conv2d(x.shape, w.shape, None if b is None else b.shape, stride, upsample)
    x, w = float32("conv2d", x=x, w=w)
    bias = NO_BIAS if b is None else pad_bias(*float32("conv2d", b=b))
    shape = output_shape(x.shape, w.shape, stride, upsample)
    if suits_winograd(shape, w.shape, stride):
        return winograd_forward.forward(x, transformed(w), shape, bias, upsample=upsample)
    x = upsampled(x) if upsample else x
    return implicit_gemm.forward(x, w, shape, stride, bias)


@reference_if_empty(reference.conv2d_grad_x)
def conv2d_grad_x(
    gy: np.ndarray,
    w: np.ndarray,
    x_shape: tuple[int, ...],
    stride: int = 1,
    upsample: bool = False,
    gx_so_far: np.ndarray | None = None,
) -> np.ndarray:
    """`reference.conv2d_grad_x` for float32; the same bits for any number of threads."""
    check_conv2d_grad("conv2d_grad_x", gy.shape, x_shape, w.shape, stride, upsample)
    check_like_x("conv2d_grad_x", "gx_so_far", gx_so_far, x_shape)
    gy, w = float32("conv2d_grad_x", gy=gy, w=w)
    if upsample and gx_so_far is not None:
        return conv2d_grad_x(gy, w, x_shape, stride, upsample) + gx_so_far
    (gx_so_far,) = (NOTHING,) if gx_so_far is None else float32("conv2d_grad_x", gx_so_far=gx_so_far)
    if suits_winograd(gy.shape, w.shape, stride):
        U = transformed(w, rotated=True)
        return winograd_forward.forward(gy, U, x_shape, residual=gx_so_far, sum_pool=upsample)
    N, H, W, C = x_shape
    if upsample:
        return implicit_gemm.backward_data(gy, w, (N, 2 * H, 2 * W, C)).reshape(N, H, 2, W, 2, C).sum((2, 4))
    return implicit_gemm.backward_data(gy, w, x_shape, stride, gx_so_far)


@reference_if_empty(reference.conv2d_grad_w)
def conv2d_grad_w(
    gy: np.ndarray, x: np.ndarray, w_shape: tuple[int, ...], stride: int = 1, upsample: bool = False
) -> np.ndarray:
    """`reference.conv2d_grad_w` for float32; the same bits for the same number of threads."""
    check_conv2d_grad("conv2d_grad_w", gy.shape, x.shape, w_shape, stride, upsample)
    gy, x = float32("conv2d_grad_w", gy=gy, x=x)
    if suits_winograd(gy.shape, w_shape, stride):
        return winograd_backward_filter.backward_filter(gy, x, upsample=upsample)
    x = upsampled(x) if upsample else x
    return implicit_gemm.backward_filter(gy, x, w_shape, stride)


def conv2d_grad_b(gy: np.ndarray) -> np.ndarray:
    """`reference.conv2d_grad_b` for float32; the same bits for any number of threads."""
    (gy,) = float32("conv2d_grad_b", gy=gy)
    gb = empty((len(gy), gy.shape[3]))
    sum_pixels(gy, gb, min(len(gy), workers_for(gy.size)))
    return gb


@kernel
def sum_pixels(gy, gb, workers):
    """Fill gb (N, C), each worker with its share of the images."""
    N = len(gy)
    for worker in prange(workers):
        sum_pixels_of(gy, gb, worker * N // workers, (worker + 1) * N // workers)


@njit
def sum_pixels_of(gy, gb, first, last):
    """Fill gb[first:last]: sums over strips of pixels are added up, so that the error grows less with the image."""
    _, H, W, C = gy.shape
    from_gy, into = pointer(gy), pointer(gb)
    for n in range(first, last):
        for c in range(0, C, LANES):
            total = splat(np.float32(0))
            for start in range(0, H * W, STRIP):
                strip = splat(np.float32(0))
                for i in range(start, min(start + STRIP, H * W)):
                    strip = strip + masked_load(from_gy, (n * H * W + i) * C + c, C - c)
                total = total + strip
            masked_store(into, n * C + c, total, C - c)


# ---- filters that stay the same --------------------------------------------------------------------------------------

_kept: dict[tuple, tuple[np.ndarray, np.ndarray]] | None = None


class ConstantFilters:
    """`reference.constant_filters`: inside, each filter is transformed once and not at every call."""

    def __init__(self) -> None:
        self.kept: dict[tuple, tuple[np.ndarray, np.ndarray]] = {}
        self.before: list = []  # the value of `_kept` before each `with` block that is open

    def __enter__(self) -> None:
        global _kept
        self.before.append(_kept)
        _kept = self.kept

    def __exit__(self, *_: object) -> None:
        global _kept
        _kept = self.before.pop()


constant_filters = ConstantFilters


def transformed(w: np.ndarray, rotated: bool = False) -> np.ndarray:
    """The filter in the Winograd domain; see `winograd_transforms.transform_filter`."""
    if _kept is None:
        return winograd_transforms.transform_filter(w, rotated)
    key = w.ctypes.data, w.shape, rotated
    if key not in _kept:
        # w is kept as well: were it freed, another filter could get its address
        with graph.outside():
            _kept[key] = winograd_transforms.transform_filter(graph.plain(w), rotated, keep=True), w
    return _kept[key][0]


def pad_bias(b: np.ndarray) -> np.ndarray:
    """Return a bias (C_out,) or (N, C_out) as (1 or N, C_out rounded up to 16), with zeros behind it."""
    b = b.reshape(-1, b.shape[-1])
    if b.shape[1] % LANES == 0:
        return b
    bias = zeros((len(b), round_up(b.shape[1], LANES)))
    bias[:, : b.shape[1]] = b
    return bias


def upsampled(x: np.ndarray) -> np.ndarray:
    """Return x (N, H, W, C) with 2x2 equal pixels for each: (N, 2 H, 2 W, C)."""
    return x.repeat(2, axis=1).repeat(2, axis=2)
