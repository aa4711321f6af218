"""A trained model that is ready to draw: what `minidiff.load` returns.

Idea: three lines are all that a user of a model needs.

    import minidiff
    model = minidiff.load("runs/my-run")
    images = model.sample(8, prompt="a dog in a winter forest")        # (8, H, W, C) uint8

`Pipeline` adds to `Model` (model.py) the methods `sample`, `generate` and `prepare`.  Their keywords are the fields of
`SamplingSettings` and `Inputs`, see settings.py.
Leaves out reading files (loading.py), and showing and writing images (sampling/).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidiff.diffusion.guidance import OnPrediction
from minidiff.diffusion.run import Step
from minidiff.images.files import to_uint8
from minidiff.limits import check_limits
from minidiff.pipeline.model import Model
from minidiff.pipeline.plan import Plan
from minidiff.pipeline.prepare import prepare
from minidiff.pipeline.settings import Inputs, Label, SamplingSettings, from_keywords


@dataclass(frozen=True, eq=False)
class Pipeline(Model):
    """A model that can `sample` images, `generate` them step by step, or `prepare` a sampling run."""

    def sample(self, count: int = 1, label: Label = None, *, batch_size: int = 64, **keywords: Any) -> np.ndarray:
        """Draw images: (count, H, W, C) uint8.

        batch_size: how many at once.  keywords: fields of `SamplingSettings` and `Inputs`, such as prompt="a dog" and
        seed=3.
        Image k is the same whatever count and batch_size are, but for the last bits: matrix products of another size
        may add up in another order.
        Raises MinidiffError for settings that make no sense, and if the images are not finite.
        """
        check_limits({"count": count, "batch_size": batch_size})
        plan = self.prepare(*from_keywords({"label": label, **keywords}))
        parts = []
        for first in range(0, count, batch_size):
            *_, last = plan.steps(first, min(batch_size, count - first), count)
            parts.append(to_uint8(plan.images(last.x_prev)))
        return np.concatenate(parts)

    def generate(
        self,
        count: int = 1,
        label: Label = None,
        *,
        first: int = 0,
        total: int | None = None,
        on_prediction: OnPrediction | None = None,
        **keywords: Any,
    ) -> Iterator[Step]:
        """Draw images in one batch and yield every step; the last one's `x_prev` are the images.

        The steps of a latent model hold latents: `space.decode` makes images of them.

        first: number of the first image; image k has noise of its own, named by k.
        total, on_prediction: see `Plan.steps`.  keywords: fields of `SamplingSettings` and `Inputs`.
        Raises MinidiffError, before the first step, for settings that make no sense; at the last, if the images are
        not finite.
        """
        check_limits({"count": count})
        plan = self.prepare(*from_keywords({"label": label, **keywords}))
        return plan.steps(first, count, total, on_prediction)

    def prepare(self, settings: SamplingSettings, inputs: Inputs) -> Plan:
        """Return a sampling run, checked and encoded, to be drawn in batches; see prepare.py."""
        return prepare(self, settings, inputs)
