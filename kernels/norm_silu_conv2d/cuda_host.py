"""Normalise, SiLU, convolve and add on a GPU, one after the other; the backward pass normalises x once more."""

from typing import Any

from minidiff.kernels.norm_silu_conv2d.checks import check_norm_silu_conv2d, check_norm_silu_conv2d_grad
from minidiff.kernels.norm_silu_conv2d.reference import over_pixels


class Composed:
    """The functions of `reference.py`, made of those of two other operations.

    norm: a module with group_norm, group_norm_again and group_norm_grad. convolution: one with conv2d and gradients.
    """

    def __init__(self, norm: Any, convolution: Any) -> None:
        self.norm, self.convolution = norm, convolution

    def norm_silu_conv2d(
        self, x: Any, scale: Any, shift: Any, groups: int, eps: float, w: Any, b: Any, residual: Any = None
    ) -> tuple[Any, Any, Any]:
        """`reference.norm_silu_conv2d`."""
        check_norm_silu_conv2d(x, scale, shift, groups, w, b, residual)
        a, mean, rstd = self.norm.group_norm(x, scale, shift, groups, eps, True)
        conv2d = self.convolution.conv2d
        y = conv2d(a, w, b) if b.ndim == 1 else conv2d(a, w) + over_pixels(b)
        return (y if residual is None else y + residual), mean, rstd

    def norm_silu_conv2d_grad(
        self, gy: Any, x: Any, scale: Any, shift: Any, mean: Any, rstd: Any, groups: int, w: Any, gx_so_far: Any = None
    ) -> tuple[Any, Any, Any, Any, Any]:
        """`reference.norm_silu_conv2d_grad`."""
        check_norm_silu_conv2d_grad(gy, x, scale, shift, mean, rstd, groups, w, gx_so_far)
        a = self.norm.group_norm_again(x, scale, shift, mean, rstd, groups, True)
        gw = self.convolution.conv2d_grad_w(gy, a, w.shape)
        ga = self.convolution.conv2d_grad_x(gy, w, x.shape)
        gx, gscale, gshift = self.norm.group_norm_grad(ga, x, scale, shift, mean, rstd, groups, True, gx_so_far)
        return gx, gscale, gshift, gw, self.convolution.conv2d_grad_b(gy)
