"""Convolution on a GPU, the host's side: checks, new arrays, and how the work is cut into blocks.

A convolution and its gradients are three products of matrices. The first factor is never stored: kernels take its
numbers from x or gy. w' is w with input and output channels exchanged.

    y  (pixels of y, C_out)    = what each pixel sees of x (pixels, KH KW C_in)          times w  (KH KW C_in, C_out)
    gx (pixels of x, C_in)     = the gy of each output that saw it (pixels, KH KW C_out) times w' (KH KW C_out, C_in)
    gw (KH KW C_in, C_out)     = what each weight saw of x (KH KW C_in, pixels)          times gy (pixels, C_out)

The third product has few results, enough for a few blocks, and each is a sum over all pixels. So the pixels are cut
into slices for more blocks, and the sums of the slices are added up afterwards, always in the same order. If two blocks
added to the same number instead, its last bits would depend on which block comes first.
"""

import contextlib
from collections.abc import Callable
from typing import Any

from minidiff.kernels.conv2d.checks import check_conv2d, check_conv2d_grad, check_like_x, output_shape
from minidiff.kernels.cuda_launch import blocks, check_counts, device, empty, float32

SLICE, MOST_SLICES = 4096, 64  # the least number of pixels of a slice, and the largest number of slices
UNIT = 16  # the pixels of a slice are a multiple of this
THREADS = 256  # of a block, where each thread computes one number


class Convolution:
    """The functions of `reference.py` for float32 arrays of a device.

    launch: runs the kernels conv2d_tiled, conv2d_grad_x_tiled, conv2d_grad_w_tiled and add_parts. rows, columns: the
    size of the product that a block computes.
    """

    def __init__(self, launch: Callable, rows: int, columns: int) -> None:
        self.launch, self.rows, self.columns = launch, rows, columns
        self.constant_filters = contextlib.nullcontext  # nothing is derived from a filter

    def conv2d(self, x: Any, w: Any, b: Any = None, stride: int = 1, upsample: bool = False) -> Any:
        """`reference.conv2d`."""
        check_conv2d(x.shape, w.shape, None if b is None else b.shape, stride, upsample)
        x, w, b = float32("conv2d", x=x, w=w, b=b)
        y, C_out = empty(output_shape(x.shape, w.shape, stride, upsample)), w.shape[3]
        if not w.size:
            return _empty_sum(y, b)
        shape = numbers_of(x.shape, w.shape, stride, upsample)
        self.launch("conv2d_tiled", self._tiles(y.size // max(1, C_out), C_out), x, w, b, y, shape)
        return y

    def conv2d_grad_x(
        self,
        gy: Any,
        w: Any,
        x_shape: tuple[int, ...],
        stride: int = 1,
        upsample: bool = False,
        gx_so_far: Any = None,
    ) -> Any:
        """`reference.conv2d_grad_x`."""
        check_conv2d_grad("conv2d_grad_x", gy.shape, x_shape, w.shape, stride, upsample)
        check_like_x("conv2d_grad_x", "gx_so_far", gx_so_far, x_shape)
        gy, w, gx_so_far = float32("conv2d_grad_x", gy=gy, w=w, gx_so_far=gx_so_far)
        N, H, W, C = x_shape
        times = 2 if upsample else 1
        gx = empty((N, times * H, times * W, C))
        if not w.size:
            return _empty_sum(empty(x_shape), gx_so_far)
        shape = numbers_of(gx.shape, w.shape, stride)
        self.launch("conv2d_grad_x_tiled", self._tiles(gx.size // max(1, C), C), gy, w, gx, shape)
        if upsample:
            gx = gx.reshape(N, H, 2, W, 2, C).sum((2, 4))
        return gx if gx_so_far is None else gx + gx_so_far

    def conv2d_grad_w(self, gy: Any, x: Any, w_shape: tuple[int, ...], stride: int = 1, upsample: bool = False) -> Any:
        """`reference.conv2d_grad_w`; the same bits every time."""
        check_conv2d_grad("conv2d_grad_w", gy.shape, x.shape, w_shape, stride, upsample)
        gy, x = float32("conv2d_grad_w", gy=gy, x=x)
        KH, KW, C_in, C_out = w_shape
        rows, pixels = KH * KW * C_in, gy.size // max(1, C_out)
        check_counts("conv2d_grad_w", pixels=pixels)
        if not pixels:
            return device().xp.zeros(w_shape, gy.dtype)
        slice_ = max(SLICE, UNIT * blocks(blocks(pixels, MOST_SLICES), UNIT))
        slices = blocks(pixels, slice_)
        parts, gw = empty((slices, rows, C_out)), empty(w_shape)
        shape = numbers_of(x.shape, w_shape, stride, upsample)
        self.launch("conv2d_grad_w_tiled", (*self._tiles(rows, C_out), slices), gy, x, parts, slice_, shape)
        self.launch("add_parts", (blocks(gw.size, THREADS),), parts, gw, gw.size, slices)
        return gw

    def conv2d_grad_b(self, gy: Any) -> Any:
        """`reference.conv2d_grad_b`."""
        (gy,) = float32("conv2d_grad_b", gy=gy)
        return gy.sum((1, 2))

    def _tiles(self, rows: int, columns: int) -> tuple[int, ...]:
        return blocks(rows, self.rows), blocks(columns, self.columns)


class NaiveConvolution:
    """The lowest rung of the ladder, for comparison: each thread computes one number. Without upsampling.

    launch: runs the kernels conv2d_naive, conv2d_grad_x_naive and conv2d_grad_w_naive.
    """

    def __init__(self, launch: Callable) -> None:
        self.launch = launch

    def conv2d(self, x: Any, w: Any, b: Any = None, stride: int = 1) -> Any:
        """`reference.conv2d`."""
        check_conv2d(x.shape, w.shape, None if b is None else b.shape, stride)
        x, w, b = float32("conv2d", x=x, w=w, b=b)
        y = empty(output_shape(x.shape, w.shape, stride))
        if not w.size:
            return _empty_sum(y, b)
        self.launch("conv2d_naive", _each(y), x, w, b, y, numbers_of(x.shape, w.shape, stride))
        return y

    def conv2d_grad_x(self, gy: Any, w: Any, x_shape: tuple[int, ...], stride: int = 1) -> Any:
        """`reference.conv2d_grad_x`."""
        check_conv2d_grad("conv2d_grad_x", gy.shape, x_shape, w.shape, stride)
        gy, w = float32("conv2d_grad_x", gy=gy, w=w)
        gx = empty(x_shape)
        if not w.size:
            return _empty_sum(gx, None)
        self.launch("conv2d_grad_x_naive", _each(gx), gy, w, gx, numbers_of(x_shape, w.shape, stride))
        return gx

    def conv2d_grad_w(self, gy: Any, x: Any, w_shape: tuple[int, ...], stride: int = 1) -> Any:
        """`reference.conv2d_grad_w`."""
        check_conv2d_grad("conv2d_grad_w", gy.shape, x.shape, w_shape, stride)
        gy, x = float32("conv2d_grad_w", gy=gy, x=x)
        gw = empty(w_shape)
        self.launch("conv2d_grad_w_naive", _each(gw), gy, x, gw, numbers_of(x.shape, w_shape, stride))
        return gw


def _empty_sum(y: Any, add: Any) -> Any:
    """y filled with zeros, the result of a filter without channels, plus `add`, which may be None."""
    y[...] = 0
    return y if add is None else y + add


def _each(array: Any) -> tuple[int, ...]:
    return (blocks(array.size, THREADS),)


def numbers_of(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], stride: int, upsample: bool = False
) -> tuple[int, ...]:
    """N, H, W, C_in, KH, KW, C_out, stride, Hy, Wy, and 1 if x is upsampled: H and W are those after upsampling."""
    N, H, W, C_in = x_shape
    times = 2 if upsample else 1
    KH, KW, _, C_out = w_shape
    check_counts("conv2d", numbers_of_a_filter=KH * KW * C_in * C_out)
    Hy, Wy = blocks(times * H, stride), blocks(times * W, stride)
    return N, times * H, times * W, C_in, KH, KW, C_out, stride, Hy, Wy, int(upsample)
