"""Group normalisation, defined: every group of channels of every image gets mean 0 and variance 1.

The denoiser normalises before each convolution and nearly always applies SiLU right after, so the pair is one
operation here: fast versions then pass over memory once instead of three times. The time embedding may set `scale`
and `shift` for each image, so both come as (C,) or as (N, C).

Reading order: with `minidiff/ops.py`. Leaves out running statistics: a group's statistics come from its own image, so
training and sampling compute the same.
"""

import numpy as np

from minidiff.kernels.norm.checks import check_group_norm


def group_norm(
    x: np.ndarray, scale: np.ndarray, shift: np.ndarray, groups: int, eps: float, silu: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalise each image's groups of channels, scale and shift each channel, and apply SiLU if `silu`.

        x_hat = (x - mean) rstd,   rstd = 1 / sqrt(variance + eps)        over a group: H x W x (C / groups) numbers
        z = scale x_hat + shift
        y = z sigmoid(z)   if silu,   else z

    x: (N, H, W, C). scale, shift: (C,) or (N, C). Any float dtype.
    Returns y (N, H, W, C), mean (N, groups) and rstd (N, groups).
    Raises ValueError if the groups do not divide the channels or a shape does not fit.
    Source: Wu & He 2018, arXiv:1803.08494, eqs. 1-3; SiLU: Elfwing et al. 2017, arXiv:1702.03118, eq. 5.
    """
    check_group_norm("group_norm", x.shape, scale.shape, shift.shape, groups)
    grouped = _split_groups(x, groups)
    mean = grouped.mean((1, 3))  # (N, groups)
    variance = np.square(grouped - mean[:, None, :, None]).mean((1, 3))
    rstd = 1 / np.sqrt(variance + eps)
    z = _over_pixels(scale) * _normalise(x, mean, rstd) + _over_pixels(shift)
    return (z * sigmoid(z) if silu else z), mean, rstd


def group_norm_grad(
    gy: np.ndarray,
    x: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    mean: np.ndarray,
    rstd: np.ndarray,
    groups: int,
    silu: bool,
    gx_so_far: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of `group_norm`'s x, scale and shift, from what the forward pass kept: x, mean and rstd.

        gz = gy sigmoid(z) (1 + z (1 - sigmoid(z)))   if silu,   else gy
        gshift = sum over pixels of gz,   gscale = sum over pixels of gz x_hat
        g = gz scale
        gx = rstd (g - average(g) - x_hat average(g x_hat))               averages over the group

    The two averages are there because the group's mean and variance also depend on x.
    gy, x: (N, H, W, C). scale, shift: (C,) or (N, C). mean, rstd: (N, groups).
    gx_so_far: an array like x that is added to gx, the gradient that x has from elsewhere; or None.
    Returns gx (N, H, W, C), gscale (N, C) and gshift (N, C), one row for each image: a caller with (C,) sums over N.
    Source: the chain rule, as in Ioffe & Szegedy 2015, arXiv:1502.03167, section 3, with groups in place of batches.
    """
    check_group_norm(
        "group_norm_grad", x.shape, scale.shape, shift.shape, groups, gy.shape, mean.shape, rstd.shape, gx_so_far
    )  # fmt: skip
    x_hat = _normalise(x, mean, rstd)
    gz = gy
    if silu:
        z = _over_pixels(scale) * x_hat + _over_pixels(shift)
        s = sigmoid(z)
        gz = gy * s * (1 + z * (1 - s))
    gshift = gz.sum((1, 2))
    gscale = (gz * x_hat).sum((1, 2))

    g = _split_groups(gz * _over_pixels(scale), groups)
    x_hat = _split_groups(x_hat, groups)
    average_g = g.mean((1, 3), keepdims=True)
    average_g_x_hat = (g * x_hat).mean((1, 3), keepdims=True)
    gx = (rstd[:, None, :, None] * (g - average_g - x_hat * average_g_x_hat)).reshape(x.shape)
    return (gx if gx_so_far is None else gx + gx_so_far), gscale, gshift


def sigmoid(z: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-z)), through tanh because exp(-z) overflows for z far below 0."""
    return 0.5 * (1 + np.tanh(0.5 * z))


def _split_groups(x: np.ndarray, groups: int) -> np.ndarray:
    N, H, W, C = x.shape
    return x.reshape(N, H * W, groups, C // groups)  # pixels on axis 1, a group's channels on axis 3


def _normalise(x: np.ndarray, mean: np.ndarray, rstd: np.ndarray) -> np.ndarray:
    grouped = _split_groups(x, mean.shape[1])
    return ((grouped - mean[:, None, :, None]) * rstd[:, None, :, None]).reshape(x.shape)


def _over_pixels(channels: np.ndarray) -> np.ndarray:
    """(C,) or (N, C), shaped to be multiplied by an image: (1, 1, C) or (N, 1, 1, C)."""
    return channels[..., None, None, :]
