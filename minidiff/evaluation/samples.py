"""The samples that are evaluated: how they are drawn, and drawing them batch by batch.

Idea: labels and prompts are evaluated on samples that differ in nothing else, so one function draws both.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidiff.diffusion.clipping import Clip
from minidiff.diffusion.run import Step
from minidiff.diffusion.solvers import SamplerName
from minidiff.diffusion.timesteps import Spacing
from minidiff.images.files import to_uint8
from minidiff.pipeline.pipeline import Pipeline


@dataclass(frozen=True)
class EvaluationSampling:
    """How the samples are drawn; their labels cycle through all labels of the data."""

    count: int = 1000
    """Number of samples; of a model that reads prompts, the number of prompts of each kind."""
    sampler: SamplerName = "ddim"
    """Which sampler draws; `python -m minidiff.sample --help` explains each."""
    steps: int | None = None
    """Sampling steps; the default is that of `python -m minidiff.sample`."""
    spacing: Spacing = "trailing"
    """Which timesteps the steps visit; `python -m minidiff.sample --help` explains each choice."""
    eta: float = 0.0
    """Fresh noise in ddim, from 0 (none) to 1 (as much as ddpm)."""
    guidance_scale: float = 3.0
    """Strength of classifier-free guidance; 1 turns it off."""
    clip: Clip = "clip"
    """What happens to estimates of x0 outside the range of images: cut off (clip), scaled into it (dynamic), or left
    as they are (none)."""
    seed: int = 0
    """Seed of the samples' noise, and of the choice of held-out images, timesteps and noise for the loss."""
    batch: int = 64
    """Images drawn at once; a smaller batch needs less memory."""


def generate_samples(
    model: Pipeline,
    config: EvaluationSampling,
    prompts: list[str] | None = None,
    conditions: dict[str, Any] | None = None,
    on_step: Callable[[int], Any] = lambda images: None,
) -> np.ndarray:
    """Draw config.count samples with labels in turn, or one sample for each prompt: (N, H, W, C) uint8.

    conditions: arrays of edge maps ("control") or of reference images ("reference"), one for each prompt.
    on_step: called after each sampling step with the number of images in the batch.
    """
    batches, total = [], config.count if prompts is None else len(prompts)
    for first in range(0, total, config.batch):
        count = min(config.batch, total - first)
        part = {name: each[first : first + count] for name, each in (conditions or {}).items()}
        for step in sampling_steps(model, config, first, count, prompts, part):
            x = step.x_prev
            on_step(count)
        batches.append(to_uint8(x))
    return np.concatenate(batches)


def sampling_steps(
    model: Pipeline,
    config: EvaluationSampling,
    first: int,
    count: int,
    prompts: Sequence[str] | None = None,
    conditions: dict[str, Any] | None = None,
) -> Iterator[Step]:
    """Return the sampling steps of samples first … first + count - 1; image k has prompt k.

    Raises MinidiffError at once, before the first step, for settings that the model cannot use.
    """
    shown: dict[str, Any] = {} if prompts is None else {"prompt": prompts}
    return model.generate(
        count,
        sampler=config.sampler,
        steps=config.steps,
        spacing=config.spacing,
        eta=config.eta,
        guidance_scale=config.guidance_scale,
        clip=config.clip,
        seed=config.seed,
        first=first,
        **shown,
        **(conditions or {}),
    )
