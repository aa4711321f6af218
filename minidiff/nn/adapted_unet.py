"""A denoiser with adapters: it combines a prompt, a reference image and a drawing into one condition.

    cond = unet.condition(n, captions)                    prompt: tokens for cross-attention, embedding of the caption
    cond = ip_adapter(unet, cond, image, scale)           reference image: a second cross-attention, added
    cond.control = (x, emb) -> scale controlnet(x, ...)   drawing: residuals for the features of the encoder

Prompt, image and drawing are encoded once, and the denoiser runs with the same condition at every timestep.  The
residuals depend on x and on the timestep.  So `control` is a function, and the ControlNet runs whenever the denoiser
runs.
Leaves out guidance, which combines a conditional and an unconditional prediction: diffusion/guidance.py.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minidiff import backend, ops
from minidiff.autograd import Tensor
from minidiff.nn.conditioning import Conditioning
from minidiff.nn.controlnet import ControlNet
from minidiff.nn.ip_adapter import IPAdapter
from minidiff.nn.unet import UNet


@dataclass(frozen=True, eq=False)
class ControlInput:
    """A ControlNet and its input.

    drawing: (M, H, W, c) float32 in [0, 1].  scale: the weight of the residuals.
    """

    net: ControlNet
    drawing: np.ndarray
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class ReferenceInput:
    """An IP-Adapter and its input.

    image: (M, H, W, C) float32 in [-1, 1].  scale: the weight of the attention to the images.
    """

    net: IPAdapter
    image: np.ndarray
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class AdaptedUNet:
    """A denoiser together with the inputs of its adapters; called like the denoiser, for any number of images."""

    unet: UNet
    control: ControlInput | None = None
    reference: ReferenceInput | None = None

    @property
    def config(self) -> Any:
        return self.unet.config

    def __call__(self, x: Any, t: Any, cond: Conditioning) -> Tensor:
        return self.unet(x, t, cond)

    def condition(self, n: int, labels: Any | None = None, with_cond: Any | None = None) -> Conditioning:
        """As `Denoiser.condition`, with the inputs of the adapters; image i receives input i mod M.

        with_cond: (n,) bool, which images receive the reference image; None for all.  All receive the drawing.
        """
        cond = text_only = self.unet.condition(n, labels)
        if self.reference is not None:
            scale = backend.current().xp.full(n, self.reference.scale, np.float32)
            scale = scale if with_cond is None else scale * backend.to_device(with_cond)
            weights = ops.reshape(Tensor(scale.astype(np.float32)), (-1, 1, 1))
            cond = self.reference.net(self.unet, cond, _rows(self.reference.image, n), weights)
        if self.control is not None:
            net, weight = self.control.net, self.control.scale
            hint = net.hint(_rows(self.control.drawing, n))
            residuals = lambda x, emb: [residual * weight for residual in net(x, hint, emb, text_only)]
            cond = replace(cond, control=residuals)
        return cond


def _rows(array: np.ndarray, n: int) -> Tensor:
    """Return n rows on the device: those of the array, repeated in order."""
    return Tensor(backend.to_device(array if len(array) == n else array[np.arange(n) % len(array)]))
