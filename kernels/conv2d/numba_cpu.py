"""Convolution on the CPU: Winograd's way where it has fewer multiplications to make, the direct way elsewhere.

`winograd.py` and `direct.py` are the two ways; here stands which is taken when.
"""

import functools

import numpy as np
from numba import prange

from minidiff.kernels.conv2d import direct, reference, winograd
from minidiff.kernels.conv2d.reference import check_conv2d, check_conv2d_grad, check_like_x, output_shape
from minidiff.kernels.numba_compile import njit
from minidiff.kernels.numba_product import rounded
from minidiff.kernels.numba_threads import float32, unless_empty, workers_for
from minidiff.kernels.numba_vector import LANES, load_part, pointer, splat, store_part

NOTHING, NO_BIAS = winograd.NOTHING, winograd.NO_BIAS
STRIP = 128  # pixels that are added one after the other: about the root of how many there are


def suits_winograd(y_shape: tuple[int, ...], w_shape: tuple[int, ...], stride: int) -> bool:
    """Whether a convolution with outputs y (N, H, W, C_out) is computed Winograd's way.

    It makes 36 multiplications for a tile of 4x4 outputs, and as many for one that reaches over the edge; the direct
    way 9 for each output that there is. Additions before and after cost as much as a few channels' multiplications,
    and bringing the filter to the points as much as a few tiles. Measured on the shapes of a U-Net, it gains

    - with tiles at least half full (7x7 and 3x3 outputs are, 5x5 and 2x2 are not),
    - from 16 tiles on, in all pictures together,
    - from 8 channels on, in and out, for the outputs as well as for both gradients.
    """
    N, H, W, _ = y_shape
    tiles = -(-H // 4) * -(-W // 4)
    suits = (*w_shape[:2], stride) == (3, 3, 1) and min(w_shape[2:]) >= 8
    return _winograd and suits and N * tiles >= 16 and 16 * tiles <= 2 * H * W


_winograd = True


def without_winograd(function):
    """`function`, with the direct way taken everywhere inside it."""

    @functools.wraps(function)
    def direct_only(*args, **kwargs):
        global _winograd
        before, _winograd = _winograd, False
        try:
            return function(*args, **kwargs)
        finally:
            _winograd = before

    return direct_only


@unless_empty(reference.conv2d)
def conv2d(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, stride: int = 1, upsample: bool = False
) -> np.ndarray:
    """`reference.conv2d` for float32; the same bits for any number of threads."""
    check_conv2d(x.shape, w.shape, None if b is None else b.shape, stride, upsample)
    x, w = float32("conv2d", x=x, w=w)
    bias = NO_BIAS if b is None else full_vectors(*float32("conv2d", b=b))
    shape = output_shape(x.shape, w.shape, stride, upsample)
    if suits_winograd(shape, w.shape, stride):
        return winograd.convolve(x, filter_at_points(w), shape, bias, double=upsample)
    x = doubled(x) if upsample else x
    return direct.convolve(x, w, shape, stride, bias)


@unless_empty(reference.conv2d_grad_x)
def conv2d_grad_x(
    gy: np.ndarray,
    w: np.ndarray,
    x_shape: tuple[int, ...],
    stride: int = 1,
    upsample: bool = False,
    add: np.ndarray | None = None,
) -> np.ndarray:
    """`reference.conv2d_grad_x` for float32; the same bits for any number of threads."""
    check_conv2d_grad("conv2d_grad_x", gy.shape, x_shape, w.shape, stride, upsample)
    check_like_x("conv2d_grad_x", "add", add, x_shape)
    gy, w = float32("conv2d_grad_x", gy=gy, w=w)
    if upsample and add is not None:
        return conv2d_grad_x(gy, w, x_shape, stride, upsample) + add
    (add,) = (NOTHING,) if add is None else float32("conv2d_grad_x", add=add)
    if suits_winograd(gy.shape, w.shape, stride):
        return winograd.convolve(gy, filter_at_points(w, turned=True), x_shape, add=add, halve=upsample)
    N, H, W, C = x_shape
    if upsample:
        return direct.convolve_back(gy, w, (N, 2 * H, 2 * W, C)).reshape(N, H, 2, W, 2, C).sum((2, 4))
    return direct.convolve_back(gy, w, x_shape, stride, add)


@unless_empty(reference.conv2d_grad_w)
def conv2d_grad_w(
    gy: np.ndarray, x: np.ndarray, w_shape: tuple[int, ...], stride: int = 1, upsample: bool = False
) -> np.ndarray:
    """`reference.conv2d_grad_w` for float32; the same bits for the same number of threads."""
    check_conv2d_grad("conv2d_grad_w", gy.shape, x.shape, w_shape, stride, upsample)
    gy, x = float32("conv2d_grad_w", gy=gy, x=x)
    if suits_winograd(gy.shape, w_shape, stride):
        return winograd.correlate(gy, x, double=upsample)
    x = doubled(x) if upsample else x
    return direct.correlate(gy, x, w_shape, stride)


def conv2d_grad_b(gy: np.ndarray) -> np.ndarray:
    """`reference.conv2d_grad_b` for float32; the same bits for any number of threads."""
    (gy,) = float32("conv2d_grad_b", gy=gy)
    gb = np.empty((len(gy), gy.shape[3]), np.float32)
    sum_pixels(gy, gb, min(len(gy), workers_for(gy.size)))
    return gb


@njit(parallel=True, cache=True)
def sum_pixels(gy, gb, workers):
    N = len(gy)
    for worker in prange(workers):
        sum_pixels_of(gy, gb, worker * N // workers, (worker + 1) * N // workers)


@njit(cache=True, nogil=True)
def sum_pixels_of(gy, gb, first, last):
    """Fill gb[first:last]: sums of a strip of pixels, and the sum of these, lest the error grows with the picture."""
    _, H, W, C = gy.shape
    from_gy, into = pointer(gy), pointer(gb)
    for n in range(first, last):
        for c in range(0, C, LANES):
            total = splat(np.float32(0))
            for start in range(0, H * W, STRIP):
                strip = splat(np.float32(0))
                for i in range(start, min(start + STRIP, H * W)):
                    strip = strip + load_part(from_gy, (n * H * W + i) * C + c, C - c)
                total = total + strip
            store_part(into, n * C + c, total, C - c)


# ---- filters that stay the same --------------------------------------------------------------------------------------

_kept: dict[tuple, tuple[np.ndarray, np.ndarray]] | None = None


class ConstantFilters:
    """`reference.constant_filters`: inside, each filter is brought to Winograd's points once and not at every call."""

    def __init__(self) -> None:
        self.kept: dict[tuple, tuple[np.ndarray, np.ndarray]] = {}
        self.before: list = []  # one entry for each block that is open

    def __enter__(self) -> None:
        global _kept
        self.before.append(_kept)
        _kept = self.kept

    def __exit__(self, *_: object) -> None:
        global _kept
        _kept = self.before.pop()


constant_filters = ConstantFilters


def filter_at_points(w: np.ndarray, turned: bool = False) -> np.ndarray:
    """The filter at Winograd's points; see `winograd.filter_at_points`."""
    if _kept is None:
        return winograd.filter_at_points(w, turned)
    key = w.ctypes.data, w.shape, turned
    if key not in _kept:
        _kept[key] = (
            winograd.filter_at_points(w, turned, keep=True),
            w,
        )  # w stays alive, lest another filter gets its address
    return _kept[key][0]


def full_vectors(b):
    """A bias (C_out,) or (N, C_out) as (1 or N, C_out rounded up to 16), filled up with zeros."""
    b = np.atleast_2d(b)
    bias = np.zeros((len(b), rounded(b.shape[1], LANES)), np.float32)
    bias[:, : b.shape[1]] = b
    return bias


def doubled(x):
    """x (N, H, W, C) with 2x2 equal pixels for each."""
    return x.repeat(2, axis=1).repeat(2, axis=2)
