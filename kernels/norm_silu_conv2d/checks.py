"""Checks of the arguments of the fused operation."""

from typing import Any

from minidiff.kernels.conv2d.checks import check_conv2d, check_conv2d_grad, check_like_x
from minidiff.kernels.norm.checks import check_group_norm


def check_norm_silu_conv2d(x: Any, scale: Any, shift: Any, groups: int, w: Any, b: Any, residual: Any) -> None:
    """Raise ValueError in one line unless `norm_silu_conv2d` can take these arrays."""
    name = "norm_silu_conv2d"
    check_group_norm(name, x.shape, scale.shape, shift.shape, groups)
    check_conv2d(x.shape, w.shape, None, 1, name=name)
    N, C_out = x.shape[0], w.shape[-1]
    if tuple(b.shape) not in ((C_out,), (N, C_out)):
        raise ValueError(f"{name}: b must be ({C_out},) or ({N}, {C_out}), got shape {tuple(b.shape)}")
    expected = (*x.shape[:3], C_out)
    if residual is not None and tuple(residual.shape) != expected:
        raise ValueError(f"{name}: residual must be {expected}, got shape {tuple(residual.shape)}")


def check_norm_silu_conv2d_grad(
    gy: Any, x: Any, scale: Any, shift: Any, mean: Any, rstd: Any, groups: int, w: Any, gx_so_far: Any
) -> None:
    """Raise ValueError in one line unless `norm_silu_conv2d_grad` can take these arrays."""
    name = "norm_silu_conv2d_grad"
    check_group_norm(name, x.shape, scale.shape, shift.shape, groups, None, mean.shape, rstd.shape)
    check_conv2d_grad(name, gy.shape, x.shape, w.shape, 1)
    check_like_x(name, "gx_so_far", gx_so_far, x.shape)
