"""The layers that everything is built of: linear, convolution, normalisation, embedding.

Idea: a layer is an operation of ops.py with the parameters that it owns.  Weights start normal with variance
1 / fan-in, so that a layer neither grows nor shrinks what passes through it (LeCun et al. 1998, "Efficient BackProp",
section 4.6); biases start at zero.
Leaves out anything with a structure of its own: see attention.py and unet.py.
"""

import math
from typing import Any

from minidiff import ops
from minidiff.autograd import Tensor
from minidiff.nn.module import Module, Parameter, watched


class Linear(Module):
    """x w + b: (…, in) to (…, out)."""

    def __init__(self, inputs: int, outputs: int, zero: bool = False) -> None:
        self.w = Parameter((inputs, outputs), std=0.0 if zero else 1 / math.sqrt(inputs))
        self.b = Parameter((outputs,))

    def forward(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.w, self.b)


class Conv2d(Module):
    """A square convolution with bias: (N, H, W, in) to (N, ⌈H/stride⌉, ⌈W/stride⌉, out), or (N, 2H, 2W, out).

    upsample=True doubles the image first, each pixel becoming 2 × 2 equal ones.
    zero=True starts it at zero: a residual branch that ends so begins as the identity (Goyal et al. 2017,
    arXiv:1706.02677, section 5.1, for normalisation; Ho et al. 2020, arXiv:2006.11239, for U-Nets).
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, upsample: bool = False, zero: bool = False
    ) -> None:
        self.stride, self.upsample = stride, upsample
        fan_in = kernel * kernel * inputs
        self.w = Parameter((kernel, kernel, inputs, outputs), std=0.0 if zero else 1 / math.sqrt(fan_in))
        self.b = Parameter((outputs,))

    def forward(self, x: Tensor) -> Tensor:
        return ops.conv2d(x, self.w, self.b, self.stride, self.upsample)


class GroupNorm(Module):
    """Normalise groups of channels within each image, then scale and shift; SiLU after it if asked.

    forward(x, scale, shift): scale and shift, each (N, C) or None, come from the time embedding and turn
    the learnt gain and bias into gain · (1 + scale) and bias · (1 + scale) + shift
    (Dhariwal and Nichol 2021, arXiv:2105.05233, eq. 3: adaptive group normalisation).
    eps: what is added to the variance, so that a group of equal numbers is not divided by zero.
    """

    def __init__(self, groups: int, channels: int, silu: bool = False, eps: float = 1e-5) -> None:
        self.groups = math.gcd(groups, channels)  # the most groups that divide the channels, up to those asked
        self.silu, self.eps = silu, eps
        self.gain = Parameter((channels,), around=1.0)
        self.bias = Parameter((channels,))

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        return ops.group_norm(x, *self._adapted(scale, shift), self.groups, self.eps, self.silu)

    def then(
        self,
        conv: Conv2d,
        x: Tensor,
        scale: Tensor | None = None,
        shift: Tensor | None = None,
        bias: Tensor | None = None,
        add: Tensor | None = None,
    ) -> Tensor:
        """conv(self(x, scale, shift)) + bias + add as one operation, of a normalisation with SiLU.

        Layer by layer while these are watched.
        bias: (N, out), a number for every channel of each image.  add: (N, H, W, out).
        """
        if watched():
            y = conv(self(x, scale, shift))
            y = y if bias is None else y + ops.reshape(bias, (-1, 1, 1, bias.shape[-1]))
            return y if add is None else y + add
        b: Tensor = conv.b if bias is None else conv.b + bias
        gain, shift = self._adapted(scale, shift)
        return ops.norm_silu_conv2d(x, gain, shift, self.groups, self.eps, conv.w, b, add)

    def _adapted(self, scale: Tensor | None, shift: Tensor | None) -> tuple[Tensor, Tensor]:
        """Gain and bias, (C,), or (N, C) where they differ from image to image."""
        if scale is None or shift is None:
            return self.gain, self.bias
        factor = scale + 1.0
        return self.gain * factor, self.bias * factor + shift


class Embedding(Module):
    """A learnt vector for each of n things: (N,) integers to (N, width)."""

    def __init__(self, n: int, width: int) -> None:
        self.table = Parameter((n, width), std=1.0)

    def forward(self, index: Any) -> Tensor:
        return ops.embedding(self.table, index)
