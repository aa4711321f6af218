"""Checks of the arguments of a convolution, and the shape of its result."""

from typing import Any

Shape = tuple[int, ...]


def output_shape(x_shape: Shape, w_shape: Shape, stride: int = 1, upsample: bool = False) -> tuple[int, int, int, int]:
    """The shape of `conv2d`'s result."""
    N, H, W, _ = x_shape
    if upsample:
        return N, 2 * H, 2 * W, w_shape[3]
    return N, -(-H // stride), -(-W // stride), w_shape[3]


def check_conv2d(
    x_shape: Shape,
    w_shape: Shape,
    b_shape: Shape | None,
    stride: int,
    upsample: bool = False,
    name: str = "conv2d",
) -> None:
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


def check_conv2d_grad(
    name: str,
    gy_shape: Shape,
    x_shape: Shape,
    w_shape: Shape,
    stride: int,
    upsample: bool = False,
) -> None:
    """Raise ValueError in one line unless gy has the shape that `conv2d` would have returned."""
    check_conv2d(x_shape, w_shape, None, stride, upsample, name)
    expected = output_shape(x_shape, w_shape, stride, upsample)
    if tuple(gy_shape) != expected:
        raise ValueError(f"{name}: gy must be {expected}, got shape {tuple(gy_shape)}")


def check_like_x(name: str, what: str, array: Any, x_shape: Shape) -> None:
    """Raise ValueError in one line unless the array is None or of x's shape."""
    if array is not None and tuple(array.shape) != tuple(x_shape):
        raise ValueError(f"{name}: {what} must be {tuple(x_shape)}, got shape {tuple(array.shape)}")
