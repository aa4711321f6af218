"""A reference image: "in this style", "in these colours", where words fail.

Idea: a small network describes the image in a few vectors, as if in words of its own.  Wherever the denoiser looks at
the words of the prompt, it looks at these as well, with keys and values of their own, and both answers are added up.
The denoiser itself stays as it is.  The new values begin at zero, so that nothing is added at first.
After control.py; steer.py adds it all up.
Source: Ye et al. 2023, arXiv:2308.06721 (IP-Adapter), section 3.2: decoupled cross-attention.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

from minidiff import ops
from minidiff.autograd import Tensor
from minidiff.nn.attention import Conditioning, CrossAttention
from minidiff.nn.layers import Conv2d, Linear
from minidiff.nn.module import Module
from minidiff.nn.unet import UNet

TOKENS = 4
WIDTHS = (32, 64, 128)


class ImageEncoder(Module):
    """Images (N, H, W, C) in [-1, 1] to a few vectors each: (N, TOKENS, width).

    Convolutions that halve the image, and the mean over what is left: it says what an image is like, not where.
    Nothing is normalised, since that would take out the very colours.
    """

    def __init__(self, channels: int, width: int) -> None:
        self.width = width
        self.layers: list[Module] = [Conv2d(i, o, stride=2) for i, o in pairwise((channels, *WIDTHS))]
        self.linear1 = Linear(WIDTHS[-1], 2 * WIDTHS[-1])
        self.linear2 = Linear(2 * WIDTHS[-1], TOKENS * width)

    def forward(self, image: Tensor) -> Tensor:
        h = image
        for layer in self.layers:
            h = ops.silu(layer(h))
        h = self.linear2(ops.silu(self.linear1(h.mean(axis=(1, 2)))))
        return ops.reshape(h, (len(image.data), TOKENS, self.width))


class ImageCrossAttention(Module):
    """What one cross-attention adds: the image's answer to the questions that the words are asked."""

    def __init__(self, width: int, cross: CrossAttention) -> None:
        channels = cross.q.w.planned_shape[1]
        self.heads = cross.heads
        self.k = Linear(width, channels)
        self.v = Linear(width, channels, zero=True)

    def forward(self, q: Tensor, image: Tensor) -> Tensor:
        return ops.attention(q, self.k(image), self.v(image), self.heads)


class IPAdapter(Module):
    """An image encoder, and a look for each cross-attention of the denoiser `unet`, which must know words."""

    def __init__(self, unet: UNet) -> None:
        config = unet.config
        self.encoder = ImageEncoder(config.channels, config.text_width)
        self.cross_attentions: list[Module] = [ImageCrossAttention(config.text_width, cross) for cross in crosses(unet)]

    def forward(self, unet: UNet, cond: Conditioning, image: Tensor, scale: Any) -> Conditioning:
        """Return the condition with attention to the images (N, H, W, C) in [-1, 1] added.

        scale: (N, 1, 1), the weight of what is added; 0 adds nothing.
        """
        tokens = self.encoder(image)

        def attend_with(layer: Module) -> Callable[[Tensor], Tensor]:
            return lambda q: layer(q, tokens) * scale

        added = {cross: attend_with(layer) for cross, layer in zip(crosses(unet), self.cross_attentions)}
        return replace(cond, image_attention=added)


def crosses(unet: UNet) -> list[CrossAttention]:
    """Return the cross-attentions of a denoiser in the order in which they were written down."""
    return [module for _, module in unet.named_modules() if isinstance(module, CrossAttention)]
