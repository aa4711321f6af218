"""IP-Adapter: a reference image determines style and colours, which are hard to say in words.

Idea: an image encoder turns the reference image into a few vectors (tokens).  Every cross-attention layer of the
denoiser attends to these tokens as well, with keys and values of their own, and adds the result to its attention to the
caption.  The denoiser is not changed; only the adapter is trained.  The weights of the new values start at zero, so
that the adapter adds nothing at first.
Source: Ye et al. 2023, arXiv:2308.06721 (IP-Adapter), section 3.2: decoupled cross-attention.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

from minidiff import ops
from minidiff.autograd import Tensor
from minidiff.nn.conditioning import Conditioning
from minidiff.nn.cross_attention import CrossAttention
from minidiff.nn.layers import Conv2d, Linear
from minidiff.nn.module import Module
from minidiff.nn.unet import UNet

NUM_TOKENS = 4  # vectors per image
CHANNELS = (32, 64, 128)  # of the convolutions


class ImageEncoder(Module):
    """From images (N, H, W, C) in [-1, 1] to tokens (N, NUM_TOKENS, width).

    Each convolution halves height and width.  The mean over all positions follows, so that the tokens describe what an
    image looks like, not where things are.  No layer normalises, because that would remove the colours.
    """

    def __init__(self, channels: int, width: int) -> None:
        self.width = width
        self.layers: list[Module] = [Conv2d(i, o, stride=2) for i, o in pairwise((channels, *CHANNELS))]
        self.linear1 = Linear(CHANNELS[-1], 2 * CHANNELS[-1])
        self.linear2 = Linear(2 * CHANNELS[-1], NUM_TOKENS * width)

    def forward(self, image: Tensor) -> Tensor:
        h = image
        for layer in self.layers:
            h = ops.silu(layer(h))
        h = self.linear2(ops.silu(self.linear1(h.mean(axis=(1, 2)))))
        return ops.reshape(h, (len(image.data), NUM_TOKENS, self.width))


class ImageCrossAttention(Module):
    """The attention to the image that is added to one cross-attention layer, with the queries of that layer."""

    def __init__(self, width: int, cross_attention: CrossAttention) -> None:
        channels = cross_attention.q.w.planned_shape[1]
        self.heads = cross_attention.heads
        self.k = Linear(width, channels)
        self.v = Linear(width, channels, zero=True)

    def forward(self, q: Tensor, tokens: Tensor) -> Tensor:
        return ops.attention(q, self.k(tokens), self.v(tokens), self.heads)


class IPAdapter(Module):
    """An image encoder, and an `ImageCrossAttention` for each cross-attention layer of the denoiser.

    unet: a denoiser that reads captions.  channels: of the reference images, by default those of the denoiser.
    """

    def __init__(self, unet: UNet, channels: int | None = None) -> None:
        config = unet.config
        self.encoder = ImageEncoder(config.channels if channels is None else channels, config.text_width)
        self.cross_attentions: list[Module] = [
            ImageCrossAttention(config.text_width, layer) for layer in cross_attention_layers(unet)
        ]

    def forward(self, unet: UNet, cond: Conditioning, image: Tensor, scale: Any) -> Conditioning:
        """Return `cond` with the attention to reference images added.

        image: (N, H, W, C) in [-1, 1].  scale: (N, 1, 1), the weight of the attention to each image; 0 for none.
        """
        tokens = self.encoder(image)

        def attend_with(layer: Module) -> Callable[[Tensor], Tensor]:
            return lambda q: layer(q, tokens) * scale

        layers = zip(cross_attention_layers(unet), self.cross_attentions)
        image_attention: dict[Module, Callable[[Tensor], Tensor]] = {
            original: attend_with(layer) for original, layer in layers
        }
        return replace(cond, image_attention=image_attention)


def cross_attention_layers(unet: UNet) -> list[CrossAttention]:
    """Return the cross-attention layers of a denoiser in the order of its modules."""
    return [module for _, module in unet.named_modules() if isinstance(module, CrossAttention)]
