"""ControlNet: a drawing says where things are.

Idea: the encoder of a trained denoiser knows what parts images have.  A copy of it is shown the drawing beside the
noisy image, and what the copy sees is added to what the original sees, before the way up begins.  The original stays
as it is; the copy learns what to add.  Between both stand convolutions that begin at zero, so that the first step of
training starts from the trained denoiser itself, to the bit.
After words.py; steer.py adds it all up.  Leaves out where drawings come from: data/maps.py.
Source: Zhang et al. 2023, arXiv:2302.05543, section 3.
"""

from typing import Any

from minidiff import ops
from minidiff.autograd import Tensor
from minidiff.nn.attention import Conditioning
from minidiff.nn.layers import Conv2d
from minidiff.nn.module import Module
from minidiff.nn.unet import UNet, encode, space_to_depth


class ControlNet(Module):
    """Noisy images and drawings in; what is to be added to all that the denoiser sees on its way down out.

    unet: the denoiser that it steers, whose weights it begins with (see `copy`).
    channels: of the drawings.
    """

    def __init__(self, unet: UNet, channels: int) -> None:
        config = unet.config
        twin = UNet(config)
        self.patch, self.channels = config.patch, channels
        self.conv_in, self.down, self.middle = twin.conv_in, twin.down, twin.middle
        self.hint_in = Conv2d(channels * config.patch**2, config.model_channels)
        self.hint_out = Conv2d(config.model_channels, config.model_channels, zero=True)
        self.zero_convs: list[Module] = [Conv2d(width, width, kernel=1, zero=True) for width in unet.seen_widths]

    def copy(self, unet: UNet) -> None:
        """Begin with the weights of the denoiser; call it after `initialize`."""
        theirs = unet.named_parameters()
        for name, parameter in self.named_parameters().items():
            if name in theirs:
                parameter.data = theirs[name].data.copy()

    def forward(self, x: Tensor, drawing: Tensor, told: Conditioning) -> list[Tensor]:
        """Return what is to be added, one for each part that `encode` returns.

        x: (N, H, W, C).  drawing: (N, H, W, channels) in [0, 1].  told: what the denoiser is told.
        """
        drawn = self.hint_out(ops.silu(self.hint_in(space_to_depth(drawing, self.patch))))
        seen = encode(self.down, self.middle, self.conv_in(space_to_depth(x, self.patch)) + drawn, told)
        return [zero(h) for zero, h in zip(self.zero_convs, seen)]


def controlled(seen: list[Tensor], added: list[Tensor], scale: Any = 1.0) -> list[Tensor]:
    """Return what the denoiser sees with what a ControlNet adds."""
    return [h + more * scale for h, more in zip(seen, added)]
