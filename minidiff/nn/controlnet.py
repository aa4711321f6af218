"""ControlNet: a drawing says where things are.

Idea: the encoder of a trained denoiser knows what parts images have.  A copy of it is shown the drawing beside the
noisy image, and what the copy sees is added to what the original sees, before the way up begins.  The original stays
as it is; the copy learns what to add.  Between both stand convolutions that begin at zero, so that the first step of
training starts from the trained denoiser itself, to the bit.
After words.py; steer.py adds it all up.  Leaves out where drawings come from: data/maps.py.
Source: Zhang et al. 2023, arXiv:2302.05543, section 3.
"""

from minidiff import ops
from minidiff.autograd import Tensor
from minidiff.nn.attention import Conditioning
from minidiff.nn.layers import Conv2d
from minidiff.nn.module import Module
from minidiff.nn.unet import UNet, encode, space_to_depth


class ControlNet(Module):
    """Noisy images and drawings in; residuals for the features of the denoiser's encoder out.

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
        self.zero_convs: list[Module] = [Conv2d(width, width, kernel=1, zero=True) for width in unet.feature_channels]

    def copy(self, unet: UNet) -> None:
        """Begin with the weights of the denoiser; call it after `initialize`."""
        theirs = unet.named_parameters()
        for name, parameter in self.named_parameters().items():
            if name in theirs:
                parameter.data = theirs[name].data.copy()

    def hint(self, drawing: Tensor) -> Tensor:
        """Return drawings (N, H, W, channels) in [0, 1] as features of level 0, the same at all timesteps."""
        return self.hint_out(ops.silu(self.hint_in(space_to_depth(drawing, self.patch))))

    def forward(self, x: Tensor, hint: Tensor, emb: Tensor, cond: Conditioning) -> list[Tensor]:
        """Return the residuals, one for each of the features that `unet.encode` returns.

        x: (N, H, W, C).  emb, cond: those of the denoiser.
        """
        h = self.conv_in(space_to_depth(x, self.patch)) + hint
        return [zero(h) for zero, h in zip(self.zero_convs, encode(self.down, self.middle, h, emb, cond))]
