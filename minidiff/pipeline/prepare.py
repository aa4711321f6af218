"""Preparing a sampling run: all that is done once, whatever the number of batches.

Idea: defaults are filled in, prompts become token ids, and settings are checked before the first image is drawn.  The
result is a `Plan` (plan.py), which draws batch by batch.
Leaves out the inputs of adapters, which `Plan.steps` checks when it draws.
"""

import math
from dataclasses import replace

import numpy as np

from minidiff.diffusion.edit import Edit
from minidiff.diffusion.process import Process
from minidiff.errors import MinidiffError
from minidiff.pipeline.model import Model
from minidiff.pipeline.plan import Plan
from minidiff.pipeline.settings import Inputs, SamplingSettings


def prepare(model: Model, settings: SamplingSettings, inputs: Inputs) -> Plan:
    """Fill in defaults, encode prompts and check everything that does not depend on the batch.

    Raises MinidiffError for settings that do not fit the sampler, the model or each other.
    """
    settings.check()
    inputs.check()
    if settings.clip not in (None, "none") and model.space.clip == "none":
        raise MinidiffError(f"latents have no range that they could be cut to: clip must be none, got {settings.clip}")
    labels = model.conditioning(inputs)
    tokenizer = model.tokenizer
    if labels is None and inputs.reference is not None and tokenizer is not None:
        labels = np.zeros((1, tokenizer.max_tokens), np.int64)  # empty: guidance enlarges what the reference adds
    scale = model.guidance(settings.guidance_scale, labels is None)
    negative = None if inputs.negative is None else model.prompts(inputs.negative)
    if negative is not None and (labels is None or scale == 1):
        raise MinidiffError("a negative prompt needs a prompt, and a guidance scale other than 1, to lead away from it")
    settings = replace(settings, steps=model.steps_of(settings.steps), guidance_scale=scale)
    return make_plan(model, settings, inputs, labels, negative)


def make_plan(
    model: Model,
    settings: SamplingSettings,
    inputs: Inputs,
    labels: np.ndarray | None,
    negative: np.ndarray | None = None,
) -> Plan:
    """Return the plan of a run: labels are numbers already, and settings have their steps and guidance scale."""
    defaults, schedule = model.defaults, model.process.schedule
    spacing = defaults.spacing if settings.spacing is None else settings.spacing
    levels = defaults.levels(schedule, model.steps_of(settings.steps), spacing)
    guided = network_interval(model.process, settings.guidance_interval)
    return Plan(model, settings, inputs, levels, labels, negative, guided, edit_of(model, inputs))


def edit_of(model: Model, inputs: Inputs) -> Edit | None:
    """Return the edit as one of what the network denoises.  Raises MinidiffError for images of another size."""
    edit = inputs.edit
    if edit is None:
        return None
    if edit.image.shape != model.shape:
        raise MinidiffError(f"the image must be {model.shape} as the model's are, got {edit.image.shape}")
    return model.space.edit(edit)


def network_interval(process: Process, interval: tuple[float, float] | None) -> tuple[float, float]:
    """Return an interval of sigma as one of the t that the network gets, see `Process.network_t`."""
    if interval is None:
        return -math.inf, math.inf
    low, high = interval
    if not 0 <= low < high:
        raise MinidiffError(f"guidance_interval must be two sigma, the lower one first, got {low:g} and {high:g}")
    schedule = process.schedule
    least, most = schedule.all.sigma[[0, -1]]
    if low > most or high < least:
        return math.inf, -math.inf  # beyond all timesteps: none is guided
    ends = process.network_t(schedule.at_sigma(np.clip([low, high], least, most)))
    return (float(ends[0]) if low > least else -math.inf), (float(ends[1]) if high < most else math.inf)
