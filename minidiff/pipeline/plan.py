"""A sampling run that is ready to start: all defaults filled in, prompts encoded, settings checked.

Idea: what is the same for all batches is done once (prepare.py).  `Plan.steps` then draws one batch and needs only the
numbers of its images.  A run whose network outputs were kept can be repeated up to any step without the network
(`Replay`), and go on from there.
Leaves out the samplers: diffusion/.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minidiff.backend import to_device, to_numpy
from minidiff.diffusion.clipping import Clipping
from minidiff.diffusion.edit import Edit
from minidiff.diffusion.guidance import Denoise, OnPrediction, denoiser
from minidiff.diffusion.run import Noise, Run, Step
from minidiff.diffusion.schedule import Level
from minidiff.diffusion.solvers import SAMPLERS
from minidiff.errors import MinidiffError
from minidiff.pipeline.model import Model, in_turn
from minidiff.pipeline.settings import SAMPLER_SETTINGS, Inputs, SamplingSettings


class Replay:
    """The outputs of the network in a sampling run, in the order of its evaluations.

    Called with a function that evaluates the network, it returns one that takes the known outputs first, and keeps
    every further one.  What a sampler remembers of earlier steps is then as it was, whatever the sampler.
    known: outputs of an earlier run with the same settings.  outputs: all outputs so far, on the host.
    """

    def __init__(self, known: Sequence[np.ndarray] = ()) -> None:
        self.outputs = list(known)
        self._next = 0

    def __call__(self, denoise: Denoise) -> Denoise:
        def replayed(x_t: np.ndarray, t: float) -> np.ndarray:
            if self._next == len(self.outputs):
                output = denoise(x_t, t)
                self.outputs.append(np.array(to_numpy(output)))  # a copy: backends use their memory again
                self._next += 1
                return output
            self._next += 1
            return to_device(self.outputs[self._next - 1])

        return replayed


@dataclass(frozen=True, eq=False)
class Plan:
    """A sampling run of a model.

    settings: with steps and guidance_scale filled in.  levels: the noise levels that the sampler visits.
    edit: that of the inputs, of what the network denoises: images, or latents.
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
    edit: Edit | None

    def steps(
        self,
        first: int,
        count: int,
        total: int | None = None,
        on_prediction: OnPrediction | None = None,
        replay: Replay | None = None,
    ) -> Iterator[Step]:
        """Draw images first … first + count - 1 in one batch; yield every step, the last one's x_prev are the images.

        Of a latent model, the steps hold latents; `images` and `shown` make images of them.

        total: the number of images in all batches, by default first + count.  It matters only for diffusers models,
        whose noise is one stream for all images.
        on_prediction: is called with every `guidance.Prediction`.
        replay: takes the place of the network for the evaluations that it knows, see `Replay`.
        Raises MinidiffError, before the first step, for inputs that do not fit; at the last, if the images are not
        finite.
        """
        return self._finite(self.unchecked_steps(first, count, total, on_prediction, replay))

    def unchecked_steps(
        self,
        first: int,
        count: int,
        total: int | None = None,
        on_prediction: OnPrediction | None = None,
        replay: Replay | None = None,
    ) -> Iterator[Step]:
        """As `steps`, but the images may be anything: previews show what a training has come to."""
        denoise, plain = self.denoisers(first, count, on_prediction)
        if replay is not None:
            denoise, plain = replay(denoise), replay(plain)
        return self.start(denoise, plain, self.noise(first, count, total))

    def denoisers(self, first: int, count: int, on_prediction: OnPrediction | None = None) -> tuple[Denoise, Denoise]:
        """Return the network as the sampler evaluates it, and as inversion does: without guidance.

        Raises MinidiffError for inputs that do not fit.
        """
        network = self.model.adapted(self.inputs, first, count)
        labels, negative = (
            None if turns is None else in_turn(turns, first, count) for turns in (self.labels, self.negative)
        )
        scale = self.settings.guidance_scale
        assert scale is not None  # as `prepare` has filled it in
        return denoiser(network, labels, scale, negative, self.guided, on_prediction), denoiser(network, labels)

    def noise(self, first: int, count: int, total: int | None = None) -> Any:
        """Return the noise of images first … first + count - 1; of an edit it is minidiff's own in all models."""
        samples = np.arange(first, first + count)
        if self.edit is not None:
            return Noise(self.settings.seed, samples)
        return self.model.noise(
            self.settings.seed, samples, first + count if total is None else max(total, first + count)
        )

    def start(self, denoise: Denoise, plain: Denoise, noise: Any) -> Iterator[Step]:
        """Start the sampler: from noise, or from the image of an edit.  denoise, plain: see `denoisers`."""
        model, sample = self.model, self._sampler(denoise)
        if self.edit is None:
            return sample(noise.start(model.noise_shape), self.levels, noise)
        return self.edit.start(sample, plain, model.process, self.levels, noise, model.noise_shape)

    def resume(self, denoise: Denoise, step: Step, noise: Any) -> Iterator[Step]:
        """Start the sampler where another one has finished `step`; its steps count from 0 again."""
        rest = self.levels[step.index - step.steps :]  # of an edit there are fewer steps than levels: the last ones
        if isinstance(noise, Noise):
            noise = replace(noise, first=noise.first + step.index + 1)
        if self.edit is None:
            return self._sampler(denoise)(step.x_prev, rest, noise)
        return self.edit.resume(self._sampler(denoise), step.x_prev, rest, noise)

    def images(self, x: Any) -> Any:
        """Return the finished images (N, H, W, C) float32 of the last step's x_prev."""
        return self.model.space.finish(x, self.inputs.edit)

    def shown(self, step: Step) -> Step:
        """Return a step to look at, with images: previews, and of the last step the finished x0_hat and x_prev."""
        preview = self.model.space.preview
        x_t = preview(step.x_t)
        if step.index + 1 < step.steps:
            return replace(step, x_t=x_t, x0_hat=preview(step.x0_hat), x_prev=preview(step.x_prev))
        x_prev = self.images(step.x_prev)
        same = np.array_equal(to_numpy(step.x0_hat), to_numpy(step.x_prev))  # with most samplers: decoded once
        return replace(step, x_t=x_t, x0_hat=x_prev if same else self.images(step.x0_hat), x_prev=x_prev)

    def labels_of(self, count: int) -> np.ndarray | None:
        """Return what the first `count` images are conditioned on: labels (count,), captions (count, L), or None."""
        return None if self.labels is None else in_turn(self.labels, 0, count)

    def _sampler(self, denoise: Denoise) -> Callable[[Any, Sequence[Level], Any], Iterator[Step]]:
        """Return the sampler as a function of x, levels and noise: all settings are settled."""
        process, defaults = self.model.process, self.model.defaults
        name, own, clip = self.sampler_settings
        keep_eps, ends = False, None
        if name == "ddim":
            keep_eps = defaults.keep_eps
            if defaults.ends is not None and self.edit is None:
                ends = defaults.ends(process.schedule, self.levels)
        sampler = functools.partial(SAMPLERS[name], **own)

        def sample(x: Any, levels: Sequence[Level], noise: Any) -> Iterator[Step]:
            rest = None if ends is None else ends[1 - len(levels) :]
            return sampler(Run(denoise, process, levels, noise, clip, keep_eps, rest), x)

        return sample

    @property
    def sampler_settings(self) -> tuple[str, dict[str, Any], str | Clipping]:
        """The sampler, the settings of its own (`SAMPLER_SETTINGS`), and how x0_hat is clipped; defaults filled in."""
        settings, defaults = self.settings, self.model.defaults
        own = {name: getattr(settings, name) for name in SAMPLER_SETTINGS.get(settings.sampler, ())}
        own = {name: getattr(defaults, name) if value is None else value for name, value in own.items()}
        own |= {"noisy_end": defaults.noisy_end} if settings.sampler == "ddpm" else {}
        return settings.sampler, own, defaults.clip if settings.clip is None else settings.clip

    def _finite(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Yield the steps; raise MinidiffError if the images of the last one are not finite."""
        for step in steps:
            if step.index + 1 == step.steps and not np.isfinite(to_numpy(step.x_prev)).all():
                raise MinidiffError(
                    f"the images that {self.model.path} draws are not finite: either its weights are not, or the "
                    "settings make numbers overflow; try a smaller guidance scale, and clip"
                )
            yield step
