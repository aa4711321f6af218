"""ControlNet: a drawing determines where things are in the image.

Idea: a copy of the denoiser's encoder receives a drawing, such as outlines, together with the noisy image.  Its outputs
are residuals, which are added to the outputs of the original encoder before the decoder runs.  The original network is
not changed; only the copy is trained.  Each residual passes through a convolution that starts at zero, so that training
starts from exactly the trained denoiser.
Leaves out where drawings come from: data/maps.py.
Source: Zhang et al. 2023, arXiv:2302.05543, section 3.
"""

from minidiff import ops
from minidiff.autograd import Tensor
from minidiff.nn.conditioning import Conditioning
from minidiff.nn.layers import Conv2d
from minidiff.nn.module import Module
from minidiff.nn.unet import UNet, encode, space_to_depth


class ControlNet(Module):
    """From noisy images and drawings to residuals for the features of the denoiser's encoder.

    unet: the denoiser; its weights are the initial weights (see `copy_weights`).  channels: of the drawings.
    factor: how many times higher and wider the drawings are than what the denoiser denoises; latents are smaller.
    """

    def __init__(self, unet: UNet, channels: int, factor: int = 1) -> None:
        config = unet.config
        copy = UNet(config)
        self.patch, self.hint_patch, self.channels = config.patch, config.patch * factor, channels
        self.conv_in, self.down, self.middle = copy.conv_in, copy.down, copy.middle
        self.hint_in = Conv2d(channels * self.hint_patch**2, config.model_channels)
        self.hint_out = Conv2d(config.model_channels, config.model_channels, zero=True)
        self.zero_convs: list[Module] = [Conv2d(c, c, kernel=1, zero=True) for c in unet.feature_channels]

    def copy_weights(self, unet: UNet) -> None:
        """Copy the weights of the denoiser's encoder; call it after `initialize`."""
        originals = unet.named_parameters()
        for name, parameter in self.named_parameters().items():
            if name in originals:
                parameter.data = originals[name].data.copy()

    def hint(self, drawing: Tensor) -> Tensor:
        """Encode drawings (N, H, W, channels) in [0, 1] as features of level 0; they are the same at all timesteps."""
        return self.hint_out(ops.silu(self.hint_in(space_to_depth(drawing, self.hint_patch))))

    def forward(self, x: Tensor, hint: Tensor, emb: Tensor, cond: Conditioning) -> list[Tensor]:
        """Return one residual for each of the features that `unet.encode` returns.

        x: (N, H, W, C).  hint: from `hint`.  emb, cond: those of the denoiser.
        """
        h = self.conv_in(space_to_depth(x, self.patch)) + hint
        return [zero(h) for zero, h in zip(self.zero_convs, encode(self.down, self.middle, h, emb, cond))]
