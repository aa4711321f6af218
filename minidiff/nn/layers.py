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
from minidiff.nn.module import Module, Parameter


class Linear(Module):
    """x w + b: (…, in) to (…, out)."""

    def __init__(self, inputs: int, outputs: int, zero: bool = False) -> None:
        self.w = Parameter((inputs, outputs), std=0.0 if zero else 1 / math.sqrt(inputs))
        self.b = Parameter((outputs,))

    def forward(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.w, self.b)


class Conv2d(Module):
    """A square convolution with bias: (N, H, W, in) to (N, ⌈H/stride⌉, ⌈W/stride⌉, out).

    zero=True starts it at zero: a residual branch that ends so begins as the identity (Goyal et al. 2017,
    arXiv:1706.02677, section 5.1, for normalisation; Ho et al. 2020, arXiv:2006.11239, for U-Nets).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, zero: bool = False) -> None:
        self.stride = stride
        fan_in = kernel * kernel * inputs
        self.w = Parameter((kernel, kernel, inputs, outputs), std=0.0 if zero else 1 / math.sqrt(fan_in))
        self.b = Parameter((outputs,))

    def forward(self, x: Tensor) -> Tensor:
        return ops.conv2d(x, self.w, self.b, self.stride)


class GroupNorm(Module):
    """Normalise groups of channels within each picture, then scale and shift; SiLU after it if asked.

    forward(x, scale, shift): scale and shift, each (N, C) or None, come from the time embedding and turn
    the learnt gain and bias into gain · (1 + scale) and bias · (1 + scale) + shift
    (Dhariwal and Nichol 2021, arXiv:2105.05233, eq. 3: adaptive group normalisation).
    """

    eps = 1e-5

    def __init__(self, groups: int, channels: int, silu: bool = False) -> None:
        self.groups = math.gcd(groups, channels)  # the most groups that divide the channels, up to those asked
        self.silu = silu
        self.gain = Parameter((channels,), around=1.0)
        self.bias = Parameter((channels,))

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        gain: Tensor = self.gain
        bias: Tensor = self.bias
        if scale is not None and shift is not None:
            gain, bias = gain * (scale + 1.0), bias * (scale + 1.0) + shift  # (N, C)
        return ops.group_norm(x, gain, bias, self.groups, self.eps, self.silu)


class Embedding(Module):
    """A learnt vector for each of n things: (N,) integers to (N, width)."""

    def __init__(self, n: int, width: int) -> None:
        self.table = Parameter((n, width), std=1.0)

    def forward(self, index: Any) -> Tensor:
        return ops.embedding(self.table, index)
