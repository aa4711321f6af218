"""The samples that are evaluated: the settings with which they are drawn, and the function that draws them in batches.

Idea: samples of models with labels and of models with prompts are drawn by one function, with the same settings and the
same default values.
Several processes draw different batches, and all of them receive all images.
Leaves out how an image is drawn: pipeline/plan.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from minidiff.images.files import to_uint8
from minidiff.pipeline.pipeline import Pipeline
from minidiff.pipeline.plan import Plan
from minidiff.pipeline.settings import Inputs, SamplingSettings
from minidiff.processes import world

SAMPLES = 1000  # by default


@dataclass(frozen=True)
class EvaluationSampling(SamplingSettings):
    """How the samples are drawn; their labels cycle through all labels of the data."""

    count: int | None = None
    """Number of samples; of a model that reads prompts, the number of prompts of each kind. Default: 1000. Of an
    autoencoder, the number of held-out images. Default: 2000."""
    seed: int = 0
    """Seed of the samples' noise, and of the choice of held-out images, timesteps and noise for the loss."""
    batch_size: int = 64
    """Images drawn at once; a smaller batch needs less memory."""

    @property
    def number(self) -> int:
        """The number of samples: `count`, or its default."""
        return SAMPLES if self.count is None else self.count


def plan_samples(
    model: Pipeline,
    sampling: EvaluationSampling,
    prompts: list[str] | None = None,
    conditions: dict[str, Any] | None = None,
) -> Plan:
    """Return the plan of the samples: image k has the label, the prompt and the adapter's input whose turn it is.

    conditions: arrays of edge maps ("control") or of reference images ("reference"), one for each prompt.
    Raises MinidiffError for settings that the model cannot use.
    """
    return model.prepare(sampling, Inputs(prompt=prompts, **(conditions or {})))


def generate_samples(
    model: Pipeline,
    sampling: EvaluationSampling,
    prompts: list[str] | None = None,
    conditions: dict[str, Any] | None = None,
    on_step: Callable[[int], Any] = lambda images: None,
) -> np.ndarray:
    """Draw sampling.number samples with labels in turn, or one sample for each prompt: (N, H, W, C) uint8.

    conditions: as in `plan_samples`.  on_step: called after each sampling step with the number of images in the batch;
    with several processes, in as many batches.
    """
    plan, here = plan_samples(model, sampling, prompts, conditions), world.current()
    total = sampling.number if prompts is None else len(prompts)

    def draw(first: int) -> list[np.ndarray]:
        count = min(sampling.batch_size, total - first)
        for step in plan.steps(first, count, total):
            last = step
            on_step(min(sampling.batch_size * here.size, total - first))  # those that all processes draw now
        return [to_uint8(plan.images(last.x_prev))]

    tasks = (partial(draw, first) for first in range(0, total, sampling.batch_size))
    return np.concatenate([images for (images,) in here.in_turn(tasks)])
