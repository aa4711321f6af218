"""The denoiser: a U-Net that looks at a noisy image and says what is on it.

Idea: going down, the image gets smaller and its description richer; going up, the description is painted back at full
size, and at every size what was seen on the way down is laid beside it (the skips), so that no detail is lost.
Last of the network's files.
Source: Ronneberger et al. 2015, arXiv:1505.04597 (the U); Ho et al. 2020, arXiv:2006.11239, appendix B (for noise).
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from minidiff import ops
from minidiff.autograd import Tensor
from minidiff.errors import MinidiffError
from minidiff.limits import check_limits
from minidiff.nn.attention import Conditioning, CrossAttention, SelfAttention
from minidiff.nn.embedding import TimeEmbedding
from minidiff.nn.layers import Conv2d, GroupNorm, Linear
from minidiff.nn.module import Module
from minidiff.nn.text import TextEncoder
from minidiff.nn.tokenizer import PADDING

MAX_LEVELS = 13  # the last of them sees one pixel of 4,096


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a U-Net.

    height, width, channels: of the images.  patch: side of the square patches whose pixels become the channels of
    level 0.  model_channels: features at level 0; level i has channel_mult[i] times as many, at half the height and
    width of level i - 1.  num_res_blocks: residual blocks per level.  attention_at: heights of the levels that have
    self-attention.  time: how the time embedding enters a block.  classes: number of classes, 0 for none.
    vocab_size: number of tokens, 0 for a network without captions.  max_tokens: length of a caption.  text_width and
    text_layers: of the text encoder.  cross_attention_at: heights of the levels that attend to the tokens.
    """

    height: int = 32
    width: int = 32
    channels: int = 3
    patch: int = 1
    model_channels: int = 32
    channel_mult: tuple[int, ...] = (1, 2, 4)
    num_res_blocks: int = 1
    attention_at: tuple[int, ...] = (8,)
    heads: int = 4
    groups: int = 8
    time: Literal["scale_shift", "add"] = "scale_shift"
    classes: int = 0
    vocab_size: int = 0
    max_tokens: int = 0
    text_width: int = 128
    text_layers: int = 0
    cross_attention_at: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        of_levels = ("attention_at", "cross_attention_at")  # compared with the levels there are, below
        check_limits({name: value for name, value in vars(self).items() if name not in of_levels}, "U-Net: {}")
        if self.vocab_size and not self.max_tokens:
            raise MinidiffError("U-Net: captions must be 1 word long or more, got max_tokens 0")
        if self.model_channels < 4 or self.model_channels % 2:
            raise MinidiffError(f"U-Net: model_channels must be even and at least 4, got {self.model_channels}")
        if not 1 <= len(self.channel_mult) <= MAX_LEVELS:
            raise MinidiffError(f"U-Net: expected 1 to {MAX_LEVELS} channel_mult, got {len(self.channel_mult)}")
        if self.vocab_size and self.classes:
            raise MinidiffError(f"U-Net: either words or classes, got {self.vocab_size} and {self.classes}")
        if self.time not in ("scale_shift", "add"):
            raise MinidiffError(f"U-Net: time must be scale_shift or add, got {self.time!r}")
        if self.height % self.factor or self.width % self.factor:
            raise MinidiffError(
                f"U-Net: {len(self.channel_mult)} levels{f' of {self.patch}×{self.patch} patches' * (self.patch > 1)} "
                f"need a height and a width that {self.factor} divides "
                f"({self.factor}, {2 * self.factor}, {3 * self.factor}, …), got {self.height}×{self.width}"
            )
        heights = self.heights
        for name in of_levels:
            for height in getattr(self, name):
                if height not in heights:
                    raise MinidiffError(f"U-Net: {name}: no level has height {height}; the heights are {heights}")
        for height, multiplier in zip(heights, self.channel_mult):
            if height in self.attention_at + self.cross_attention_at and self.model_channels * multiplier % self.heads:
                raise MinidiffError(
                    f"U-Net: {self.heads} heads do not divide the {self.model_channels * multiplier} channels"
                )
        if self.vocab_size and self.text_width % self.heads:
            raise MinidiffError(f"U-Net: {self.heads} heads do not divide the {self.text_width} channels of the text")

    @property
    def factor(self) -> int:
        """What must divide height and width: each level but the last halves them."""
        return self.patch << (len(self.channel_mult) - 1)

    @property
    def null_cond(self) -> int:
        """What stands for "none": one past the last class or, in captions, the number of no word."""
        return PADDING if self.vocab_size else self.classes

    @property
    def heights(self) -> list[int]:
        """The height of each level."""
        return [self.height // self.patch >> level for level in range(len(self.channel_mult))]


class ResidualBlock(Module):
    """Normalise, SiLU, convolve, twice, and add the input: (N, H, W, in) to (N, H, W, out).

    The embedding of time and class enters between the two: as scale and shift of the second normalisation
    (arXiv:2105.05233, eq. 3), or added to the features (arXiv:2006.11239).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding: int,
        groups: int,
        time: str = "scale_shift",
        eps: float = 1e-5,
    ) -> None:
        self.norm1 = GroupNorm(groups, in_channels, silu=True, eps=eps)
        self.conv1 = Conv2d(in_channels, out_channels)
        self.shift = Linear(embedding, out_channels)
        self.scale = Linear(embedding, out_channels) if time == "scale_shift" else None
        self.norm2 = GroupNorm(groups, out_channels, silu=True, eps=eps)
        self.conv2 = Conv2d(out_channels, out_channels, zero=True)
        self.shortcut = Conv2d(in_channels, out_channels, kernel=1) if in_channels != out_channels else None

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        shift = self.shift(emb)  # (N, out)
        shortcut = x if self.shortcut is None else self.shortcut(x)
        if self.scale is None:
            h = self.norm1.then(self.conv1, x, bias=shift)
            return self.norm2.then(self.conv2, h, add=shortcut)
        h = self.norm1.then(self.conv1, x)
        return self.norm2.then(self.conv2, h, self.scale(emb), shift, add=shortcut)


class Stage(Module):
    """A residual block, then self-attention and cross-attention where the level has them."""

    def __init__(
        self, block: ResidualBlock, attention: SelfAttention | None, cross: CrossAttention | None = None
    ) -> None:
        self.block, self.attention, self.cross = block, attention, cross

    def forward(self, x: Tensor, emb: Tensor, cond: Conditioning) -> Tensor:
        x = self.block(x, emb)
        x = x if self.attention is None else self.attention(x)
        return x if self.cross is None else self.cross(x, cond)


class UNet(Module):
    """Noisy images x_t, timesteps t and a condition in; the prediction that the network was trained for out.

    forward(x, t, cond): x (N, H, W, C), array or Tensor; t (N,) float32; cond from `condition`, None for an
    unconditional prediction.  Returns (N, H, W, C).
    """

    def __init__(self, config: UNetConfig) -> None:
        self.config = config
        self.embedding = TimeEmbedding(config.model_channels, config.classes)
        if config.vocab_size:
            self.text = TextEncoder(
                config.vocab_size, config.max_tokens, config.text_width, config.text_layers, config.heads
            )
            self.text_projection = Linear(config.text_width, self.embedding.width)
        widths = [config.model_channels * multiplier for multiplier in config.channel_mult]

        def stage(inputs: int, outputs: int, height: int, last: bool = False) -> Stage:
            block = ResidualBlock(inputs, outputs, self.embedding.width, config.groups, config.time)
            attends, looks = (
                height in config.attention_at and not last,
                height in config.cross_attention_at and config.vocab_size,
            )
            return Stage(
                block,
                SelfAttention(outputs, config.heads, config.groups) if attends else None,
                CrossAttention(outputs, config.text_width, config.heads, config.groups) if looks else None,
            )

        seen = config.channels * config.patch**2
        self.conv_in = Conv2d(seen, config.model_channels)
        skips, features = [config.model_channels], config.model_channels
        self.down: list[Module] = []
        for level, width in enumerate(widths):
            for _ in range(config.num_res_blocks):
                self.down.append(stage(features, width, config.heights[level]))
                features = width
                skips.append(features)
            if level < len(widths) - 1:
                self.down.append(Conv2d(features, features, stride=2))
                skips.append(features)

        smallest = config.heights[-1]
        self.middle: list[Module] = [
            stage(features, features, smallest),
            stage(features, features, smallest, last=True),
        ]
        self.feature_channels = (*skips, features)  # of what `encode` returns

        self.up: list[Module] = []
        for level in reversed(range(len(widths))):
            for _ in range(config.num_res_blocks + 1):
                self.up.append(stage(features + skips.pop(), widths[level], config.heights[level]))
                features = widths[level]
            if level:
                self.up.append(Conv2d(features, features, upsample=True))

        self.norm = GroupNorm(config.groups, features, silu=True)
        self.conv_out = Conv2d(features, seen, zero=True)

    def forward(self, x: Any, t: Any, cond: Conditioning | None = None) -> Tensor:
        expected = (self.config.height, self.config.width, self.config.channels)
        x = ops.as_tensor(x)
        if x.shape[1:] != expected:
            raise ValueError(f"U-Net: expected images of {expected} (height, width, channels), got {x.shape[1:]}")
        cond = self.condition(len(t)) if cond is None else cond
        emb = self.embedding(t, cond.embedding)
        features = encode(self.down, self.middle, self.conv_in(space_to_depth(x, self.config.patch)), emb, cond)
        if cond.control is not None:
            features = [h + residual for h, residual in zip(features, cond.control(x, emb))]
        h = decode(self.up, features, emb, cond)
        return depth_to_space(self.norm.then(self.conv_out, h), self.config.patch)

    def condition(self, n: int, labels: Any | None = None, conditional: Any | None = None) -> Conditioning:
        """Encode what n images are conditioned on, for `forward` at any timestep.

        labels: (n,) integers, classes, or (n, L), captions; `config.null_cond` in them stands for none, and None for
        none at all.  conditional: (n,) bool, where the condition is shown: an adapter's matter.
        """
        if not self.config.vocab_size:
            if not self.config.classes:
                return Conditioning()
            return Conditioning(
                self.embedding.class_embedding(np.full(n, self.config.classes) if labels is None else labels)
            )
        tokens, caption = self.text(np.full((n, self.config.max_tokens), PADDING) if labels is None else labels)
        return Conditioning(self.text_projection(caption), tokens)


def encode(down: list[Module], middle: list[Module], h: Tensor, emb: Tensor, cond: Conditioning) -> list[Tensor]:
    """Run the encoder and the middle; return h, the output of every layer of the encoder, and the middle's output last.

    h: (N, H, W, C).  emb: (N, E), of the timesteps.
    """
    features = [h]
    for layer in down:
        h = layer(h, emb, cond) if isinstance(layer, Stage) else layer(h)
        features.append(h)
    for layer in middle:
        h = layer(h, emb, cond)
    return [*features, h]


def decode(up: list[Module], features: list[Tensor], emb: Tensor, cond: Conditioning) -> Tensor:
    """Run the decoder on the last of what `encode` returned, with the others as skips; returns (N, H, W, C')."""
    *skips, h = features
    for layer in up:
        h = layer(ops.concat(h, skips.pop()), emb, cond) if isinstance(layer, Stage) else layer(h)
    return h


def space_to_depth(x: Tensor, p: int) -> Tensor:
    """Stack the p × p pixels of each patch into channels: (N, H, W, C) to (N, H/p, W/p, p p C).

    Every level then works on 1/p² of the places: the cheapest way to make a U-Net cheaper.
    Source: Shi et al. 2016, arXiv:1609.05158, the inverse of eq. 4; for diffusion Hoogeboom et al. 2023,
    arXiv:2301.11093, section 3.3.
    """
    if p == 1:
        return x
    n, h, w, c = x.shape
    patches = ops.transpose(ops.reshape(x, (n, h // p, p, w // p, p, c)), (0, 1, 3, 2, 4, 5))
    return ops.reshape(patches, (n, h // p, w // p, p * p * c))


def depth_to_space(x: Tensor, p: int) -> Tensor:
    """Lay each place's p p C channels out as p × p pixels again; the inverse of `space_to_depth`."""
    if p == 1:
        return x
    n, h, w, c = x.shape
    patches = ops.transpose(ops.reshape(x, (n, h, w, p, p, c // p**2)), (0, 1, 3, 2, 4, 5))
    return ops.reshape(patches, (n, h * p, w * p, c // p**2))
