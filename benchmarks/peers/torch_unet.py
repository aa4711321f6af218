"""minidiff's U-Net and decoder written in PyTorch, with the same names, so that the same weights can be loaded by name.

Idea: read it beside minidiff/nn/unet.py and autoencoder.py; what differs is PyTorch's: images are (N, C, H, W),
whatever order the memory has, and convolution weights (C_out, C_in, K, K).
Leaves out initialisation: weights are always loaded.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.nn import UNetConfig
from minidiff.nn.autoencoder import AutoencoderConfig


class SelfAttention(nn.Module):
    """x + out(attention) over pixels: (N, C, H, W) to the same."""

    def __init__(self, channels: int, config: UNetConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = _norm(config, channels)
        self.q, self.k, self.v, self.out = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = self.norm(x).permute(0, 2, 3, 1).reshape(n, h * w, c)
        q, k, v = (part(tokens).view(n, h * w, self.heads, -1).transpose(1, 2) for part in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h * w, c)
        return x + self.out(mixed).view(n, h, w, c).permute(0, 3, 1, 2)


class TimeEmbedding(nn.Module):
    """t, and the class if there are classes, as one vector an image: (N,) float32 to (N, 4 base)."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        width, half = 4 * config.model_channels, config.model_channels // 2
        self.linear1, self.linear2 = nn.Linear(config.model_channels, width), nn.Linear(width, width)
        self.class_embedding = nn.Embedding(config.classes + 1, width) if config.classes else None
        # no buffer: a network in bfloat16 keeps it in float32, because t up to 999 has more than 8 bits
        self.frequency = torch.exp(torch.arange(half) * (-math.log(10000.0) / (half - 1)))

    def forward(self, t: Tensor, labels: Tensor | None) -> Tensor:
        angle = t[:, None] * self.frequency.to(t.device)[None, :]
        waves = torch.cat([angle.sin(), angle.cos()], dim=1)
        out = self.linear2(F.silu(self.linear1(waves.to(self.linear1.weight.dtype))))
        if self.class_embedding is not None:
            out = out + self.class_embedding(labels)
        return F.silu(out)


class ResidualBlock(nn.Module):
    """Normalise, SiLU, convolve, twice, and add the input: (N, in, H, W) to (N, out, H, W).

    The embedding of timestep and class enters in between; in an autoencoder there is none.
    """

    def __init__(self, inputs: int, outputs: int, config: UNetConfig | AutoencoderConfig) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(config, inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.shift, self.scale = None, None
        if isinstance(config, UNetConfig):
            self.shift = nn.Linear(4 * config.model_channels, outputs)
            self.scale = nn.Linear(4 * config.model_channels, outputs) if config.time == "scale_shift" else None
        self.norm2, self.conv2 = _norm(config, outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        shift = None if self.shift is None else self.shift(embedding)[:, :, None, None]
        if self.scale is None:
            h = self.norm2(h if shift is None else h + shift)
        else:
            h = torch.addcmul(shift, self.norm2(h), 1 + self.scale(embedding)[:, :, None, None])
        return self.shortcut(x) + self.conv2(F.silu(h))


class Stage(nn.Module):
    """A residual block, followed by attention where the level has it."""

    def __init__(self, inputs: int, outputs: int, attends: bool, config: UNetConfig) -> None:
        super().__init__()
        self.block = ResidualBlock(inputs, outputs, config)
        self.attention = SelfAttention(outputs, config) if attends else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.attention(self.block(x, embedding))


class TorchUNet(nn.Module):
    """forward(x, t, labels): x (N, C, H, W), t (N,) float32, labels (N,) int64 or None.  Returns (N, C, H, W)."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.patch = config.patch
        widths = [config.model_channels * multiplier for multiplier in config.channel_mult]
        attends = [height in config.attention_at for height in config.level_heights]
        seen = config.channels * config.patch**2
        self.embedding = TimeEmbedding(config)
        self.conv_in = nn.Conv2d(seen, config.model_channels, 3, padding=1)
        skips, features = [config.model_channels], config.model_channels

        self.down = nn.ModuleList()
        for level, width in enumerate(widths):
            for _ in range(config.num_res_blocks):
                self.down.append(Stage(features, width, attends[level], config))
                features = width
                skips.append(features)
            if level < len(widths) - 1:
                self.down.append(nn.Conv2d(features, features, 3, stride=2, padding=1))
                skips.append(features)

        last = attends[-1]
        self.middle = nn.ModuleList(Stage(features, features, attention, config) for attention in (last, False))

        self.up = nn.ModuleList()
        for level in reversed(range(len(widths))):
            for _ in range(config.num_res_blocks + 1):
                self.up.append(Stage(features + skips.pop(), widths[level], attends[level], config))
                features = widths[level]
            if level:
                self.up.append(nn.Conv2d(features, features, 3, padding=1))

        self.norm, self.conv_out = _norm(config, features), nn.Conv2d(features, seen, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        embedding = self.embedding(t, labels)
        h = self.conv_in(_stack(x, self.patch))
        skips = [h]
        for part in self.down:
            h = part(h, embedding) if isinstance(part, Stage) else part(h)
            skips.append(h)
        for part in self.middle:
            h = part(h, embedding)
        for part in self.up:
            if isinstance(part, Stage):
                h = part(torch.cat([h, skips.pop()], dim=1), embedding)
            else:
                h = part(F.interpolate(h, scale_factor=2, mode="nearest"))
        return _unstack(self.conv_out(F.silu(self.norm(h))), self.patch)


class TorchDecoder(nn.Module):
    """forward(z): from latents (N, c, h, w) to images (N, C, H, W)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.patch, features = config.autoencoder_patch, config.decoder_channels[-1]
        self.conv_in = nn.Conv2d(config.latent_channels, features, 3, padding=1)
        self.layers = nn.ModuleList()
        for level in reversed(range(len(config.decoder_channels))):
            for _ in range(config.decoder_blocks[level]):
                self.layers.append(ResidualBlock(features, features, config))
            if level:
                self.layers.append(nn.Conv2d(features, config.decoder_channels[level - 1], 3, padding=1))
                features = config.decoder_channels[level - 1]
        self.norm = _norm(config, features)
        self.conv_out = nn.Conv2d(features, config.channels * self.patch**2, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.conv_in(z)
        for layer in self.layers:
            h = layer(h if isinstance(layer, ResidualBlock) else F.interpolate(h, scale_factor=2, mode="nearest"))
        return _unstack(self.conv_out(F.silu(self.norm(h))), self.patch)


def _norm(config: UNetConfig | AutoencoderConfig, channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(config.groups, channels), channels, eps=1e-5)


def _stack(x: Tensor, p: int) -> Tensor:
    """p × p pixels into channels, in minidiff's order (row, column, channel): (N, C, H, W) to (N, p p C, H/p, W/p)."""
    if p == 1:
        return x
    n, c, h, w = x.shape
    return x.reshape(n, c, h // p, p, w // p, p).permute(0, 3, 5, 1, 2, 4).reshape(n, p * p * c, h // p, w // p)


def _unstack(x: Tensor, p: int) -> Tensor:
    if p == 1:
        return x
    n, c, h, w = x.shape
    return x.reshape(n, p, p, c // p**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // p**2, h * p, w * p)


# ---- weights by name ------------------------------------------------------------------------------------------------

_LAST = {"w": "weight", "b": "bias", "gain": "weight", "bias": "bias", "table": "weight"}


def load(net: nn.Module, weights: Mapping[str, np.ndarray]) -> None:
    """Load minidiff's weights; raises RuntimeError unless both networks have the same names and shapes.

    net: a TorchUNet or a TorchDecoder.
    """
    net.load_state_dict({_torch_name(name): _to_torch(name, array) for name, array in weights.items()})


def gradients(net: TorchUNet, names: Mapping[str, object]) -> dict[str, np.ndarray]:
    """Return the gradients by minidiff's parameter names, in its layout."""
    found = dict(net.named_parameters())
    return {name: _to_ours(name, found[_torch_name(name)].grad) for name in names}


def _torch_name(name: str) -> str:
    head, _, last = name.rpartition(".")
    return f"{head}.{_LAST[last]}"


def _to_torch(name: str, array: np.ndarray) -> Tensor:
    if name.endswith(".w"):
        array = array.T if array.ndim == 2 else array.transpose(3, 2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(array))


def _to_ours(name: str, gradient: Tensor | None) -> np.ndarray:
    assert gradient is not None, f"{name} has no gradient"
    array = gradient.float().cpu().numpy()
    if name.endswith(".w"):
        array = array.T if array.ndim == 2 else array.transpose(2, 3, 1, 0)
    return np.ascontiguousarray(array)
