"""The report of a model that draws scenes: a dictionary for JSON and a table.

Idea: see evaluation/report.py, which holds what this report has in common with that of class labels.
"""

from typing import Any

import numpy as np

from minidiff.evaluation import report
from minidiff.evaluation.heldout import HeldOutLoss
from minidiff.evaluation.report import row, share
from minidiff.evaluation.samples import EvaluationSampling
from minidiff.evaluation.scenes.attributes import FEATURES
from minidiff.evaluation.scenes.edges import EdgeControl
from minidiff.evaluation.scenes.prompts import MIN_ACCURACY, REQUIRED_FACTS, PromptAccuracy, PromptResults
from minidiff.evaluation.scenes.steering import ControlResults, ReferenceResults
from minidiff.pipeline.pipeline import Pipeline


def summary(
    model: Pipeline,
    sampling: EvaluationSampling,
    size: int,
    accuracy: dict[str, list[float]],
    facts: tuple[str, ...],
    by_kind: dict[str, PromptResults],
    loss: HeldOutLoss,
    adapters: dict[str, Any],
    seconds: dict[str, float],
) -> dict[str, Any]:
    """Return all results and settings as a dictionary for JSON.

    size: height and width of the images that the classifiers look at.
    accuracy, facts: as `measure_classifiers` returns them.  by_kind: as `evaluate_prompts` returns it.
    adapters: the dictionaries that `control` and `reference` return, under these names.
    """
    return report.summary(
        model,
        sampling,
        loss,
        seconds,
        {
            "data": {"name": "scenes", "captions": True},
            "judges": {
                "size": [size, size],
                "accuracy": accuracy,
                "needed": MIN_ACCURACY,
                "asked": list(facts),
                "left_out": [fact for fact in accuracy if fact not in facts],
                "missing": [fact for fact in REQUIRED_FACTS if fact not in facts],
            },
            "prompts": {
                kind: {side: shares(getattr(each, side)) for side in ("samples", "floor", "ceiling")}
                for kind, each in by_kind.items()
            },
            "frechet": {kind: report.frechet(each.frechet, FEATURES) for kind, each in by_kind.items()},
            **adapters,
        },
    )


def control(results: ControlResults, with_: PromptAccuracy, without: PromptAccuracy) -> dict[str, Any]:
    """Return the results of a ControlNet of edge maps.  with_, without: accuracy of samples with maps and without."""
    return {
        **_edges(results.edges),
        "whole": {"size": list(results.with_.shape[1:3]), **_edges(results.whole)},
        "mentioned": {"with": share(*with_.mentioned), "without": share(*without.mentioned)},
        "count": len(results.with_),
    }


def _edges(edges: EdgeControl) -> dict[str, Any]:
    sides = {"samples": edges.samples, "floor": edges.shuffled, "ceiling": edges.real}
    return {"score": edges.score, "f1": {side: each.f1 for side, each in sides.items()}}


def reference(results: ReferenceResults, with_: PromptAccuracy, without: PromptAccuracy) -> dict[str, Any]:
    """Return the results of an IP-Adapter.  with_, without: accuracy of samples with references and without."""
    errors = {"samples": results.error, "shuffled": results.shuffled, "real": results.real}
    subject = {"with": share(*with_.by_fact["subject"]), "without": share(*without.by_fact["subject"])}
    return {
        "median_hue_error": {name: float(np.median(each)) for name, each in errors.items()},
        "subject": subject,
        "mentioned": {"with": share(*with_.mentioned), "without": share(*without.mentioned)},
        "count": len(results.error),
    }


def shares(accuracy: PromptAccuracy) -> dict[str, Any]:
    """Return the shares of a `PromptAccuracy` for JSON."""
    facts = {fact: share(*pair) for fact, pair in accuracy.by_fact.items()}
    return {"facts": facts, "all mentioned": share(*accuracy.mentioned), "whole prompts": share(*accuracy.whole)}


def table(result: dict[str, Any]) -> str:
    """Return the dictionary of `summary` as lines for a terminal."""
    height, width = result["judges"]["size"]
    lines = [
        report.checkpoint_row(result),
        report.samples_row(result["settings"], "prompts of each kind "),
        "",
        f"two classifiers of {height}×{width} images, accuracy on held-out renders that show the fact:",
        *_classifier_rows(result["judges"]),
    ]
    for kind, by_side in result["prompts"].items():
        lines += ["", *_prompt_rows(kind, by_side), *report.frechet_rows(result["frechet"][kind])]
    if "control" in result:
        lines += ["", *_control_rows(result["control"], result["judges"]["size"])]
    if "reference" in result:
        lines += ["", *_reference_rows(result["reference"])]
    return "\n".join([*lines, "", report.loss_row(result["held_out_loss"])])


def _classifier_rows(judges: dict[str, Any]) -> list[str]:
    lines = []
    for fact, accuracies in judges["accuracy"].items():
        left_out = "" if fact in judges["asked"] else f"   left out, below {judges['needed']:.0%}"
        lines.append(f"  {fact:<9} " + " and ".join(f"{100 * each:.2f}%" for each in accuracies) + left_out)
    return lines


def _prompt_rows(kind: str, by_side: dict[str, Any]) -> list[str]:
    lines = [f"{kind} pairs, facts mentioned in prompts{'':8}samples                     floor   ceiling"]
    sides = [{**each["facts"], **each} for each in (by_side["samples"], by_side["floor"], by_side["ceiling"])]
    for fact in (*by_side["samples"]["facts"], "all mentioned", "whole prompts"):
        samples, floor, ceiling = (side[fact] for side in sides)
        low, high = (100 * end for end in samples["interval_95"])
        text = f"{100 * samples['share']:6.1f}%  ({low:.1f} to {high:.1f} of {samples['of']})"
        lines.append(f"  {fact:<30} {text:<36} {100 * floor['share']:5.1f}%   {100 * ceiling['share']:5.1f}%")
    return lines


def _control_rows(found: dict[str, Any], judged: list[int]) -> list[str]:
    f1, whole = found["f1"], found["whole"]
    rows = [
        row(
            "control",
            f"{found['score']:.3f} of the way from the floor to the ceiling: F1 of edges {f1['samples']:.3f}, with the "
            f"maps of other images {f1['floor']:.3f}, of real renders {f1['ceiling']:.3f} ({found['count']})",
        )
    ]
    if whole["size"] != judged:
        f1, (height, width) = whole["f1"], whole["size"]
        sides = ", ".join(f"{f1[side]:.3f}" for side in ("samples", "floor", "ceiling"))
        rows.append(row("", f"not reduced, at {height}×{width}: {whole['score']:.3f}; F1 {sides}"))
    return [*rows, row("", f"facts of prompts {_with_and_without(found['mentioned'])}")]


def _reference_rows(found: dict[str, Any]) -> list[str]:
    hue, mentioned = found["median_hue_error"], _with_and_without(found["mentioned"])
    return [
        row(
            "reference",
            f"median hue error {hue['samples']:.1f}°, with other references {hue['shuffled']:.1f}°, "
            f"of real renders {hue['real']:.1f}° ({found['count']})",
        ),
        row("", f"subject {_with_and_without(found['subject'])}; facts of prompts {mentioned}"),
    ]


def _with_and_without(pair: dict[str, Any]) -> str:
    return f"{100 * pair['with']['share']:.1f}% with, {100 * pair['without']['share']:.1f}% without"
