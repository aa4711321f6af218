"""Normalise, SiLU, convolve, add on a GPU, one after the other: what lies between is made again on the way back."""

from typing import Any

from minidiff.kernels.conv2d.reference import check_conv2d, check_conv2d_grad, check_like_x
from minidiff.kernels.norm.reference import check_group_norm
from minidiff.kernels.norm_silu_conv2d.reference import check_added, over_pixels


class Composed:
    """The functions of `reference.py`, made of those of two other operations.

    norm: a module with group_norm, group_norm_again and group_norm_grad. convolution: one with conv2d and gradients.
    """

    def __init__(self, norm: Any, convolution: Any) -> None:
        self.norm, self.convolution = norm, convolution

    def norm_silu_conv2d(
        self, x: Any, scale: Any, shift: Any, groups: int, eps: float, w: Any, b: Any, add: Any = None
    ) -> tuple[Any, Any, Any]:
        """`reference.norm_silu_conv2d`."""
        name = "norm_silu_conv2d"
        check_group_norm(name, x.shape, scale.shape, shift.shape, groups)
        check_conv2d(x.shape, w.shape, None, 1, name=name)
        check_added(name, x.shape, w.shape, b.shape, None if add is None else add.shape)
        a, mean, rstd = self.norm.group_norm(x, scale, shift, groups, eps, True)
        conv2d = self.convolution.conv2d
        y = conv2d(a, w, b) if b.ndim == 1 else conv2d(a, w) + over_pixels(b)
        return (y if add is None else y + add), mean, rstd

    def norm_silu_conv2d_grad(
        self, gy: Any, x: Any, scale: Any, shift: Any, mean: Any, rstd: Any, groups: int, w: Any, add_to_gx: Any = None
    ) -> tuple[Any, Any, Any, Any, Any]:
        """`reference.norm_silu_conv2d_grad`."""
        name = "norm_silu_conv2d_grad"
        check_group_norm(name, x.shape, scale.shape, shift.shape, groups, None, mean.shape, rstd.shape)
        check_conv2d_grad(name, gy.shape, x.shape, w.shape, 1)
        check_like_x(name, "add_to_gx", add_to_gx, x.shape)
        a = self.norm.group_norm_again(x, scale, shift, mean, rstd, groups, True)
        gw = self.convolution.conv2d_grad_w(gy, a, w.shape)
        ga = self.convolution.conv2d_grad_x(gy, w, x.shape)
        gx, gscale, gshift = self.norm.group_norm_grad(ga, x, scale, shift, mean, rstd, groups, True, add_to_gx)
        return gx, gscale, gshift, gw, self.convolution.conv2d_grad_b(gy)
