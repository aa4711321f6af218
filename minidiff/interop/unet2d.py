"""The network `UNet2DModel` of diffusers, built from the layers of minidiff.

Idea: it is the network of nn/unet.py with small differences.  The time embedding may have other frequencies.  A
convolution that halves the height and width may pad zeros only below and on the right.  In the middle, the results of
residual blocks and attention may be divided by a constant, and attention may lack its normalisation.  The number of
heads follows from the number of channels.  The encoder of a level may have self-attention where its decoder has none.
Leaves out the weights: diffusers_read.py.
Source: Ho et al. 2020, arXiv:2006.11239, appendix B; tests/interop compares it with `diffusers.UNet2DModel`.
"""

from typing import Any

from minidiff import backend, ops
from minidiff.autograd import Tensor
from minidiff.interop.unet2d_config import UNet2DConfig
from minidiff.nn import (
    Conditioning,
    Conv2d,
    GroupNorm,
    Linear,
    Module,
    ResidualBlock,
    SelfAttention,
    Stage,
    decode,
    encode,
    sinusoidal,
)


class PositionalEmbedding(Module):
    """The time embedding: (N,) float32 to (N, width)."""

    def __init__(self, config: UNet2DConfig) -> None:
        self.waves = config.block_out_channels[0]
        self.freq_shift, self.flip_sin_to_cos = config.freq_shift, config.flip_sin_to_cos
        self.width = config.time_embedding_dim or 4 * self.waves
        self.linear1 = Linear(self.waves, self.width)
        self.linear2 = Linear(self.width, self.width)

    def forward(self, t: Any) -> Tensor:
        t = backend.to_device(t.astype(self.linear1.w.dtype))
        waves = Tensor(sinusoidal(t, self.waves, self.freq_shift, self.flip_sin_to_cos))
        return ops.silu(self.linear2(ops.silu(self.linear1(waves))))


class HalveAfter(Conv2d):
    """A 3×3 convolution with stride 2 and zeros below and on the right only: (N, H, W, C) to (N, H/2, W/2, C).

    H and W must be even.

        y[i, j] = b + sum_{kh, kw} x[2 i + kh, 2 j + kw] w[kh, kw]

    minidiff's convolution pads zeros on all sides.  So one row and one column of zeros are added above and on the left,
    and the first row and column of the result are removed: the filter then starts at even rows and columns of x.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(ops.pad(x, 1, 1))[:, 1:, 1:]


class Identity(Module):
    """Returns x; it replaces a normalisation that the network does not have."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class ScaledStage(Stage):
    """A stage whose residual block and attention are each divided by a constant, including the residual input."""

    def __init__(self, block: ResidualBlock, attention: SelfAttention | None, divisor: float) -> None:
        super().__init__(block, attention)
        self.factor = 1 / divisor

    def forward(self, x: Tensor, emb: Tensor, cond: Conditioning) -> Tensor:
        x = self.block(x, emb) * self.factor
        return x if self.attention is None else self.attention(x) * self.factor


class UNet2D(Module):
    """From noisy images and their timesteps to what the network was trained to predict.

    forward(x, t): x (N, H, W, in_channels), array or Tensor; t (N,) float32.  Returns (N, H, W, out_channels).
    Samplers call it as they call minidiff's own U-Net.
    """

    def __init__(self, config: UNet2DConfig) -> None:
        self.config = config
        self.embedding = PositionalEmbedding(config)
        widths = config.block_out_channels

        self.conv_in = Conv2d(config.in_channels, widths[0])
        skips, channels = [widths[0]], widths[0]
        self.down: list[Module] = []
        for level, width in enumerate(widths):
            for _ in range(config.layers_per_block):
                self.down.append(self._stage(channels, width, config.attends_down[level]))
                channels = width
                skips.append(channels)
            if level < len(widths) - 1:
                self.down.append(
                    HalveAfter(channels) if config.downsample_padding == 0 else Conv2d(channels, channels, stride=2)
                )
                skips.append(channels)

        self.middle: list[Module] = self._middle(channels) if config.mid_block_type else []

        self.up: list[Module] = []
        for level in reversed(range(len(widths))):
            for _ in range(config.layers_per_block + 1):
                self.up.append(self._stage(channels + skips.pop(), widths[level], config.attends_up[level]))
                channels = widths[level]
            if level:
                self.up.append(Conv2d(channels, channels, upsample=True))

        self.norm = GroupNorm(config.norm_num_groups, channels, silu=True, eps=config.norm_eps)
        self.conv_out = Conv2d(channels, config.out_channels, zero=True)

    def forward(self, x: Any, t: Any, cond: Conditioning | None = None) -> Tensor:
        expected = (self.config.height, self.config.width, self.config.channels)
        x = ops.as_tensor(x)
        if x.shape[1:] != expected:
            raise ValueError(f"U-Net: expected images of {expected} (height, width, channels), got {x.shape[1:]}")
        if self.config.center_input_sample:
            x = x * 2.0 - 1.0
        emb, cond = self.embedding(t), Conditioning()
        features = encode(self.down, self.middle, self.conv_in(x), emb, cond)
        return self.norm.then(self.conv_out, decode(self.up, features, emb, cond))

    def condition(self, n: int, labels: Any | None = None, with_cond: Any | None = None) -> Conditioning:
        """Return an empty condition: this network is unconditional.  Raises ValueError for labels."""
        if labels is not None:
            raise ValueError("U-Net: this network knows no labels")
        return Conditioning()

    def _stage(self, in_channels: int, out_channels: int, attends: bool) -> Stage:
        return Stage(self._block(in_channels, out_channels), self._attention(out_channels) if attends else None)

    def _block(self, in_channels: int, out_channels: int) -> ResidualBlock:
        c = self.config
        time = "scale_shift" if c.resnet_time_scale_shift == "scale_shift" else "add"
        return ResidualBlock(in_channels, out_channels, self.embedding.width, c.norm_num_groups, time, c.norm_eps)

    def _attention(self, channels: int, groups: int | None = None) -> SelfAttention:
        heads = channels // self.config.head_width(channels)
        return SelfAttention(channels, heads, groups or self.config.norm_num_groups, self.config.norm_eps)

    def _middle(self, channels: int) -> list[Module]:
        """Residual block, attention, residual block."""
        attention = None
        if self.config.attends_in_the_middle:
            attention = self._attention(channels, self.config.middle_groups)
            if self.config.middle_groups is None:
                attention.norm = Identity()
        pairs = ((self._block(channels, channels), attention), (self._block(channels, channels), None))
        divisor = self.config.mid_block_scale_factor
        return [Stage(*pair) if divisor == 1 else ScaledStage(*pair, divisor) for pair in pairs]
