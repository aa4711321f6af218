"""A sampling run that is ready to start: all defaults filled in, prompts encoded, settings checked.

Idea: what is the same for all batches is done once (prepare.py).  `Plan.steps` then draws one batch and needs only the
numbers of its images.
Leaves out the samplers: diffusion/.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidiff.backend import to_numpy
from minidiff.diffusion.guidance import Denoise, OnPrediction, denoiser
from minidiff.diffusion.run import Noise, Run, Step
from minidiff.diffusion.schedule import Level
from minidiff.diffusion.solvers import SAMPLERS
from minidiff.errors import MinidiffError
from minidiff.pipeline.model import Model, in_turn
from minidiff.pipeline.settings import SAMPLER_SETTINGS, Defaults, Inputs, SamplingSettings


@dataclass(frozen=True, eq=False)
class Plan:
    """A sampling run of a model.

    settings: with steps and guidance_scale filled in.  levels: the noise levels that the sampler visits.
    labels: what the images are conditioned on in turn, (n,) or (n, L), or None.  negative: likewise, (n, L) or None.
    guided: the lowest and the highest t of the network at which guidance is used.
    """

    model: Model
    settings: SamplingSettings
    inputs: Inputs
    levels: Sequence[Level]
    labels: np.ndarray | None
    negative: np.ndarray | None
    guided: tuple[float, float]

    def steps(
        self, first: int, count: int, total: int | None = None, on_prediction: OnPrediction | None = None
    ) -> Iterator[Step]:
        """Draw images first … first + count - 1 in one batch; yield every step, the last one's x_prev are the images.

        total: the number of images in all batches, by default first + count.  It matters only for diffusers models,
        whose noise is one stream for all images.
        on_prediction: is called with every `guidance.Prediction`.
        Raises MinidiffError, before the first step, for inputs that do not fit; at the last, if the images are not
        finite.
        """
        return self._finite(self.unchecked_steps(first, count, total, on_prediction))

    def unchecked_steps(
        self, first: int, count: int, total: int | None = None, on_prediction: OnPrediction | None = None
    ) -> Iterator[Step]:
        """As `steps`, but the images may be anything: previews show what a training has come to."""
        model, inputs = self.model, self.inputs
        network, samples = model.adapted(inputs, first, count), np.arange(first, first + count)
        labels, negative = (
            None if turns is None else in_turn(turns, first, count) for turns in (self.labels, self.negative)
        )
        scale = self.settings.guidance_scale
        assert scale is not None  # as `prepare` has filled it in
        sample = self._sampler(denoiser(network, labels, scale, negative, self.guided, on_prediction))
        if inputs.edit is None:
            noise = model.noise(
                self.settings.seed, samples, first + count if total is None else max(total, first + count)
            )
            return sample(noise.start(model.shape), self.levels, noise)
        plain = denoiser(network, labels)  # inversion needs the learnt prediction, without guidance
        noise = Noise(self.settings.seed, samples)
        return inputs.edit.start(sample, plain, model.process, self.levels, noise, model.shape)

    def labels_of(self, count: int) -> np.ndarray | None:
        """Return what the first `count` images are conditioned on: labels (count,), captions (count, L), or None."""
        return None if self.labels is None else in_turn(self.labels, 0, count)

    def _sampler(self, denoise: Denoise) -> Callable[[Any, Sequence[Level], Any], Iterator[Step]]:
        """Return the sampler as a function of x, levels and noise: all settings are settled."""
        process, defaults, settings = self.model.process, self.model.defaults, self.settings
        clip = defaults.clip if settings.clip is None else settings.clip
        keep_eps, ends = False, None
        if settings.sampler == "ddim":
            keep_eps = defaults.keep_eps
            if defaults.ends is not None and self.inputs.edit is None:
                ends = defaults.ends(process.schedule, self.levels)
        sampler = functools.partial(SAMPLERS[settings.sampler], **sampler_settings(settings, defaults))

        def sample(x: Any, levels: Sequence[Level], noise: Any) -> Iterator[Step]:
            return sampler(Run(denoise, process, levels, noise, clip, keep_eps, ends), x)

        return sample

    def _finite(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Yield the steps; raise MinidiffError if the images of the last one are not finite."""
        for step in steps:
            if step.index + 1 == step.steps and not np.isfinite(to_numpy(step.x_prev)).all():
                raise MinidiffError(
                    f"the images that {self.model.path} draws are not finite: either its weights are not, or the "
                    "settings make numbers overflow; try a smaller guidance scale, and clip"
                )
            yield step


def sampler_settings(settings: SamplingSettings, defaults: Defaults) -> dict[str, Any]:
    """Return the settings that the sampler alone takes, by `SAMPLER_SETTINGS`, with the model's defaults filled in."""
    own = {name: getattr(settings, name) for name in SAMPLER_SETTINGS.get(settings.sampler, ())}
    own = {name: getattr(defaults, name) if value is None else value for name, value in own.items()}
    return own | ({"noisy_end": defaults.noisy_end} if settings.sampler == "ddpm" else {})
