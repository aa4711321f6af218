"""A network of a few thousand weights, untrained but not silent, in a checkpoint: enough to try all that draws."""

from pathlib import Path

import numpy as np

from minidiff import backend
from minidiff.checkpoint import file as checkpoints
from minidiff.checkpoint.config import Config, DiffusionConfig
from minidiff.diffusion.process import Target
from minidiff.nn import UNet, UNetConfig
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
    path = checkpoints.where(run, step)
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
