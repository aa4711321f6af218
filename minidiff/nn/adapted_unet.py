"""A denoiser with adapters: a prompt, a drawing and a reference image become one condition.

    cond = unet.condition(n, captions)                    the prompt: tokens to attend to, a caption's embedding
    cond = ip_adapter(unet, cond, image, scale)           the reference: more to attend to
    cond.control = (x, emb) -> scale controlnet(x, ...)   the drawing: residuals for the encoder's features

All three are encoded once; the denoiser then runs with the same condition at every timestep.
Leaves out guidance, which asks for a conditional and an unconditional prediction: diffusion/guidance.py.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minidiff import backend, ops
from minidiff.autograd import Tensor
from minidiff.nn.attention import Conditioning
from minidiff.nn.controlnet import ControlNet
from minidiff.nn.ip_adapter import IPAdapter
from minidiff.nn.unet import UNet


@dataclass(frozen=True, eq=False)
class ControlInput:
    """A ControlNet and its drawings (M, H, W, c) float32 in [0, 1].  scale: weight of the residuals."""

    net: ControlNet
    drawing: np.ndarray
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class ReferenceInput:
    """An IP-Adapter and its images (M, H, W, C) float32 in [-1, 1].  scale: weight of the attention to them."""

    net: IPAdapter
    image: np.ndarray
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class AdaptedUNet:
    """A denoiser with inputs for its adapters; used as the denoiser itself, for any multiple of M images."""

    unet: UNet
    control: ControlInput | None = None
    reference: ReferenceInput | None = None

    @property
    def config(self) -> Any:
        return self.unet.config

    def __call__(self, x: Any, t: Any, cond: Conditioning) -> Tensor:
        return self.unet(x, t, cond)

    def condition(self, n: int, labels: Any | None = None, conditional: Any | None = None) -> Conditioning:
        """As `UNet.condition`, with the adapters' inputs, image i with input i mod M.

        conditional: (n,) bool, where the reference is shown; None for everywhere.  Drawings are shown in any case.
        """
        cond = plain = self.unet.condition(n, labels)
        if self.reference is not None:
            scale = np.full(n, self.reference.scale, np.float32)
            scale = scale if conditional is None else scale * conditional
            shown = ops.reshape(Tensor(backend.to_device(scale.astype(np.float32))), (-1, 1, 1))
            cond = self.reference.net(self.unet, cond, _rows(self.reference.image, n), shown)
        if self.control is not None:
            net, weight = self.control.net, self.control.scale
            hint = net.hint(_rows(self.control.drawing, n))
            residuals = lambda x, emb: [residual * weight for residual in net(x, hint, emb, plain)]
            cond = replace(cond, control=residuals)
        return cond


def _rows(array: np.ndarray, n: int) -> Tensor:
    """Return n rows, the array's over and over, on the device."""
    return Tensor(backend.to_device(array[np.arange(n) % len(array)]))
