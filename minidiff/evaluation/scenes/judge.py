"""Evaluation of a checkpoint that draws scenes: everything that is measured.

Idea: three questions.  Does a sample show what its prompt says?  If the model has a ControlNet, does it follow an edge
map?  If the model has an IP-Adapter, does it follow a reference image?  All samples are drawn with the same settings,
those of the user.  The loss on held-out scenes is measured as well.
Leaves out models with class labels: labels/judge.py.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from minidiff.errors import MinidiffError
from minidiff.evaluation.heldout import TRIPLES, held_out_loss
from minidiff.evaluation.samples import EvaluationSampling, generate_samples, plan_samples
from minidiff.evaluation.scenes import report as scenes_report
from minidiff.evaluation.scenes.attributes import AttributeClassifier
from minidiff.evaluation.scenes.prompts import FIRST, evaluate_prompts, measure_classifiers, prompt_accuracy
from minidiff.evaluation.scenes.steering import judge_control, judge_reference
from minidiff.evaluation.split import TEST_COUNT, TEST_FIRST, Subset
from minidiff.limits import check_limits
from minidiff.pipeline.pipeline import Pipeline
from minidiff.scenes import Scenes

MIN_PROMPTS = 8  # so that every fact is mentioned


def check(model: Pipeline, sampling: EvaluationSampling) -> None:
    """Raise MinidiffError for everything that cannot be evaluated, before any work is done."""
    assert model.config is not None  # as it is for checkpoints
    data = model.config.data.data
    if data != "scenes":
        raise MinidiffError(
            f"{model.path} reads prompts about {data}, for which there is no classifier: look at its samples yourself"
        )
    check_limits(vars(sampling), "--{}")
    if sampling.number < MIN_PROMPTS:
        raise MinidiffError(
            f"--count must be {MIN_PROMPTS} or more, so that every fact is mentioned, got {sampling.number}"
        )
    plan_samples(model, sampling, ["a"])  # checks the settings


def judge_scenes(
    model: Pipeline,
    classifiers: list[AttributeClassifier],
    sampling: EvaluationSampling,
    on_step: Callable[[int], Any] = lambda images: None,
) -> dict[str, Any]:
    """Draw samples, classify them, and return the dictionary of `scenes_report.summary`.

    classifiers: all of one size; larger images are reduced to it.  Edges and hues are those of the whole images.
    on_step: called after each sampling step with the number of images in the batch.
    """
    size, seed, sample = model.shape[0], sampling.seed, FIRST + np.arange(sampling.number)
    seconds, clock = {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        seconds[name], clock = time.perf_counter() - clock, time.perf_counter()

    def generate(texts: list[str], **conditions: np.ndarray) -> np.ndarray:
        return generate_samples(model, sampling, texts, conditions, on_step)

    judged = classifiers[0].size[0]
    accuracy, facts = measure_classifiers(classifiers, judged)
    lap("classifier_test")
    by_kind = evaluate_prompts(generate, classifiers, facts, size, seed, sampling.number)
    lap("prompts")
    adapters: dict[str, Any] = {}
    if "edges" in model.adapters:
        control = judge_control(generate, size, judged, seed, sample)
        both = (
            prompt_accuracy(classifiers, facts, control.prompts, images) for images in (control.with_, control.without)
        )
        adapters["control"] = scenes_report.control(control, *both)
        lap("control")
    if "reference" in model.adapters:
        reference = judge_reference(generate, size, seed, sample)
        both = (
            prompt_accuracy(classifiers, facts, reference.prompts, images)
            for images in (reference.with_, reference.without)
        )
        adapters["reference"] = scenes_report.reference(reference, *both)
        lap("reference")
    test_set = Subset(Scenes(size, "test", captions=True), TEST_FIRST, TEST_COUNT)
    loss = held_out_loss(model.model, model.process, test_set, seed, TRIPLES, space=model.space)
    lap("held_out_loss")
    return scenes_report.summary(model, sampling, judged, accuracy, facts, by_kind, loss, adapters, seconds)
