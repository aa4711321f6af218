"""Convolution, defined: a sum over the filter's positions, in which each term is a shifted image times a matrix.

A filter has KH x KW positions and holds a matrix (C_in, C_out) at each. For position (kh, kw), shift the image so that
pixel (i + kh - KH // 2, j + kw - KW // 2) moves to (i, j), and multiply every pixel's channels by the matrix. The
output is the sum over all positions. Both gradients follow from the same sum: the gradient of a product `a @ m` is
`g @ m.T` for a and `a.T @ g` for m.

An image may be upsampled to twice its size while it is convolved: each pixel is repeated 2x2 ("nearest" upsampling), as
the decoder of a U-Net does before a convolution.

Reading order: with `minidiff/ops.py`, which puts this on the tape. Leaves out dilation, groups, even filter sizes and
other padding: a denoiser needs none of them.
"""

from contextlib import AbstractContextManager, nullcontext

import numpy as np

from minidiff.kernels.conv2d.checks import check_conv2d, check_conv2d_grad, check_like_x, output_shape


def conv2d(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, stride: int = 1, upsample: bool = False
) -> np.ndarray:
    """Convolve images with a filter, padded by zeros so that stride 1 keeps the size.

        y[n, i, j] = b + sum_{kh, kw} x[n, i stride + kh - KH // 2, j stride + kw - KW // 2] w[kh, kw]

    x: (N, H, W, C_in). w: (KH, KW, C_in, C_out), KH and KW odd. b: (C_out,) or None. Any float dtype.
    upsample: x[n, i // 2, j // 2] takes the place of x[n, i, j], for i < 2 H and j < 2 W; only with stride 1.
    Returns (N, ceil(H / stride), ceil(W / stride), C_out), with upsample (N, 2 H, 2 W, C_out).
    Raises ValueError if the shapes do not fit.
    Source: Dumoulin & Visin 2016, arXiv:1603.07285, section 2 ("same" padding); a cross-correlation, as is usual.
    """
    check_conv2d(x.shape, w.shape, None if b is None else b.shape, stride, upsample)
    KH, KW, _, _ = w.shape
    x = _upsampled(x) if upsample else x
    padded = _pad(x, KH, KW)
    y = np.zeros_like(x, shape=output_shape(x.shape, w.shape, stride))
    for kh, kw in np.ndindex(KH, KW):
        y += _seen_through(padded, kh, kw, y.shape, stride) @ w[kh, kw]
    return y if b is None else y + b


def conv2d_grad_x(
    gy: np.ndarray,
    w: np.ndarray,
    x_shape: tuple[int, ...],
    stride: int = 1,
    upsample: bool = False,
    gx_so_far: np.ndarray | None = None,
) -> np.ndarray:
    """The gradient of `conv2d`'s input: every output pixel passes its gradient back to the pixels that it saw.

        gx[n, i stride + kh - KH // 2, j stride + kw - KW // 2] += gy[n, i, j] w[kh, kw]^T     for all n, i, j, kh, kw

    With upsample, a pixel of x gets the sum of what its 2x2 copies would get.
    gx_so_far: an array like gx that is added to it, the gradient that x has from elsewhere; or None.
    gy: as `conv2d` returned. w: (KH, KW, C_in, C_out). x_shape: (N, H, W, C_in).
    Returns (N, H, W, C_in) in gy's dtype.
    """
    check_conv2d_grad("conv2d_grad_x", gy.shape, x_shape, w.shape, stride, upsample)
    check_like_x("conv2d_grad_x", "gx_so_far", gx_so_far, x_shape)
    N, H, W, C_in = x_shape
    if upsample:
        g_upsampled = conv2d_grad_x(gy, w, (N, 2 * H, 2 * W, C_in))
        gx = g_upsampled.reshape(N, H, 2, W, 2, C_in).sum((2, 4))
        return gx if gx_so_far is None else gx + gx_so_far
    KH, KW, _, _ = w.shape
    padded = _pad(np.zeros_like(gy, shape=x_shape), KH, KW)
    for kh, kw in np.ndindex(KH, KW):
        window = _seen_through(padded, kh, kw, gy.shape, stride)  # a view: adding to it adds to `padded`
        window += gy @ w[kh, kw].T
    gx = np.ascontiguousarray(padded[:, KH // 2 : KH // 2 + H, KW // 2 : KW // 2 + W])
    return gx if gx_so_far is None else gx + gx_so_far


def conv2d_grad_w(
    gy: np.ndarray, x: np.ndarray, w_shape: tuple[int, ...], stride: int = 1, upsample: bool = False
) -> np.ndarray:
    """The gradient of `conv2d`'s filter: at each position, the pixels that it saw times the gradients of the outputs.

        gw[kh, kw] = sum_{n, i, j} x[n, i stride + kh - KH // 2, j stride + kw - KW // 2]^T gy[n, i, j]

    gy: as `conv2d` returned. x: (N, H, W, C_in). w_shape: (KH, KW, C_in, C_out).
    Returns (KH, KW, C_in, C_out) in x's dtype.
    """
    check_conv2d_grad("conv2d_grad_w", gy.shape, x.shape, w_shape, stride, upsample)
    KH, KW, _, _ = w_shape
    x = _upsampled(x) if upsample else x
    padded = _pad(x, KH, KW)
    gw = np.zeros_like(x, shape=w_shape)
    pixels = ((0, 1, 2), (0, 1, 2))  # sum over images, rows and columns
    for kh, kw in np.ndindex(KH, KW):
        gw[kh, kw] = np.tensordot(_seen_through(padded, kh, kw, gy.shape, stride), gy, pixels)
    return gw


def conv2d_grad_b(gy: np.ndarray) -> np.ndarray:
    """The gradient of a bias of each image: (N, H, W, C_out) summed over pixels to (N, C_out)."""
    return gy.sum((1, 2))


def constant_filters() -> AbstractContextManager:
    """A context, to be entered any number of times, in which no filter may change: its transform may be kept."""
    return nullcontext()


def _upsampled(x: np.ndarray) -> np.ndarray:
    """x (N, H, W, C) with 2x2 equal pixels for each: (N, 2 H, 2 W, C)."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def _pad(x: np.ndarray, KH: int, KW: int) -> np.ndarray:
    """x (N, H, W, C) with a border of zeros: KH // 2 rows above and below, KW // 2 columns left and right."""
    N, H, W, C = x.shape
    padded = np.zeros((N, H + KH - 1, W + KW - 1, C), x.dtype)  # np.pad takes longer than small products
    padded[:, KH // 2 : KH // 2 + H, KW // 2 : KW // 2 + W] = x
    return padded


def _seen_through(padded: np.ndarray, kh: int, kw: int, y_shape: tuple[int, ...], stride: int) -> np.ndarray:
    """For every output pixel, the padded pixel under filter position (kh, kw): a view, (N, H_out, W_out, C)."""
    _, H_out, W_out, _ = y_shape
    return padded[:, kh : kh + stride * H_out : stride, kw : kw + stride * W_out : stride]
