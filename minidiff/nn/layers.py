"""The basic layers: linear, convolution, group normalisation, embedding.

Idea: a layer is an operation of ops.py together with the parameters that it owns.  The weights of a linear layer or a
convolution start as normal random numbers of variance 1 / fan-in, so that the outputs have about the same variance as
the inputs (LeCun et al. 1998, "Efficient BackProp", section 4.6); biases start at zero.
Leaves out layers that are made of other layers: attention.py, unet.py and others.
"""

import math
from typing import Any

from minidiff import ops
from minidiff.autograd import Tensor
from minidiff.nn.module import Module, Parameter, has_forward_hook


class Linear(Module):
    """x w + b: (…, in_features) to (…, out_features).  zero: start with weights of zero."""

    def __init__(self, in_features: int, out_features: int, zero: bool = False) -> None:
        self.w = Parameter((in_features, out_features), std=0.0 if zero else 1 / math.sqrt(in_features))
        self.b = Parameter((out_features,))

    def forward(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.w, self.b)


class Conv2d(Module):
    """A convolution with bias: (N, H, W, in_channels) to (N, ⌈H/stride⌉, ⌈W/stride⌉, out_channels).

    kernel: height and width of the filter.
    upsample: double height and width of the input first (nearest neighbour); the output is (N, 2H, 2W, out_channels).
    zero: start with weights of zero.  A residual block whose branch ends in such a layer starts as the identity (Goyal
    et al. 2017, arXiv:1706.02677, section 5.1, for normalisation; Ho et al. 2020, arXiv:2006.11239, for U-Nets).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        stride: int = 1,
        upsample: bool = False,
        zero: bool = False,
    ) -> None:
        self.stride, self.upsample = stride, upsample
        fan_in = kernel * kernel * in_channels
        self.w = Parameter((kernel, kernel, in_channels, out_channels), std=0.0 if zero else 1 / math.sqrt(fan_in))
        self.b = Parameter((out_channels,))

    def forward(self, x: Tensor) -> Tensor:
        return ops.conv2d(x, self.w, self.b, self.stride, self.upsample)


class GroupNorm(Module):
    """Normalise groups of channels within each image, then multiply by a gain and add a bias; SiLU follows if `silu`.

    groups: the number of groups; where it does not divide the channels, the greatest common divisor of both is taken.
    eps: is added to the variance, so that nothing is divided by zero.
    forward(x, scale, shift): scale and shift, (N, C) or None, come from the embedding of timestep and condition.  With
    them the gain becomes gain · (1 + scale) and the bias becomes bias · (1 + scale) + shift: adaptive group
    normalisation (Dhariwal and Nichol 2021, arXiv:2105.05233, eq. 3).
    """

    def __init__(self, groups: int, channels: int, silu: bool = False, eps: float = 1e-5) -> None:
        self.groups = math.gcd(groups, channels)
        self.silu, self.eps = silu, eps
        self.gain = Parameter((channels,), mean=1.0)
        self.bias = Parameter((channels,))

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        return ops.group_norm(x, *self._gain_and_bias(scale, shift), self.groups, self.eps, self.silu)

    def then(
        self,
        conv: Conv2d,
        x: Tensor,
        scale: Tensor | None = None,
        shift: Tensor | None = None,
        bias: Tensor | None = None,
        add: Tensor | None = None,
    ) -> Tensor:
        """conv(self(x, scale, shift)) + bias + add, fused into one operation; only for a layer with `silu`.

        bias: (N, out_channels), for all pixels of an image.  add: (N, H, W, out_channels).
        While a forward hook is set, the layers run one by one.
        """
        if has_forward_hook():
            y = conv(self(x, scale, shift))
            y = y if bias is None else y + ops.reshape(bias, (-1, 1, 1, bias.shape[-1]))
            return y if add is None else y + add
        b: Tensor = conv.b if bias is None else conv.b + bias
        gain, shift = self._gain_and_bias(scale, shift)
        return ops.norm_silu_conv2d(x, gain, shift, self.groups, self.eps, conv.w, b, add)

    def _gain_and_bias(self, scale: Tensor | None, shift: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return gain and bias: each (C,), or (N, C) with scale and shift."""
        if scale is None or shift is None:
            return self.gain, self.bias
        factor = scale + 1.0
        return self.gain * factor, self.bias * factor + shift


class Embedding(Module):
    """A table of learnt vectors, looked up by index: (N,) integers in [0, count) to (N, width)."""

    def __init__(self, count: int, width: int) -> None:
        self.table = Parameter((count, width), std=1.0)

    def forward(self, index: Any) -> Tensor:
        return ops.embedding(self.table, index)
