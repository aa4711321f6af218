"""Group normalisation on a GPU, around the kernels."""

from collections.abc import Callable
from typing import Any

from minidiff.kernels.cuda_launch import check_counts, empty, float32
from minidiff.kernels.norm.reference import check_group_norm


class GroupNorm:
    """The functions of `reference.py` for float32 arrays of a device.

    launch: runs the kernels norm_forward, norm_again, norm_grad_channels and norm_grad_x.
    """

    def __init__(self, launch: Callable) -> None:
        self.launch = launch

    def group_norm(self, x: Any, scale: Any, shift: Any, groups: int, eps: float, silu: bool) -> tuple[Any, Any, Any]:
        """`reference.group_norm`."""
        check_group_norm("group_norm", x.shape, scale.shape, shift.shape, groups)
        x, scale, shift = float32("group_norm", x=x, scale=scale, shift=shift)
        N, scale, shift = len(x), _rows(scale), _rows(shift)
        y, mean, rstd = empty(x.shape), empty((N, groups)), empty((N, groups))
        sizes = _sizes("group_norm", x, groups, scale, shift)
        self.launch("norm_forward", (N * groups,), x, scale, shift, y, mean, rstd, *sizes, eps, int(silu))
        return y, mean, rstd

    def group_norm_again(self, x: Any, scale: Any, shift: Any, mean: Any, rstd: Any, groups: int, silu: bool) -> Any:
        """The result of `group_norm` once more, from what it returned beside it."""
        x, scale, shift, mean, rstd = float32("group_norm_again", x=x, scale=scale, shift=shift, mean=mean, rstd=rstd)
        y, scale, shift = empty(x.shape), _rows(scale), _rows(shift)
        sizes = _sizes("group_norm_again", x, groups, scale, shift)
        self.launch("norm_again", (len(x) * groups,), x, scale, shift, mean, rstd, y, *sizes, int(silu))
        return y

    def group_norm_grad(
        self, gy: Any, x: Any, scale: Any, shift: Any, mean: Any, rstd: Any, groups: int, silu: bool, add: Any = None
    ) -> tuple[Any, Any, Any]:
        """`reference.group_norm_grad`."""
        name = "group_norm_grad"
        check_group_norm(name, x.shape, scale.shape, shift.shape, groups, gy.shape, mean.shape, rstd.shape, add)
        gy, x, scale, shift, mean, rstd = float32(name, gy=gy, x=x, scale=scale, shift=shift, mean=mean, rstd=rstd)
        (add,) = float32(name, add=add)
        N, C, scale, shift = len(x), x.shape[3], _rows(scale), _rows(shift)
        gx, gscale, gshift = empty(x.shape), empty((N, C)), empty((N, C))
        given, sizes = (gy, x, scale, shift, mean, rstd), (*_sizes(name, x, groups, scale, shift), int(silu))
        self.launch("norm_grad_channels", (N * C,), *given, gscale, gshift, *sizes)
        self.launch("norm_grad_x", (N * groups,), *given, gscale, gshift, add, gx, *sizes)
        return gx, gscale, gshift


def _sizes(function, x, groups, scale, shift):
    """What all kernels are told of x: pixels, channels, groups, and the rows of scale and of shift."""
    _, H, W, C = x.shape
    check_counts(function, numbers_in_a_group=H * W * (C // groups))
    return H * W, C, groups, len(scale), len(shift)


def _rows(a):
    """(C,) as (1, C): one row for all pictures, or one for each."""
    return a[None] if a.ndim == 1 else a
