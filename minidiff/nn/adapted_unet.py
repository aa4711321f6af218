"""All that steers the denoiser on one page: what a prompt, a drawing and a reference image add to it.

    told = unet.told(t, captions)                    the prompt: words to look at, and a sentence added to the time
    told = adapter(unet, told, reference, scale)     the reference: more to look at
    seen = encode(unet, x, told)                    what the denoiser sees in the noisy image
    seen = seen + scale control(x, drawing, told)    the drawing: what it sees with the drawing in mind
    output = decode(unet, seen, told)

Last file of conditioning/.  Leaves out guidance, which asks all of this twice: diffusion/guidance.py.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from minidiff import backend, ops
from minidiff.autograd import Tensor
from minidiff.nn.controlnet import ControlNet, controlled
from minidiff.nn.ip_adapter import IPAdapter
from minidiff.nn.unet import UNet, decode, encode, space_to_depth


@dataclass(frozen=True, eq=False)
class ControlInput:
    """A ControlNet and what it is shown: drawings (M, H, W, c) float32 in [0, 1].  scale: how much it may say."""

    net: ControlNet
    drawing: np.ndarray
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class ReferenceInput:
    """An adapter and what it is shown: images (M, H, W, C) float32 in [-1, 1].  scale: (M,) float32, 0 for none."""

    net: IPAdapter
    image: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True, eq=False)
class AdaptedUNet:
    """A denoiser and what is added to it; called like the denoiser itself, on the first N of the M images shown."""

    unet: UNet
    drawn: ControlInput | None = None
    referred: ReferenceInput | None = None

    @property
    def config(self) -> Any:
        return self.unet.config

    def __call__(self, x: Any, t: Any, labels: Any | None = None) -> Tensor:
        unet, x, shown = self.unet, ops.as_tensor(x), slice(len(t))
        told = plain = unet.told(t, labels)
        if self.referred is not None:
            r = self.referred
            image, scale = (Tensor(backend.to_device(array[shown])) for array in (r.image, r.scale))
            told = r.net(unet, told, image, ops.reshape(scale, (-1, 1, 1)))
        seen = encode(unet.down, unet.middle, unet.conv_in(space_to_depth(x, unet.config.patch)), told)
        if self.drawn is not None:
            d = self.drawn
            seen = controlled(seen, d.net(x, Tensor(backend.to_device(d.drawing[shown])), plain), d.scale)
        return unet.project_out(decode(unet.up, seen, told))
