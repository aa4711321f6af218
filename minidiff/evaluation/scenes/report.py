"""What the judges of scenes found, as JSON to keep and as a table to read.

Idea: as in report.py, the table is made from the same dictionary as the JSON and cannot say more.
After prompts.py and steering.py.
"""

import platform
from typing import Any

import numpy as np

from minidiff import __version__, backend
from minidiff.checkpoint.settings import to_dict
from minidiff.evaluation.heldout import HeldOutLoss
from minidiff.evaluation.labels.judge import Drawing
from minidiff.evaluation.metrics.intervals import mean_and_error, wilson
from minidiff.evaluation.scenes.prompts import MUST, NEEDED, Heard
from minidiff.evaluation.scenes.steering import ControlVerdict, ReferenceVerdict
from minidiff.files import sha256
from minidiff.pipeline.pipeline import Pipeline


def summary(
    model: Pipeline,
    drawing: Drawing,
    accuracy: dict[str, list[float]],
    facts: tuple[str, ...],
    found: dict[str, dict[str, Heard]],
    loss: HeldOutLoss,
    steered: dict[str, Any],
    seconds: dict[str, float],
) -> dict[str, Any]:
    """Return everything as a dictionary for JSON; steered: what `control` and `reference` return."""
    computer, (mean, error) = backend.current(), mean_and_error(loss.each)
    return {
        "version": 1,
        "checkpoint": {"path": model.path.as_posix(), "sha256": sha256(model.path), "step": model.step},
        "data": {"name": "scenes", "captions": True},
        "settings": {**to_dict(drawing), "backend": computer.name, "threads": computer.threads()},
        "judges": {
            "accuracy": accuracy,
            "needed": NEEDED,
            "asked": list(facts),
            "left_out": [fact for fact in accuracy if fact not in facts],
            "missing": [fact for fact in MUST if fact not in facts],
        },
        "prompts": {kind: {what: _heard(heard) for what, heard in each.items()} for kind, each in found.items()},
        **steered,
        "held_out_loss": {"mean": mean, "standard_error": error, "count": len(loss.each)},
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "versions": {"minidiff": __version__, "python": platform.python_version(), "numpy": np.__version__},
    }


def control(verdict: ControlVerdict, with_: Heard, without: Heard) -> dict[str, Any]:
    """Return what was found out about a ControlNet of edges."""
    edges = verdict.edges
    shares = {"samples": edges.samples, "floor": edges.shuffled, "ceiling": edges.real}
    return {
        "score": edges.score,
        "f1": {name: each.f1 for name, each in shares.items()},
        "mentioned": {"with": _share(with_.mentioned), "without": _share(without.mentioned)},
        "count": len(verdict.with_),
    }


def reference(verdict: ReferenceVerdict, with_: Heard, without: Heard) -> dict[str, Any]:
    """Return what was found out about an adapter of references."""
    errors = {"samples": verdict.error, "shuffled": verdict.shuffled, "real": verdict.real}
    return {
        "median_hue_error": {name: float(np.median(each)) for name, each in errors.items()},
        "subject": {"with": _share(with_.facts["subject"]), "without": _share(without.facts["subject"])},
        "mentioned": {"with": _share(with_.mentioned), "without": _share(without.mentioned)},
        "count": len(verdict.error),
    }


def table(result: dict[str, Any]) -> str:
    """Return the dictionary of `summary` as lines for a terminal."""
    settings, judges, loss = result["settings"], result["judges"], result["held_out_loss"]
    lines = [
        f"checkpoint       {result['checkpoint']['path']}, step {result['checkpoint']['step']}",
        f"samples          {settings['count']} prompts of each kind by {settings['sampler']} in {settings['steps']} "
        f"steps, guidance scale {settings['guidance_scale']:g}, seed {settings['seed']}, on {settings['backend']}",
        "",
        "two judges, right on held-out renders where the fact is visible:",
        *(f"  {fact:<9} " + " and ".join(f"{100 * each:.2f}%" for each in pair)
          + ("" if fact in judges["asked"] else f"   left out, below {judges['needed']:.0%}")
          for fact, pair in judges["accuracy"].items()),
    ]  # fmt: skip
    for kind, each in result["prompts"].items():
        lines += ["", f"{kind} pairs, facts mentioned in prompts{'':8}samples                     floor   ceiling"]
        for fact in (*each["samples"]["facts"], "all mentioned", "whole prompts"):
            samples, floor, ceiling = (_line(each[what], fact) for what in ("samples", "floor", "ceiling"))
            low, high = (100 * end for end in samples["interval_95"])
            shown = f"{100 * samples['share']:6.1f}%  ({low:.1f} to {high:.1f} of {samples['of']})"
            lines.append(f"  {fact:<30} {shown:<36} {100 * floor['share']:5.1f}%   {100 * ceiling['share']:5.1f}%")
    if found := result.get("control"):
        f1, heard = found["f1"], found["mentioned"]
        lines += [
            "",
            f"control          {found['score']:.3f} of the way from the floor to the ceiling: F1 of edges "
            f"{f1['samples']:.3f}, of other maps {f1['floor']:.3f}, of real renders {f1['ceiling']:.3f} "
            f"({found['count']})",
            f"                 facts of prompts {_both(heard)}",
        ]
    if found := result.get("reference"):
        hue = found["median_hue_error"]
        lines += [
            "",
            f"reference        median hue error {hue['samples']:.1f}°, of other references {hue['shuffled']:.1f}°, "
            f"of real renders {hue['real']:.1f}° ({found['count']})",
            f"                 subject {_both(found['subject'])}; facts of prompts {_both(found['mentioned'])}",
        ]
    lines += ["", f"held-out loss    {loss['mean']:.4f} ± {loss['standard_error']:.4f} ({loss['count']} fixed triples)"]
    return "\n".join(lines)


def _heard(heard: Heard) -> dict[str, Any]:
    facts = {fact: _share(pair) for fact, pair in heard.facts.items()}
    return {"facts": facts, "all mentioned": _share(heard.mentioned), "whole prompts": _share(heard.whole)}


def _line(each: dict[str, Any], fact: str) -> dict[str, Any]:
    return each["facts"][fact] if fact in each["facts"] else each[fact]


def _share(pair: tuple[float, int]) -> dict[str, Any]:
    right, of = pair
    return {"share": right / of, "interval_95": list(wilson(round(right), of)), "right": right, "of": of}


def _both(pair: dict[str, Any]) -> str:
    return f"{100 * pair['with']['share']:.1f}% with, {100 * pair['without']['share']:.1f}% without"
