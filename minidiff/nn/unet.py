"""The denoiser: a U-Net from a noisy image to a prediction about it, such as the noise in it.

Idea: an encoder makes the image smaller level by level and gives each position more channels, so that a position
describes a larger part of the image.  A decoder goes back to full size.  Each stage of the decoder also receives an
output of the encoder of the same size (a skip connection), so that no detail is lost on the way.

From top to bottom: the residual block, the stage made of it, the network, and the two functions `encode` and `decode`
that run it.  `space_to_depth` makes the network cheaper: it turns pixels into channels.
Leaves out how a class or a caption is encoded (denoiser.py), how noise is added, and which timesteps are used
(diffusion/).
Source: Ronneberger et al. 2015, arXiv:1505.04597 (the U); Ho et al. 2020, arXiv:2006.11239, appendix B (for diffusion).
"""

from typing import Any

from minidiff import ops
from minidiff.autograd import Tensor
from minidiff.nn.attention import SelfAttention
from minidiff.nn.conditioning import Conditioning
from minidiff.nn.cross_attention import CrossAttention
from minidiff.nn.denoiser import Denoiser
from minidiff.nn.embedding import TimeEmbedding
from minidiff.nn.layers import Conv2d, GroupNorm, Linear
from minidiff.nn.module import Module
from minidiff.nn.unet_config import UNetConfig


class ResidualBlock(Module):
    """x + f(x), where f normalises, applies SiLU and convolves, twice: (N, H, W, in) to (N, H, W, out).

    The embedding of timestep and condition, (N, embedding_width), enters between the two convolutions: as scale and
    shift of the second normalisation (arXiv:2105.05233, eq. 3), or added to the features (arXiv:2006.11239).
    With embedding_width 0 there is none, as in the autoencoder.
    Where `in` and `out` differ, a 1×1 convolution brings x to `out` channels before the sum.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding_width: int,
        groups: int,
        time: str = "scale_shift",
        eps: float = 1e-5,
    ) -> None:
        self.norm1 = GroupNorm(groups, in_channels, silu=True, eps=eps)
        self.conv1 = Conv2d(in_channels, out_channels)
        self.shift = Linear(embedding_width, out_channels) if embedding_width else None
        self.scale = Linear(embedding_width, out_channels) if embedding_width and time == "scale_shift" else None
        self.norm2 = GroupNorm(groups, out_channels, silu=True, eps=eps)
        self.conv2 = Conv2d(out_channels, out_channels, zero=True)
        self.shortcut = Conv2d(in_channels, out_channels, kernel=1) if in_channels != out_channels else None

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        shift = None if self.shift is None else self.shift(emb)  # (N, out)
        shortcut = x if self.shortcut is None else self.shortcut(x)
        if self.scale is None:
            h = self.norm1.then(self.conv1, x, bias=shift)
            return self.norm2.then(self.conv2, h, add=shortcut)
        h = self.norm1.then(self.conv1, x)
        return self.norm2.then(self.conv2, h, self.scale(emb), shift, add=shortcut)


class Stage(Module):
    """A residual block, then self-attention and cross-attention where the level has them."""

    def __init__(
        self,
        block: ResidualBlock,
        attention: SelfAttention | None = None,
        cross_attention: CrossAttention | None = None,
    ) -> None:
        self.block, self.attention, self.cross_attention = block, attention, cross_attention

    def forward(self, x: Tensor, emb: Tensor, cond: Conditioning) -> Tensor:
        x = self.block(x, emb)
        x = x if self.attention is None else self.attention(x)
        return x if self.cross_attention is None else self.cross_attention(x, cond)


class UNet(Denoiser):
    """From noisy images x_t, timesteps t and a condition to the prediction that the network is trained for.

    forward(x, t, cond): x (N, H, W, C), array or Tensor; t (N,) float32; cond from `condition`, None for an
    unconditional prediction.  Returns (N, H, W, C).
    """

    config: UNetConfig

    def __init__(self, config: UNetConfig) -> None:
        self.config = config
        self.embedding = TimeEmbedding(config.model_channels, config.classes)
        if config.vocab_size:
            self._add_text_encoder()
        levels = range(len(config.channel_mult))
        patch_channels = config.channels * config.patch**2

        self.conv_in = Conv2d(patch_channels, config.model_channels)
        channels = config.model_channels
        skips = [channels]  # the channels of each output of the encoder, which the decoder takes from the end
        self.down: list[Module] = []
        for level in levels:
            for _ in range(config.num_res_blocks):
                self.down.append(self._stage(channels, level))
                channels = config.level_channels[level]
                skips.append(channels)
            if level != levels[-1]:
                self.down.append(Conv2d(channels, channels, stride=2))
                skips.append(channels)

        self.middle: list[Module] = [
            self._stage(channels, levels[-1]),
            self._stage(channels, levels[-1], attention=False),
        ]
        self.feature_channels = (*skips, channels)  # of what `encode` returns

        self.up: list[Module] = []
        for level in reversed(levels):
            for _ in range(config.num_res_blocks + 1):
                self.up.append(self._stage(channels + skips.pop(), level))
                channels = config.level_channels[level]
            if level:
                self.up.append(Conv2d(channels, channels, upsample=True))

        self.norm = GroupNorm(config.groups, channels, silu=True)
        self.conv_out = Conv2d(channels, patch_channels, zero=True)

    def _stage(self, in_channels: int, level: int, attention: bool = True) -> Stage:
        """A stage of a level; attention: False for no self-attention, even if the level has it."""
        config = self.config
        channels, height = config.level_channels[level], config.level_heights[level]
        block = ResidualBlock(in_channels, channels, self.embedding.width, config.groups, config.time)
        stage = Stage(block)
        if attention and height in config.attention_at:
            stage.attention = SelfAttention(channels, config.heads, config.groups)
        if config.vocab_size and height in config.cross_attention_at:
            stage.cross_attention = CrossAttention(channels, config.text_width, config.heads, config.groups)
        return stage

    def forward(self, x: Any, t: Any, cond: Conditioning | None = None) -> Tensor:
        expected = (self.config.height, self.config.width, self.config.channels)
        x = ops.as_tensor(x)
        if x.shape[1:] != expected:
            raise ValueError(f"U-Net: expected images of {expected} (height, width, channels), got {x.shape[1:]}")
        cond = self.condition(len(t)) if cond is None else cond
        emb = self.embedding(t, cond.embedding)
        h = self.conv_in(space_to_depth(x, self.config.patch))
        features = encode(self.down, self.middle, h, emb, cond)
        if cond.control is not None:  # chapter 11
            features = [h + residual for h, residual in zip(features, cond.control(x, emb))]
        h = decode(self.up, features, emb, cond)
        return depth_to_space(self.norm.then(self.conv_out, h), self.config.patch)


def encode(down: list[Module], middle: list[Module], h: Tensor, emb: Tensor, cond: Conditioning) -> list[Tensor]:
    """Run the encoder and the middle.

    h: (N, H, W, C).  emb: (N, E), the embedding of the timesteps.
    Returns h, then the output of every layer of the encoder, and last the output of the middle.
    """
    features = [h]
    for layer in down:
        h = layer(h, emb, cond) if isinstance(layer, Stage) else layer(h)
        features.append(h)
    for layer in middle:
        h = layer(h, emb, cond)
    return [*features, h]


def decode(up: list[Module], features: list[Tensor], emb: Tensor, cond: Conditioning) -> Tensor:
    """Run the decoder.

    features: what `encode` returned: the last is the input, the others are the skips, used from the end.
    Returns (N, H, W, C').
    """
    *skips, h = features
    for layer in up:
        h = layer(ops.concat(h, skips.pop()), emb, cond) if isinstance(layer, Stage) else layer(h)
    return h


def space_to_depth(x: Tensor, p: int) -> Tensor:
    """Move the pixels of each p × p patch into channels: (N, H, W, C) to (N, H/p, W/p, p p C).

    Every level then computes 1/p² of the positions, which makes the network about p² times cheaper.
    Source: Shi et al. 2016, arXiv:1609.05158, the inverse of eq. 4; for diffusion Hoogeboom et al. 2023,
    arXiv:2301.11093, section 3.3.
    """
    if p == 1:
        return x
    n, h, w, c = x.shape
    patches = ops.transpose(ops.reshape(x, (n, h // p, p, w // p, p, c)), (0, 1, 3, 2, 4, 5))
    return ops.reshape(patches, (n, h // p, w // p, p * p * c))


def depth_to_space(x: Tensor, p: int) -> Tensor:
    """Move the p p C channels of each position back into p × p pixels; the inverse of `space_to_depth`."""
    if p == 1:
        return x
    n, h, w, c = x.shape
    patches = ops.transpose(ops.reshape(x, (n, h, w, p, p, c // p**2)), (0, 1, 3, 2, 4, 5))
    return ops.reshape(patches, (n, h * p, w * p, c // p**2))
