"""What the reports of all models have in common: the settings in JSON, and the lines of the table.

Idea: a number is worth little without what it was measured on, so settings, seeds, counts and intervals are stored with
it.  A table is made from the dictionary that becomes the JSON file, and holds nothing else.
Leaves out what is measured: labels/report.py, scenes/report.py, autoencoder/report.py.
"""

import math
import platform
from pathlib import Path
from typing import Any

import numpy as np

from minidiff import __version__, backend
from minidiff.checkpoint.settings import to_dict
from minidiff.evaluation.heldout import HeldOutLoss
from minidiff.evaluation.metrics.frechet import Frechet
from minidiff.evaluation.metrics.intervals import wilson
from minidiff.evaluation.samples import EvaluationSampling
from minidiff.files import sha256
from minidiff.pipeline.pipeline import Pipeline

VERSION = 1  # of the JSON; incremented when a key changes its meaning
WIDTH = 17  # characters of a line before its text


def summary(
    model: Pipeline,
    sampling: EvaluationSampling,
    loss: HeldOutLoss,
    seconds: dict[str, float],
    results: dict[str, Any],
) -> dict[str, Any]:
    """Return the dictionary for JSON of a model that draws: the results, the held-out loss, and the settings."""
    held_out = {**plus_minus("mean", "standard_error", loss.overall()), "count": len(loss.losses)}
    return complete(model.path, model.step, to_dict(sampling), {**results, "held_out_loss": held_out}, seconds)


def complete(
    path: Path, step: int, settings: dict[str, Any], results: dict[str, Any], seconds: dict[str, float]
) -> dict[str, Any]:
    """Return the dictionary for JSON: the results, and everything that they depend on.

    path, step: of the checkpoint.
    Equal checkpoints, data, classifiers and settings give equal dictionaries, except for `seconds` and `versions`.
    """
    current = backend.current()
    return {
        "version": VERSION,
        "checkpoint": {"path": path.as_posix(), "sha256": sha256(path), "step": step},
        "settings": {**settings, "backend": current.name, "threads": current.threads()},
        **results,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "versions": {"minidiff": __version__, "python": platform.python_version(), "numpy": np.__version__},
    }


def share(right: float, of: int) -> dict[str, Any]:
    """Return a share with its 95% interval; `right` may be the mean of two counts."""
    return {"share": right / of, "interval_95": list(wilson(round(right), of)), "right": right, "of": of}


def plus_minus(value_name: str, error_name: str, value: tuple[float, float]) -> dict[str, float | None]:
    """Return a value and its error by name; an error that is nan becomes None, since JSON has no nan."""
    return {value_name: value[0], error_name: None if math.isnan(value[1]) else value[1]}


def frechet(distances: Frechet | None, features: int) -> dict[str, Any] | None:
    """Return Fréchet distances, and the number of features that they compare, for JSON."""
    if distances is None:
        return None
    return {
        "samples_to_real": plus_minus("distance", "deviation", distances.samples),
        "real_to_real": plus_minus("distance", "deviation", distances.real),
        "images_in_each_set": distances.n,
        "features": features,
    }


def frechet_rows(found: dict[str, Any]) -> list[str]:
    """Return the lines of what `frechet` returned."""
    samples, real = (with_error(found[key], "distance") for key in ("samples_to_real", "real_to_real"))
    return [
        row("Fréchet distance", f"{samples} from the samples to real images"),
        row(
            "",
            f"{real} from other real images to them ({found['images_in_each_set']} in each set, "
            f"{found['features']} features)",
        ),
    ]


def row(label: str, text: str) -> str:
    """Return a line of a table."""
    return f"{label:<{WIDTH}}{text}"


def checkpoint_row(result: dict[str, Any]) -> str:
    """Return the line that names the checkpoint."""
    return row("checkpoint", f"{result['checkpoint']['path']}, step {result['checkpoint']['step']}")


def samples_row(settings: dict[str, Any], what: str = "") -> str:
    """Return the line that says how the samples were drawn; what: the things that are counted, after their number."""
    eta = f", eta {settings['eta']:g}" if settings["eta"] else ""
    return row(
        "samples",
        f"{settings['count']} {what}by {settings['sampler']} in {settings['steps']} steps{eta}, "
        f"guidance scale {settings['guidance_scale']:g}, seed {settings['seed']}, on {settings['backend']}",
    )


def loss_row(loss: dict[str, Any]) -> str:
    """Return the line of the held-out loss."""
    return row("held-out loss", f"{with_error(loss, 'mean')} ({loss['count']} fixed images, timesteps and noises)")


def with_error(values: dict[str, Any], name: str) -> str:
    """Write a value and, if it has one, its error: "0.1234 ± 0.0056"."""
    error = next(value for key, value in values.items() if key in ("deviation", "standard_error"))
    return f"{values[name]:.4f}" + ("" if error is None else f" ± {error:.4f}")


def percent(values: dict[str, Any]) -> str:
    """Write a share with its interval: " 95.0%  (88.8 to 97.8; 95 of 100)"."""
    low, high = (100 * end for end in values["interval_95"])
    return f"{100 * values['share']:5.1f}%  ({low:.1f} to {high:.1f}; {values['right']} of {values['of']})"
