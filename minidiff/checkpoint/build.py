"""Building what the settings describe: the configuration of the network, the network itself, and the noising process.

Training and loading build with the same functions, so both make the same network.  A network that needs more memory for
training than the machine has is refused before it is allocated.
Leaves out the settings: config.py.
"""

import os
from typing import Any

import numpy as np

from minidiff import backend
from minidiff.checkpoint.config import NO_ADAPTER, Adapter, AutoencoderSettings, DiffusionConfig, ModelConfig
from minidiff.data import maps
from minidiff.diffusion.process import Process
from minidiff.diffusion.schedule import make_schedule
from minidiff.errors import MinidiffError
from minidiff.nn import DenoiserConfig, DiT, DiTConfig, Module, UNet, UNetConfig
from minidiff.nn.autoencoder import Autoencoder, AutoencoderConfig
from minidiff.nn.controlnet import ControlNet
from minidiff.nn.ip_adapter import IPAdapter
from minidiff.nn.tokenizer import Tokenizer


def denoiser_config(
    model: ModelConfig,
    height: int,
    width: int,
    channels: int,
    classes: int = 0,
    tokenizer: Tokenizer | None = None,
) -> DenoiserConfig:
    """Return the configuration of the denoiser, a U-Net or a transformer, for images (height, width, channels).

    Raises MinidiffError as `network_config`.
    """
    if model.network == "dit":
        return dit_config(model, height, width, channels, classes, tokenizer)
    return network_config(model, height, width, channels, classes, tokenizer)


def network_config(
    model: ModelConfig,
    height: int,
    width: int,
    channels: int,
    classes: int = 0,
    tokenizer: Tokenizer | None = None,
) -> UNetConfig:
    """Return the configuration of the U-Net for images (height, width, channels) with so many classes or with captions.

    Raises MinidiffError if the settings do not make a network, or not one for images of this size.
    """
    patch = patch_of(model, height, width)
    smallest = height // max(patch, 1) >> max(len(model.channel_mult) - 1, 0)
    two = (2 * smallest, smallest)[-len(model.channel_mult) :]
    return UNetConfig(
        height=height,
        width=width,
        channels=channels,
        patch=patch,
        model_channels=model.model_channels,
        channel_mult=model.channel_mult,
        num_res_blocks=model.num_res_blocks,
        attention_at=(smallest,) if model.attention_at is None else model.attention_at,
        heads=model.heads,
        groups=model.groups,
        time=model.time,
        classes=classes,
        vocab_size=len(tokenizer) if tokenizer else 0,
        max_tokens=tokenizer.max_tokens if tokenizer else 0,
        text_width=model.text_width,
        text_layers=model.text_layers,
        cross_attention_at=()
        if tokenizer is None
        else two
        if model.cross_attention_at is None
        else model.cross_attention_at,
    )


def dit_config(
    model: ModelConfig,
    height: int,
    width: int,
    channels: int,
    classes: int = 0,
    tokenizer: Tokenizer | None = None,
) -> DiTConfig:
    """Return the configuration of the transformer for images (height, width, channels), see `network_config`."""
    return DiTConfig(
        height=height,
        width=width,
        channels=channels,
        patch=patch_of(model, height, width),
        hidden_size=model.hidden_size,
        num_layers=model.num_layers,
        heads=model.heads,
        classes=classes,
        vocab_size=len(tokenizer) if tokenizer else 0,
        max_tokens=tokenizer.max_tokens if tokenizer else 0,
        text_width=model.text_width,
        text_layers=model.text_layers,
    )


def autoencoder_config(
    settings: AutoencoderSettings, model: ModelConfig, height: int, width: int, channels: int
) -> AutoencoderConfig:
    """Return the configuration of the autoencoder for images (height, width, channels).

    Raises MinidiffError if the settings do not make one, or not one for images of this size.
    """
    return AutoencoderConfig(
        height=height,
        width=width,
        channels=channels,
        latent_channels=settings.latent_channels,
        autoencoder_patch=settings.autoencoder_patch,
        encoder_channels=settings.encoder_channels,
        decoder_channels=settings.decoder_channels,
        encoder_blocks=settings.encoder_blocks,
        decoder_blocks=settings.decoder_blocks,
        groups=model.groups,
    )


def patch_of(model: ModelConfig, height: int, width: int) -> int:
    """Return the side of patches: as set, or a power of two that depends on the shorter side of the images.

    For a U-Net it is the largest one that leaves 16 patches or more along that side, for a transformer, whose cost
    grows with the square of their number, the smallest one that leaves 8 or fewer.
    """
    if model.patch is not None:
        return model.patch
    side = min(height, width)
    if model.network == "dit":
        return 1 << (-(-side // 8) - 1).bit_length()
    return 1 << (max(side // 16, 1).bit_length() - 1)


def size_divisor(model: ModelConfig, height: int, width: int) -> int:
    """Return the number that must divide height and width of what the denoiser denoises."""
    patch = patch_of(model, height, width)
    return patch if model.network == "dit" else patch << max(len(model.channel_mult) - 1, 0)


def make_model(
    network: DenoiserConfig | AutoencoderConfig, adapter: Adapter, autoencoder: AutoencoderConfig | None = None
) -> Any:
    """Return what a training with these settings trains, without weights: a denoiser, an adapter, or an autoencoder.

    autoencoder: the configuration of the one in whose latents the denoiser works; an adapter's inputs are images.
    Raises MinidiffError for any adapter of a transformer, and for reference images if the network has no captions.
    """
    if isinstance(network, AutoencoderConfig):
        return Autoencoder(network)
    if isinstance(network, DiTConfig):
        if adapter != "none":
            raise MinidiffError(NO_ADAPTER)
        return DiT(network)
    unet = UNet(network)
    if adapter == "none":
        return unet
    if adapter != "reference":
        return ControlNet(unet, maps.channels(adapter), 1 if autoencoder is None else autoencoder.factor)
    if not network.vocab_size:
        raise MinidiffError(
            "a reference image is attended to like words; this network has no captions: train one with captions first"
        )
    return IPAdapter(unet, None if autoencoder is None else autoencoder.channels)


def check_memory(model: Module, network: DenoiserConfig | AutoencoderConfig, images: int) -> None:
    """Raise MinidiffError if training a network needs more memory than the machine has, before any is allocated.

    model: what is trained, without weights.  images: the number computed at once.
    A lower bound is compared: weights, gradients, two moments and averaged weights, and of every block two results, in
    a transformer also the attention weights, which are kept for backward.  A network that passes may still not fit.
    A GPU refuses memory that it does not have when it is allocated, so nothing is checked there.
    """
    have = memory() if backend.current().xp is np else None
    if have is None:
        return
    parameters = model.count_parameters()
    features = _features(network)
    need = 4 * (5 * parameters + images * features)
    if need > have:
        raise MinidiffError(
            f"a network of {parameters / 1e6:.2f} million parameters, trained on {images} images of "
            f"{network.height}×{network.width} at once, needs more than {need / 2**30:.1f} GiB of memory; this machine "
            f"has {have / 2**30:.1f}: take fewer channels or blocks, or more parts (--accumulate)"
        )


def _features(network: DenoiserConfig | AutoencoderConfig) -> int:
    """Return the numbers that the blocks of a network keep for an image."""
    if isinstance(network, AutoencoderConfig):
        sides = [network.autoencoder_patch << level for level in range(len(network.encoder_channels))]
        places = [network.height // side * (network.width // side) for side in sides]
        encoder, decoder = (
            zip(network.encoder_channels, network.encoder_blocks),
            zip(network.decoder_channels, network.decoder_blocks),
        )
        return 2 * sum(n * (a * b + c * d) for n, (a, b), (c, d) in zip(places, encoder, decoder))
    if isinstance(network, DiTConfig):
        n = network.tokens
        return network.num_layers * n * (2 * network.hidden_size + network.heads * n)
    widths = [network.model_channels * multiplier for multiplier in network.channel_mult]
    places = [height * (network.width // network.patch >> level) for level, height in enumerate(network.level_heights)]
    return 2 * (2 * network.num_res_blocks + 1) * sum(width * n for width, n in zip(widths, places))


def memory() -> int | None:
    """Return the bytes of memory of this machine, None if they are not known."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def make_process(diffusion: DiffusionConfig) -> Process:
    """Return the noising process that the settings name."""
    return Process(
        schedule=make_schedule(diffusion.schedule, diffusion.num_timesteps, diffusion.shift, diffusion.zero_snr),
        target=diffusion.target,
        weighting=diffusion.weighting,
        gamma=diffusion.gamma,
        cond_dropout=diffusion.cond_dropout,
        timestep_sampling=diffusion.timestep_sampling,
        sigma_mean=diffusion.sigma_mean,
        sigma_std=diffusion.sigma_std,
    )
