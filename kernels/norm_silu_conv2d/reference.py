"""Normalise, SiLU, convolve, add, defined: one after the other.

A residual block does these four twice. As one operation nothing between them has to be written to memory, read again
and kept for the backward pass, which needs only x and the groups' statistics.

Reading order: after `norm` and `conv2d`, whose functions this composes.
"""

import numpy as np

from minidiff.kernels.conv2d.reference import (
    check_conv2d,
    check_conv2d_grad,
    check_like_x,
    conv2d,
    conv2d_grad_b,
    conv2d_grad_w,
    conv2d_grad_x,
)
from minidiff.kernels.norm.reference import check_group_norm, group_norm, group_norm_grad


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
    """y = conv2d(silu(group_norm(x)), w, b) + add, at stride 1.

    x: (N, H, W, C_in). scale, shift: (C_in,) or (N, C_in). w: (KH, KW, C_in, C_out). b: (C_out,), or
    (N, C_out), one for each picture. add: (N, H, W, C_out) or None. Any float dtype.
    Returns y (N, H, W, C_out), and mean and rstd (N, groups) of x.
    Raises ValueError in one line if the shapes do not fit.
    """
    name = "norm_silu_conv2d"
    check_group_norm(name, x.shape, scale.shape, shift.shape, groups)
    check_conv2d(x.shape, w.shape, None, 1, name=name)
    check_added(name, x.shape, w.shape, b.shape, None if add is None else add.shape)
    a, mean, rstd = group_norm(x, scale, shift, groups, eps, silu=True)
    y = conv2d(a, w) + over_pixels(b)
    return (y if add is None else y + add), mean, rstd


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
    """The gradients of x, scale, shift, w and b; that of add is gy itself.

    gy: (N, H, W, C_out). add_to_gx: like x, or None. The rest as above.
    Returns gx (N, H, W, C_in), gscale and gshift (N, C_in), gw (KH, KW, C_in, C_out), gb (N, C_out).
    """
    name = "norm_silu_conv2d_grad"
    check_group_norm(name, x.shape, scale.shape, shift.shape, groups, None, mean.shape, rstd.shape)
    check_conv2d_grad(name, gy.shape, x.shape, w.shape, 1)
    check_like_x(name, "add_to_gx", add_to_gx, x.shape)
    z = (x - spread(mean, x)) * spread(rstd, x) * over_pixels(scale) + over_pixels(shift)
    a = z * 0.5 * (1 + np.tanh(0.5 * z))
    gw = conv2d_grad_w(gy, a, w.shape)
    ga = conv2d_grad_x(gy, w, x.shape)
    gx, gscale, gshift = group_norm_grad(ga, x, scale, shift, mean, rstd, groups, True, add_to_gx)
    return gx, gscale, gshift, gw, conv2d_grad_b(gy)


def spread(statistics, x):
    """(N, groups) as (N, 1, 1, C): each channel has the number of its group."""
    return over_pixels(statistics.repeat(x.shape[3] // statistics.shape[1], axis=1))


def over_pixels(channels):
    """(C,) or (N, C), shaped to multiply a picture."""
    return channels[..., None, None, :]


def check_added(name, x_shape, w_shape, b_shape, add_shape):
    """Raise ValueError in one line unless `b` and `add` fit the result."""
    N, C_out = x_shape[0], w_shape[-1]
    if tuple(b_shape) not in ((C_out,), (N, C_out)):
        raise ValueError(f"{name}: b must be ({C_out},) or ({N}, {C_out}), got shape {tuple(b_shape)}")
    expected = (*x_shape[:3], C_out)
    if add_shape is not None and tuple(add_shape) != expected:
        raise ValueError(f"{name}: add must be {expected}, got shape {tuple(add_shape)}")
