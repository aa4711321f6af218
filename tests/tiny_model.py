"""A network of a few thousand weights, untrained but not silent, in a checkpoint: enough to try all that draws."""

from pathlib import Path

import numpy as np

from minidiff import backend
from minidiff import checkpoint as checkpoints
from minidiff.checkpoint.config import Config, DiffusionConfig, ModelConfig
from minidiff.diffusion.process import Target
from minidiff.latent.space import Latents, LatentStatistics
from minidiff.nn import DiT, DiTConfig, UNet, UNetConfig
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


def write_transformer(run: Path, step: int = 10, times: int = 1000) -> Path:
    """Write a checkpoint of a transformer with labels, and return its path."""
    network = DiTConfig(8, 8, 3, patch=4, hidden_size=16, num_layers=1, heads=2, classes=len(CLASSES))
    with backend.using("numpy"):
        model = DiT(network).initialize(step)
        parameters = FlatParameters(model)
    parameters.ema[:] += 0.05 * np.random.default_rng(step).standard_normal(parameters.w.shape).astype(np.float32)
    path = checkpoints.path_of(run, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    config = Config(model=ModelConfig("dit"), diffusion=DiffusionConfig(num_timesteps=times))
    checkpoints.save(path, step, config, network, CLASSES, parameters)
    return path


def make_autoencoder(height: int = 16, width: int = 24) -> Autoencoder:
    """Return an untrained one, whose latents are four times smaller, with four channels."""
    config = AutoencoderConfig(height, width, 3, 4, 2, (8, 8), (8, 8), (0, 1), (1, 0), 4)
    with backend.using("numpy"):
        model = Autoencoder(config)
        model.initialize(1)
    return model


def write_autoencoder(run: Path, step: int = 10) -> Path:
    """Write a checkpoint of a run that trains an autoencoder, and return its path."""
    with backend.using("numpy"):
        model = make_autoencoder()
        parameters = FlatParameters(model)
    path = checkpoints.path_of(run, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoints.save(path, step, Config(model=ModelConfig("autoencoder")), model.config, (), parameters)
    return path


def write_latent(run: Path, step: int = 10, words: tuple[str, ...] = WORDS, size: tuple[int, int] = (16, 24)) -> Path:
    """Write a checkpoint of a model that works in latents, and return its path.

    words: of its prompts; () for a model without.  size: height and width of its images, which 8 divides.
    """
    random = np.random.default_rng(step)
    with backend.using("numpy"):
        autoencoder = make_autoencoder(*size)
        height, width, channels = autoencoder.config.latent_shape
        low = (height // 2,)
        text = {"vocab_size": len(words) + 1, "max_tokens": 4, "text_width": 8, "cross_attention_at": low}
        network = UNetConfig(
            height, width, channels, model_channels=8, channel_mult=(1, 2), attention_at=low, heads=2,
            **(text if words else {}),
        )  # fmt: skip
        model = UNet(network).initialize(step)
        parameters = FlatParameters(model)
    parameters.ema[:] += 0.05 * random.standard_normal(parameters.w.shape).astype(np.float32)
    colour = tuple(random.uniform(-0.3, 0.3, 5 * 3).tolist())
    space = Latents(autoencoder, LatentStatistics((0.1, 0.0, -0.2, 0.3), (0.5, 1.0, 0.25, 2.0), colour))
    path = checkpoints.path_of(run, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoints.save(path, step, Config(), network, (), parameters, words, space=space)
    return path
