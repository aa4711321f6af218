"""Checks of the arguments of group normalisation."""

from typing import Any

Shape = tuple[int, ...]


def check_group_norm(
    name: str,
    x_shape: Shape,
    scale_shape: Shape,
    shift_shape: Shape,
    groups: int,
    gy_shape: Shape | None = None,
    mean_shape: Shape | None = None,
    rstd_shape: Shape | None = None,
    gx_so_far: Any = None,
) -> None:
    """Raise ValueError in one line unless the shapes fit each other."""
    if len(x_shape) != 4:
        raise ValueError(f"{name}: x must be (N, H, W, C), got shape {tuple(x_shape)}")
    N, C = x_shape[0], x_shape[3]
    if groups < 1 or C % groups:
        raise ValueError(f"{name}: {groups} groups do not divide {C} channels")
    for what, shape in (("scale", scale_shape), ("shift", shift_shape)):
        if tuple(shape) not in ((C,), (N, C)):
            raise ValueError(f"{name}: {what} must be ({C},) or ({N}, {C}), got shape {tuple(shape)}")
    if gy_shape is not None and tuple(gy_shape) != tuple(x_shape):
        raise ValueError(f"{name}: gy must be {tuple(x_shape)}, got shape {tuple(gy_shape)}")
    if gx_so_far is not None and tuple(gx_so_far.shape) != tuple(x_shape):
        raise ValueError(f"{name}: gx_so_far must be {tuple(x_shape)}, got shape {tuple(gx_so_far.shape)}")
    for what, given in (("mean", mean_shape), ("rstd", rstd_shape)):
        if given is not None and tuple(given) != (N, groups):
            raise ValueError(f"{name}: {what} must be ({N}, {groups}), got shape {tuple(given)}")
