"""Normalise, apply SiLU, convolve and add a residual as one operation, defined: one after the other.

A residual block normalises, applies SiLU and convolves twice; after the second convolution it adds the residual. As one
operation, nothing between these steps has to be written to memory, read again and kept for the backward pass, which
needs only x and the groups' statistics.

Reading order: after `norm` and `conv2d`, whose functions this composes.
"""

import numpy as np

from minidiff.kernels.conv2d.reference import conv2d, conv2d_grad_b, conv2d_grad_w, conv2d_grad_x
from minidiff.kernels.norm.reference import group_norm, group_norm_grad
from minidiff.kernels.norm_silu_conv2d.checks import check_norm_silu_conv2d, check_norm_silu_conv2d_grad


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
    """y = conv2d(silu(group_norm(x)), w, b) + residual, at stride 1.

    x: (N, H, W, C_in). scale, shift: (C_in,) or (N, C_in). w: (KH, KW, C_in, C_out). b: (C_out,), or
    (N, C_out), one for each image. residual: (N, H, W, C_out) or None. Any float dtype.
    Returns y (N, H, W, C_out), and mean and rstd (N, groups) of x.
    Raises ValueError in one line if the shapes do not fit.
    """
    check_norm_silu_conv2d(x, scale, shift, groups, w, b, residual)
    a, mean, rstd = group_norm(x, scale, shift, groups, eps, silu=True)
    y = conv2d(a, w) + over_pixels(b)
    return (y if residual is None else y + residual), mean, rstd


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
    """The gradients of x, scale, shift, w and b; that of the residual is gy itself.

    gy: (N, H, W, C_out). The rest as above.
    gx_so_far: an array like x that is added to gx, the gradient that x has from elsewhere; or None.
    Returns gx (N, H, W, C_in), gscale and gshift (N, C_in), gw (KH, KW, C_in, C_out), gb (N, C_out).
    """
    check_norm_silu_conv2d_grad(gy, x, scale, shift, mean, rstd, groups, w, gx_so_far)
    z = (x - spread(mean, x)) * spread(rstd, x) * over_pixels(scale) + over_pixels(shift)
    a = z * 0.5 * (1 + np.tanh(0.5 * z))
    gw = conv2d_grad_w(gy, a, w.shape)
    ga = conv2d_grad_x(gy, w, x.shape)
    gx, gscale, gshift = group_norm_grad(ga, x, scale, shift, mean, rstd, groups, True, gx_so_far)
    return gx, gscale, gshift, gw, conv2d_grad_b(gy)


def spread(statistics: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(N, groups) as (N, 1, 1, C): each channel gets the number of its group."""
    return over_pixels(statistics.repeat(x.shape[3] // statistics.shape[1], axis=1))


def over_pixels(channels: np.ndarray) -> np.ndarray:
    """(C,) or (N, C), shaped to be multiplied by an image."""
    return channels[..., None, None, :]
