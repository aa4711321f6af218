"""Group normalisation on a GPU, the host's side: checks, new arrays, and one block for each group or channel."""

from collections.abc import Callable
from typing import Any

from minidiff.kernels.cuda_launch import check_counts, empty, float32
from minidiff.kernels.norm.checks import check_group_norm


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
        sizes = _sizes("group_norm", x, groups, scale, shift, silu, eps)
        self.launch("norm_forward", (N * groups,), x, scale, shift, y, mean, rstd, sizes)
        return y, mean, rstd

    def group_norm_again(self, x: Any, scale: Any, shift: Any, mean: Any, rstd: Any, groups: int, silu: bool) -> Any:
        """The result of `group_norm` once more, from the mean and rstd that it returned."""
        x, scale, shift, mean, rstd = float32("group_norm_again", x=x, scale=scale, shift=shift, mean=mean, rstd=rstd)
        y, scale, shift = empty(x.shape), _rows(scale), _rows(shift)
        sizes = _sizes("group_norm_again", x, groups, scale, shift, silu)
        self.launch("norm_again", (len(x) * groups,), x, scale, shift, mean, rstd, y, sizes)
        return y

    def group_norm_grad(
        self,
        gy: Any,
        x: Any,
        scale: Any,
        shift: Any,
        mean: Any,
        rstd: Any,
        groups: int,
        silu: bool,
        gx_so_far: Any = None,
    ) -> tuple[Any, Any, Any]:
        """`reference.group_norm_grad`."""
        name = "group_norm_grad"
        check_group_norm(name, x.shape, scale.shape, shift.shape, groups, gy.shape, mean.shape, rstd.shape, gx_so_far)
        gy, x, scale, shift, mean, rstd = float32(name, gy=gy, x=x, scale=scale, shift=shift, mean=mean, rstd=rstd)
        (gx_so_far,) = float32(name, gx_so_far=gx_so_far)
        N, C, scale, shift = len(x), x.shape[3], _rows(scale), _rows(shift)
        gx, gscale, gshift = empty(x.shape), empty((N, C)), empty((N, C))
        given, sizes = (gy, x, scale, shift, mean, rstd), _sizes(name, x, groups, scale, shift, silu)
        self.launch("norm_grad_channels", (N * C,), *given, gscale, gshift, sizes)
        self.launch("norm_grad_x", (N * groups,), *given, gscale, gshift, gx_so_far, gx, sizes)
        return gx, gscale, gshift


def _sizes(function: str, x: Any, groups: int, scale: Any, shift: Any, silu: bool, eps: float = 0.0) -> tuple[Any, ...]:
    """What all kernels get beside arrays: pixels, channels, groups, the rows of scale and of shift, silu, eps."""
    _, H, W, C = x.shape
    check_counts(function, numbers_in_a_group=H * W * (C // groups))
    return H * W, C, groups, len(scale), len(shift), int(silu), float(eps)


def _rows(a: Any) -> Any:
    """(C,) as (1, C): one row for all images, or one for each."""
    return a[None] if a.ndim == 1 else a
