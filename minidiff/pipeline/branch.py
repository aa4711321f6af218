"""A sampling run whose settings change on the way: "a dog" for twenty steps, then "a cat".

Idea: a sampler asks for predictions, and does not know whose they are.  So it is enough that, from the branch's step
on, they come from the new prompt, guidance scale, drawing or reference.  The sampler goes on as if nothing had
happened, with all that it remembers: a branch that changes nothing draws the same bits.  Only a change of sampler needs
a new sampler, which starts where the old one stopped: with its images, at their noise level, and with the next fresh
noise.
Leaves out the settings' names and how they are typed: sampling/branches.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minidiff.diffusion.guidance import Denoise, OnPrediction
from minidiff.diffusion.run import Step
from minidiff.errors import MinidiffError
from minidiff.pipeline.model import Model
from minidiff.pipeline.plan import Plan, Replay
from minidiff.pipeline.prepare import prepare
from minidiff.pipeline.settings import Inputs, SamplingSettings


@dataclass(frozen=True, eq=False)
class Branch(Plan):
    """A run that is that of `parent` for the first `at` steps, and goes on with settings and inputs of its own."""

    parent: Plan
    at: int

    def unchecked_steps(
        self,
        first: int,
        count: int,
        total: int | None = None,
        on_prediction: OnPrediction | None = None,
        replay: Replay | None = None,
    ) -> Iterator[Step]:
        """As `Plan.unchecked_steps`; the step numbers are those of the whole run."""
        stages = self.stages()
        denoisers = [plan.denoisers(first, count, on_prediction) for _, plan in stages]
        return _run(stages, denoisers, stages[0][1].noise(first, count, total), replay)

    def stages(self) -> list[tuple[int, Plan]]:
        """Return the plans that draw one after the other, each with the number of its first step."""
        before = self.parent.stages() if isinstance(self.parent, Branch) else [(0, self.parent)]
        return [*(stage for stage in before if stage[0] < self.at), (self.at, self)]


def _run(
    stages: list[tuple[int, Plan]], denoisers: list[tuple[Denoise, Denoise]], noise: Any, replay: Replay | None
) -> Iterator[Step]:
    plan, (predict, plain) = stages[0][1], denoisers[0]

    def denoise(x_t: np.ndarray, t: float) -> np.ndarray:
        return predict(x_t, t)  # the variable below: that of the plan whose turn it is

    through = denoise if replay is None else replay(denoise)
    run = plan.start(through, plain if replay is None else replay(plain), noise)
    following = list(zip(stages[1:], denoisers[1:]))
    done, evaluations = 0, 0  # before the sampler that is at work
    while (step := next(run, None)) is not None:
        if done:
            step = replace(
                step, index=done + step.index, steps=done + step.steps, evaluations=evaluations + step.evaluations
            )
        if stages[-1][0] > step.steps:
            raise MinidiffError(f"a branch must begin after 0 to {step.steps} steps, got {stages[-1][0]}")
        yield step
        if following and following[0][0][0] == step.index + 1 < step.steps:
            before, ((_, plan), (predict, _)) = plan, following.pop(0)
            if plan.sampler_settings != before.sampler_settings:
                run = plan.resume(through, step, noise)
                done, evaluations = step.index + 1, step.evaluations


def branch(parent: Plan, at: int, settings: SamplingSettings, inputs: Inputs) -> Branch:
    """Return the run that leaves `parent` after `at` steps and goes on with other settings and inputs.

    The noise, the noise levels and the image of an edit stay those of `parent`.
    Raises MinidiffError for settings that do not fit, as `prepare`, or that would change one of those.
    """
    for name in ("seed", "steps", "spacing"):
        before, after = getattr(parent.settings, name), getattr(settings, name)
        if after not in (before, None):
            raise MinidiffError(f"a branch keeps the {name} of its run, {before}; got {after}")
    if at < 0:
        raise MinidiffError(f"a branch must begin after 0 or more steps, got {at}")
    model: Model = parent.model
    settings = replace(settings, steps=parent.settings.steps, spacing=parent.settings.spacing)
    own = prepare(model, settings, replace(inputs, edit=parent.inputs.edit))
    return Branch(
        model,
        own.settings,
        own.inputs,
        parent.levels,
        own.labels,
        own.negative,
        own.guided,
        own.edit,
        parent=parent,
        at=at,
    )
