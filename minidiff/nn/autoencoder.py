"""The autoencoder: from images to latents, arrays with far fewer numbers, and back.

Idea: neighbouring pixels are nearly alike, so an image can be described with fewer numbers than it has pixels.  The
encoder makes latents of an eighth of the height and width, the decoder makes the image again, and both learn together
from the difference between the two images.  The encoder does not output one value for each number of the latents but a
normal distribution, from which training draws: so the decoder learns to cope with latents that are slightly wrong, as
those that a diffusion model draws will be.

Both are made of the U-Net's residual blocks (unet.py), without an embedding, and have no skip connections: everything
must pass through the latents.
Leaves out the loss: latent/reconstruction.py.
Source: Kingma and Welling 2013, arXiv:1312.6114; for diffusion Rombach et al. 2021, arXiv:2112.10752, section 3.1.
"""

from dataclasses import dataclass
from typing import Any

from minidiff import ops
from minidiff.autograd import Tensor
from minidiff.errors import MinidiffError
from minidiff.limits import check_limits
from minidiff.nn.layers import Conv2d, GroupNorm
from minidiff.nn.module import Module
from minidiff.nn.unet import ResidualBlock, depth_to_space, space_to_depth
from minidiff.nn.unet_config import MAX_LEVELS


@dataclass(frozen=True)
class AutoencoderConfig:
    """The settings of an autoencoder.

    height, width, channels: size of the images.
    latent_channels: numbers that each position of the latents has.
    autoencoder_patch: side of the square patches whose pixels become the channels of level 0.
    encoder_channels, decoder_channels: of each level; every level after the first halves height and width.
    encoder_blocks, decoder_blocks: residual blocks of each level.
    groups: of every group normalisation.
    Raises MinidiffError if a setting is out of its range, or if the settings do not make an autoencoder.
    """

    height: int
    width: int
    channels: int = 3
    latent_channels: int = 8
    autoencoder_patch: int = 2
    encoder_channels: tuple[int, ...] = (32, 64, 128)
    decoder_channels: tuple[int, ...] = (32, 64, 128)
    encoder_blocks: tuple[int, ...] = (0, 1, 1)
    decoder_blocks: tuple[int, ...] = (2, 2, 2)
    groups: int = 8

    @property
    def factor(self) -> int:
        """How many times smaller height and width of the latents are than those of the images."""
        return self.autoencoder_patch << (len(self.encoder_channels) - 1)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the latents."""
        return self.height // self.factor, self.width // self.factor, self.latent_channels

    def __post_init__(self) -> None:
        check_limits(vars(self), "autoencoder: {}")
        levels = len(self.encoder_channels)
        if not 1 <= levels <= MAX_LEVELS:
            raise MinidiffError(f"autoencoder: encoder_channels needs 1 to {MAX_LEVELS} entries, got {levels}")
        for name in ("decoder_channels", "encoder_blocks", "decoder_blocks"):
            found = len(getattr(self, name))
            if found != levels:
                raise MinidiffError(
                    f"autoencoder: {name} and encoder_channels need one entry a level, got {found} and {levels}"
                )
        if self.height % self.factor or self.width % self.factor:
            raise MinidiffError(
                f"an autoencoder whose latents are {self.factor} times smaller needs a height and a width that "
                f"{self.factor} divides ({self.factor}, {2 * self.factor}, {3 * self.factor}, …), got "
                f"{self.height}×{self.width}"
            )


class Encoder(Module):
    """From images (N, H, W, C) to the mean and the log-variance of their latents, each (N, h, w, latent_channels)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        self.patch, self.latent_channels = config.autoencoder_patch, config.latent_channels
        channels = config.encoder_channels[0]
        self.conv_in = Conv2d(config.channels * self.patch**2, channels)
        self.layers: list[Module] = []
        for level, blocks in enumerate(config.encoder_blocks):
            if level:
                self.layers.append(Conv2d(channels, config.encoder_channels[level], stride=2))
                channels = config.encoder_channels[level]
            self.layers += [ResidualBlock(channels, channels, 0, config.groups) for _ in range(blocks)]
        self.norm = GroupNorm(config.groups, channels, silu=True)
        self.conv_out = Conv2d(channels, 2 * config.latent_channels)

    def forward(self, x: Any) -> tuple[Tensor, Tensor]:
        h = self.conv_in(space_to_depth(ops.as_tensor(x), self.patch))
        for layer in self.layers:
            h = layer(h)
        h = self.norm.then(self.conv_out, h)
        return h[..., : self.latent_channels], h[..., self.latent_channels :]


class Decoder(Module):
    """From latents (N, h, w, latent_channels) to images (N, H, W, C)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        self.patch = config.autoencoder_patch
        channels = config.decoder_channels[-1]
        self.conv_in = Conv2d(config.latent_channels, channels)
        self.layers: list[Module] = []
        for level, blocks in reversed(list(enumerate(config.decoder_blocks))):
            self.layers += [ResidualBlock(channels, channels, 0, config.groups) for _ in range(blocks)]
            if level:
                self.layers.append(Conv2d(channels, config.decoder_channels[level - 1], upsample=True))
                channels = config.decoder_channels[level - 1]
        self.norm = GroupNorm(config.groups, channels, silu=True)
        self.conv_out = Conv2d(channels, config.channels * self.patch**2)

    def forward(self, z: Any) -> Tensor:
        h = self.conv_in(ops.as_tensor(z))
        for layer in self.layers:
            h = layer(h)
        return depth_to_space(self.norm.then(self.conv_out, h), self.patch)


class Autoencoder(Module):
    """An encoder and its decoder.

    sample(x, eps): latents (N, h, w, c) of images (N, H, W, C), sampled with the standard normals eps (N, h, w, c), and
    the mean and the log-variance that the encoder outputs.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)

    def sample(self, x: Any, eps: Any) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(x)
        z = mean + ops.exp(0.5 * log_variance) * eps  # arXiv:1312.6114, section 2.4: the gradient passes through it
        return z, mean, log_variance
