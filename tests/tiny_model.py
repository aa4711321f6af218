"""A network of a few thousand weights, untrained but not silent, in a checkpoint: enough to try all that draws."""

from pathlib import Path

import numpy as np

from minidiff import backend
from minidiff import checkpoint as checkpoints
from minidiff.checkpoint.config import Config, DiffusionConfig
from minidiff.diffusion.process import Target
from minidiff.latent.space import Latents, fit
from minidiff.nn import UNet, UNetConfig
from minidiff.nn.autoencoder import Autoencoder, AutoencoderConfig
from minidiff.nn.flat_parameters import FlatParameters

CLASSES = ("cat", "dog", "owl")
WORDS = ("a", "big", "cat", "dog", "night", "small")


def write(
    run: Path,
    classes: tuple[str, ...] = CLASSES,
    step: int = 10,
    channels: int = 3,
    times: int = 1000,
    words: tuple[str, ...] = (),
    length: int = 4,
    cross_attention_at: tuple[int, ...] = (4,),
    target: Target = "v",
    grown: float = 1.0,
) -> Path:
    """Write a checkpoint of a run and return its path; its averaged weights are not its weights.

    words: of a network that reads prompts of up to `length` of them, in the place of classes, and looks at
    them where it is cross_attention_at high.  grown: times this its averaged weights are greater.
    """
    size = {"height": 8, "width": 8, "channels": channels}
    text = {
        "vocab_size": len(words) + 1,
        "max_tokens": length,
        "text_width": 8,
        "text_layers": 1,
        "cross_attention_at": cross_attention_at,
    }
    classes, text = ((), text) if words else (classes, {})
    network = UNetConfig(
        **size, model_channels=8, channel_mult=(1, 2), attention_at=(4,), heads=2, classes=len(classes), **text
    )
    with backend.using("numpy"):
        model = UNet(network)
        model.initialize(step)
        parameters = FlatParameters(model)
    noise = np.random.default_rng(step).standard_normal(parameters.w.shape)
    parameters.ema[:] += 0.05 * noise.astype(np.float32)  # the network's last layer starts at 0 and would draw nothing
    parameters.ema *= np.float32(grown)
    path = checkpoints.path_of(run, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoints.save(
        path,
        step,
        Config(diffusion=DiffusionConfig(num_timesteps=times, target=target)),
        network,
        classes,
        parameters,
        words,
    )
    return path


def write_latent(run: Path, size: tuple[int, int] = (32, 32), words: tuple[str, ...] = WORDS, step: int = 10) -> Path:
    """Write a checkpoint of a latent model, for images of a size that 8 divides, and return its path.

    Its latents are 4 times smaller than the images and have 4 channels.
    """
    autoencoder = AutoencoderConfig(*size, 3, 4, 2, (8, 8), (8, 8), (0, 1), (1, 1))
    height, width, channels = autoencoder.latent_shape
    network = UNetConfig(
        height=height,
        width=width,
        channels=channels,
        model_channels=8,
        channel_mult=(1, 2),
        attention_at=(height // 2,),
        heads=2,
        vocab_size=len(words) + 1 if words else 0,
        max_tokens=4 if words else 0,
        text_width=8,
        text_layers=1,
        cross_attention_at=(height // 2,) if words else (),
    )
    rng = np.random.default_rng(step)
    with backend.using("numpy"):
        made = Autoencoder(autoencoder)
        made.initialize(step)
        for parameter in made.named_parameters().values():  # or its last layer, which starts at 0, would decode grey
            parameter.data += np.float32(0.1) * rng.standard_normal(parameter.shape).astype(np.float32)
        blocks = lambda _: rng.uniform(-1, 1, (4, height, width, 3)).astype(np.float32).repeat(4, 1).repeat(4, 2)
        latents = Latents(made, fit(made, blocks, 2))
        model = UNet(network)
        model.initialize(step)
        parameters = FlatParameters(model)
    parameters.ema[:] += 0.05 * rng.standard_normal(parameters.w.shape).astype(np.float32)
    path = checkpoints.path_of(run, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoints.save(path, step, Config(), network, (), parameters, words, space=latents)
    return path
