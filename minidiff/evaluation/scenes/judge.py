"""A model of scenes before its judges: are prompts heard, are drawings and references followed?

Idea: one way of drawing, the user's settings, for all questions; each question brings prompts and what is shown.
After scenes_report.py.  Leaves out models with labels: judge.py.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minidiff.diffusion.run import Step
from minidiff.errors import MinidiffError
from minidiff.evaluation.heldout import TRIPLES, held_out_loss
from minidiff.evaluation.labels.judge import Drawing
from minidiff.evaluation.scenes import report as scenes_report
from minidiff.evaluation.scenes.attributes import Attributes
from minidiff.evaluation.scenes.prompts import FIRST, counted, heard, listen
from minidiff.evaluation.scenes.steering import judge_control, judge_reference
from minidiff.evaluation.split import EXAM_COUNT, EXAM_FIRST, Subset
from minidiff.images.files import to_uint8
from minidiff.limits import check_limits
from minidiff.pipeline.pipeline import Pipeline
from minidiff.scenes import Scenes

FEWEST = 8  # prompts, for each fact to be mentioned


def check(model: Pipeline, drawing: Drawing) -> None:
    """Raise MinidiffError for whatever cannot be judged, before anything takes time."""
    assert model.config is not None  # as it is for checkpoints
    data = model.config.data.data
    if data != "scenes":
        raise MinidiffError(
            f"{model.path} reads prompts about {data}, and nobody knows what those images show: look at its samples"
        )
    check_limits(vars(drawing), "--{}")
    if drawing.count < FEWEST:
        raise MinidiffError(f"--count must be {FEWEST} or more, so that prompts mention enough, got {drawing.count}")
    _steps(model, drawing, ["a"], {}, 0, 1)  # checks its settings at once, and draws nothing before it is asked to


def judge_scenes(
    model: Pipeline, judges: list[Attributes], drawing: Drawing, tell: Callable[[int], Any] = lambda done: None
) -> dict[str, Any]:
    """Draw, have the judges read, and return what `scenes_report.summary` makes of it.

    tell: called after each sampling step with the number of images it moved.
    """
    size, seed, sample = model.shape[0], drawing.seed, FIRST + np.arange(drawing.count)
    seconds, clock = {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        seconds[name], clock = time.perf_counter() - clock, time.perf_counter()

    def paint(texts: list[str], **shown: np.ndarray) -> np.ndarray:
        return draw(model, drawing, texts, shown, tell)

    accuracy, facts = counted(judges, size)
    lap("exam")
    found = listen(paint, judges, facts, size, seed, drawing.count)
    lap("prompts")
    steered: dict[str, Any] = {}
    if "edges" in model.adapters:
        control = judge_control(paint, size, seed, sample)
        both = (heard(judges, facts, control.asked, images) for images in (control.with_, control.without))
        steered["control"] = scenes_report.control(control, *both)
        lap("control")
    if "reference" in model.adapters:
        reference = judge_reference(paint, size, seed, sample)
        both = (heard(judges, facts, reference.asked, images) for images in (reference.with_, reference.without))
        steered["reference"] = scenes_report.reference(reference, *both)
        lap("reference")
    exam = Subset(Scenes(size, "test", captions=True), EXAM_FIRST, EXAM_COUNT)
    loss = held_out_loss(model.model, model.process, exam, seed, TRIPLES)
    lap("held_out_loss")
    return scenes_report.summary(model, drawing, accuracy, facts, found, loss, steered, seconds)


def draw(
    model: Pipeline, drawing: Drawing, texts: list[str], shown: dict[str, Any], tell: Callable[[int], Any]
) -> np.ndarray:
    """Draw an image for each text: (N, H, W, C) uint8.  shown: maps or references, one each."""
    parts = []
    for first in range(0, len(texts), drawing.batch):
        some = slice(first, first + drawing.batch)
        count = len(texts[some])
        for step in _steps(model, drawing, texts, {name: each[some] for name, each in shown.items()}, first, count):
            x = step.x_prev
            tell(count)
        parts.append(to_uint8(x))
    return np.concatenate(parts)


def _steps(
    model: Pipeline, drawing: Drawing, texts: list[str], shown: dict[str, Any], first: int, count: int
) -> Iterator[Step]:
    return model.generate(
        count,
        prompt=texts,  # which take turns: image k has the k-th
        sampler=drawing.sampler,
        steps=drawing.steps,
        spacing=drawing.spacing,
        eta=drawing.eta,
        guidance_scale=drawing.guidance_scale,
        clip=drawing.clip,
        seed=drawing.seed,
        first=first,
        **shown,
    )
