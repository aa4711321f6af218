"""Convolution on a GPU, around the kernels: what is checked, made and shared out before they run.

The three products of matrices that a convolution and its gradients are:

    y  (pixels of y, C_out)    = what each sees of x (pixels, KH KW C_in)        times w  (KH KW C_in, C_out)
    gx (pixels of x, C_in)     = what each gave to gy (pixels, KH KW C_out)      times w' (KH KW C_out, C_in)
    gw (KH KW C_in, C_out)     = what each weight saw of x (KH KW C_in, pixels)  times gy (pixels, C_out)

The third is short and wide, a few blocks' worth of numbers that are sums over all pixels. So the pixels are cut into
slices, which are added up afterwards, always in the same order: no two blocks add to one number, whose bits would
depend on who comes first.
"""

import contextlib
from collections.abc import Callable
from typing import Any

from minidiff.kernels.conv2d.reference import check_conv2d, check_conv2d_grad, check_like_x, output_shape
from minidiff.kernels.cuda_launch import blocks, check_counts, device, empty, float32

SLICE, MOST_SLICES = 4096, 64  # pixels that a block adds up at least, and slices at most
UNIT = 16  # a slice is a multiple of this
THREADS = 256  # a block, where each has one number


class Convolution:
    """The functions of `reference.py` for float32 arrays of a device.

    launch: runs the kernels conv2d_tiled, conv2d_grad_x_tiled, conv2d_grad_w_tiled and add_parts. rows, columns: of the
    product that a block makes.
    """

    def __init__(self, launch: Callable, rows: int, columns: int) -> None:
        self.launch, self.rows, self.columns = launch, rows, columns
        self.constant_filters = contextlib.nullcontext  # a filter is used as it is

    def conv2d(self, x: Any, w: Any, b: Any = None, stride: int = 1, upsample: bool = False) -> Any:
        """`reference.conv2d`."""
        check_conv2d(x.shape, w.shape, None if b is None else b.shape, stride, upsample)
        x, w, b = float32("conv2d", x=x, w=w, b=b)
        y, C_out = empty(output_shape(x.shape, w.shape, stride, upsample)), w.shape[3]
        if not w.size:
            return _sum_of_nothing(y, b)
        shape = numbers_of(x.shape, w.shape, stride, upsample)
        self.launch("conv2d_tiled", self._tiles(y.size // max(1, C_out), C_out), x, w, b, y, shape)
        return y

    def conv2d_grad_x(
        self, gy: Any, w: Any, x_shape: tuple[int, ...], stride: int = 1, upsample: bool = False, add: Any = None
    ) -> Any:
        """`reference.conv2d_grad_x`."""
        check_conv2d_grad("conv2d_grad_x", gy.shape, x_shape, w.shape, stride, upsample)
        check_like_x("conv2d_grad_x", "add", add, x_shape)
        gy, w, add = float32("conv2d_grad_x", gy=gy, w=w, add=add)
        N, H, W, C = x_shape
        times = 2 if upsample else 1
        gx = empty((N, times * H, times * W, C))
        if not w.size:
            return _sum_of_nothing(empty(x_shape), add)
        shape = numbers_of(gx.shape, w.shape, stride)
        self.launch("conv2d_grad_x_tiled", self._tiles(gx.size // max(1, C), C), gy, w, gx, shape)
        if upsample:
            gx = gx.reshape(N, H, 2, W, 2, C).sum((2, 4))
        return gx if add is None else gx + add

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

    def _tiles(self, rows, columns):
        return blocks(rows, self.rows), blocks(columns, self.columns)


class NaiveConvolution:
    """The same without upsampling, a thread a number, to be compared: the first rung of the ladder.

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
            return _sum_of_nothing(y, b)
        self.launch("conv2d_naive", _each(y), x, w, b, y, numbers_of(x.shape, w.shape, stride))
        return y

    def conv2d_grad_x(self, gy: Any, w: Any, x_shape: tuple[int, ...], stride: int = 1) -> Any:
        """`reference.conv2d_grad_x`."""
        check_conv2d_grad("conv2d_grad_x", gy.shape, x_shape, w.shape, stride)
        gy, w = float32("conv2d_grad_x", gy=gy, w=w)
        gx = empty(x_shape)
        if not w.size:
            return _sum_of_nothing(gx, None)
        self.launch("conv2d_grad_x_naive", _each(gx), gy, w, gx, numbers_of(x_shape, w.shape, stride))
        return gx

    def conv2d_grad_w(self, gy: Any, x: Any, w_shape: tuple[int, ...], stride: int = 1) -> Any:
        """`reference.conv2d_grad_w`."""
        check_conv2d_grad("conv2d_grad_w", gy.shape, x.shape, w_shape, stride)
        gy, x = float32("conv2d_grad_w", gy=gy, x=x)
        gw = empty(w_shape)
        self.launch("conv2d_grad_w_naive", _each(gw), gy, x, gw, numbers_of(x.shape, w_shape, stride))
        return gw


def _sum_of_nothing(y, add):
    """y filled with what a filter without channels gives, and `add`, which may be None, added."""
    y[...] = 0
    return y if add is None else y + add


def _each(array):
    return (blocks(array.size, THREADS),)


def numbers_of(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], stride: int, upsample: bool = False
) -> tuple[int, ...]:
    """N, H, W, C_in, KH, KW, C_out, stride, Hy, Wy and whether each pixel of x in memory stands for 2 x 2 of H x W."""
    N, H, W, C_in = x_shape
    times = 2 if upsample else 1
    KH, KW, _, C_out = w_shape
    check_counts("conv2d", numbers_of_a_filter=KH * KW * C_in * C_out)
    Hy, Wy = blocks(times * H, stride), blocks(times * W, stride)
    return N, times * H, times * W, C_in, KH, KW, C_out, stride, Hy, Wy, int(upsample)
