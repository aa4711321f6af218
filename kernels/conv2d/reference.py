"""Convolution, defined: a sum over the filter's positions, each one a shifted picture times a matrix.

A filter of KH x KW positions holds one matrix (C_in, C_out) at each. Shift the picture so that the pixel seen
through position (kh, kw) lies under the output pixel, multiply every pixel's channels by that position's matrix,
and add up. Both gradients follow by reading the same sum backwards: the gradient of a product `a @ m` is
`g @ m.T` for a and `a.T @ g` for m.

A picture may be convolved at twice its size, each pixel standing for 2x2 equal ones ("nearest" upsampling): what the
way up of a U-Net does before a convolution.

Reading order: with `minidiff/ops.py`, which puts this on the tape. Left out: dilation, groups, even filter sizes
and free choice of padding; a denoiser needs none of them.
"""

from contextlib import AbstractContextManager, nullcontext

import numpy as np


def conv2d(
    x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, stride: int = 1, upsample: bool = False
) -> np.ndarray:
    """Convolve pictures with a filter, padded by zeros so that stride 1 keeps the size.

        y[n, i, j] = b + sum_{kh, kw} x[n, i stride + kh - KH // 2, j stride + kw - KW // 2] w[kh, kw]

    x: (N, H, W, C_in). w: (KH, KW, C_in, C_out), KH and KW odd. b: (C_out,) or None. Any float dtype.
    upsample: x[n, i // 2, j // 2] stands in the place of x[n, i, j], for i < 2 H and j < 2 W; only with stride 1.
    Returns (N, ceil(H / stride), ceil(W / stride), C_out), with upsample (N, 2 H, 2 W, C_out).
    Raises ValueError if the shapes do not fit.
    Source: Dumoulin & Visin 2016, arXiv:1603.07285, section 2 ("same" padding); a cross-correlation, as is usual.
    """
    check_conv2d(x.shape, w.shape, None if b is None else b.shape, stride, upsample)
    KH, KW, _, _ = w.shape
    x = _doubled(x) if upsample else x
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
    add: np.ndarray | None = None,
) -> np.ndarray:
    """The gradient of `conv2d`'s input: every output pixel hands its gradient back to the pixels it saw.

        gx[n, i stride + kh - KH // 2, j stride + kw - KW // 2] += gy[n, i, j] w[kh, kw]^T     for all n, i, j, kh, kw

    With upsample, a pixel of x gets what the four that it stood for would get. add: like gx, to be added; or None.
    gy: as `conv2d` returned. w: (KH, KW, C_in, C_out). x_shape: (N, H, W, C_in).
    Returns (N, H, W, C_in) in gy's dtype.
    """
    check_conv2d_grad("conv2d_grad_x", gy.shape, x_shape, w.shape, stride, upsample)
    check_like_x("conv2d_grad_x", "add", add, x_shape)
    N, H, W, C_in = x_shape
    if upsample:
        g_doubled = conv2d_grad_x(gy, w, (N, 2 * H, 2 * W, C_in))
        gx = g_doubled.reshape(N, H, 2, W, 2, C_in).sum((2, 4))
        return gx if add is None else gx + add
    KH, KW, _, _ = w.shape
    padded = _pad(np.zeros_like(gy, shape=x_shape), KH, KW)
    for kh, kw in np.ndindex(KH, KW):
        window = _seen_through(padded, kh, kw, gy.shape, stride)  # a view: adding to it adds to `padded`
        window += gy @ w[kh, kw].T
    gx = np.ascontiguousarray(padded[:, KH // 2 : KH // 2 + H, KW // 2 : KW // 2 + W])
    return gx if add is None else gx + add


def conv2d_grad_w(
    gy: np.ndarray, x: np.ndarray, w_shape: tuple[int, ...], stride: int = 1, upsample: bool = False
) -> np.ndarray:
    """The gradient of `conv2d`'s filter: what each position saw, times what came back.

        gw[kh, kw] = sum_{n, i, j} x[n, i stride + kh - KH // 2, j stride + kw - KW // 2]^T gy[n, i, j]

    gy: as `conv2d` returned. x: (N, H, W, C_in). w_shape: (KH, KW, C_in, C_out).
    Returns (KH, KW, C_in, C_out) in x's dtype.
    """
    check_conv2d_grad("conv2d_grad_w", gy.shape, x.shape, w_shape, stride, upsample)
    KH, KW, _, _ = w_shape
    x = _doubled(x) if upsample else x
    padded = _pad(x, KH, KW)
    gw = np.zeros_like(x, shape=w_shape)
    pixels = ((0, 1, 2), (0, 1, 2))  # sum over pictures, rows and columns
    for kh, kw in np.ndindex(KH, KW):
        gw[kh, kw] = np.tensordot(_seen_through(padded, kh, kw, gy.shape, stride), gy, pixels)
    return gw


def conv2d_grad_b(gy: np.ndarray) -> np.ndarray:
    """The gradient of a bias that each picture has for itself: (N, H, W, C_out) summed over pixels to (N, C_out)."""
    return gy.sum((1, 2))


def constant_filters() -> AbstractContextManager:
    """For `with` blocks, as many as one likes, between which no filter changes: what a version makes of one is kept."""
    return nullcontext()


def output_shape(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], stride: int = 1, upsample: bool = False
) -> tuple[int, int, int, int]:
    """The shape of `conv2d`'s result."""
    N, H, W, _ = x_shape
    if upsample:
        return N, 2 * H, 2 * W, w_shape[3]
    return N, -(-H // stride), -(-W // stride), w_shape[3]


def _doubled(x):
    """x (N, H, W, C) with 2x2 equal pixels for each: (N, 2 H, 2 W, C)."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def _pad(x, KH, KW):
    """x (N, H, W, C) with a border of zeros: KH // 2 rows above and below, KW // 2 columns left and right."""
    return np.pad(x, ((0, 0), (KH // 2, KH // 2), (KW // 2, KW // 2), (0, 0)))


def _seen_through(padded, kh, kw, y_shape, stride):
    """For every output pixel, the padded pixel under filter position (kh, kw): a view, (N, H_out, W_out, C)."""
    _, H_out, W_out, _ = y_shape
    return padded[:, kh : kh + stride * H_out : stride, kw : kw + stride * W_out : stride]


def check_conv2d(x_shape, w_shape, b_shape, stride, upsample=False, name="conv2d"):
    """Raise ValueError in one line unless the shapes fit each other."""
    if len(x_shape) != 4:
        raise ValueError(f"{name}: x must be (N, H, W, C_in), got shape {tuple(x_shape)}")
    if len(w_shape) != 4:
        raise ValueError(f"{name}: w must be (KH, KW, C_in, C_out), got shape {tuple(w_shape)}")
    if w_shape[0] % 2 == 0 or w_shape[1] % 2 == 0:
        raise ValueError(f"{name}: filter sizes must be odd, got {w_shape[0]}x{w_shape[1]}")
    if x_shape[3] != w_shape[2]:
        raise ValueError(f"{name}: x has {x_shape[3]} channels, w expects {w_shape[2]}")
    if b_shape is not None and tuple(b_shape) != (w_shape[3],):
        raise ValueError(f"{name}: b must be ({w_shape[3]},), got shape {tuple(b_shape)}")
    if stride not in (1, 2):
        raise ValueError(f"{name}: stride must be 1 or 2, got {stride}")
    if upsample and stride != 1:
        raise ValueError(f"{name}: upsample needs stride 1, got {stride}")


def check_conv2d_grad(name, gy_shape, x_shape, w_shape, stride, upsample=False):
    """Raise ValueError in one line unless gy has the shape that `conv2d` would have returned."""
    check_conv2d(x_shape, w_shape, None, stride, upsample, name)
    expected = output_shape(x_shape, w_shape, stride, upsample)
    if tuple(gy_shape) != expected:
        raise ValueError(f"{name}: gy must be {expected}, got shape {tuple(gy_shape)}")


def check_like_x(name, what, array, x_shape):
    """Raise ValueError in one line unless the array is None or of x's shape."""
    if array is not None and tuple(array.shape) != tuple(x_shape):
        raise ValueError(f"{name}: {what} must be {tuple(x_shape)}, got shape {tuple(array.shape)}")
