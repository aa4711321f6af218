"""What the judges found, as a table to read, as JSON to keep, and as an image of what went wrong.

Idea: a number is worth little without what it was measured on, so the settings, the seeds, the counts and the
intervals go wherever the number goes.  The table is made from the same dictionary as the JSON: it cannot say more.
Last of the evaluation's files.
"""

import math
import platform
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from minidiff import __version__, backend
from minidiff.checkpoint.settings import to_dict
from minidiff.data.dataset import Numbered
from minidiff.errors import printable
from minidiff.evaluation.cache import Kept
from minidiff.evaluation.labels.classifier import FEATURES
from minidiff.evaluation.labels.judge import Drawing, Verdict
from minidiff.evaluation.metrics.intervals import mean_and_error, wilson
from minidiff.files import sha256
from minidiff.images.files import make_grid
from minidiff.pipeline.pipeline import Pipeline

VERSION = 1  # of the JSON; goes up when a key changes its meaning
MAX_CLASSES = 20  # lines in the table; the JSON has all of them
MAX_MISREAD = 40
SIDES = "samples", "real"  # what is compared with real images: the samples, and others that are real
TILE, CAPTION = 96, 14  # pixels


def summary(model: Pipeline, exam: Numbered, kept: Kept, drawing: Drawing, verdict: Verdict) -> dict[str, Any]:
    """Return everything as a dictionary for JSON.

    All of it follows from the checkpoint, the data, the classifier and the settings, except `seconds` and `versions`.
    """
    right, computer = verdict.read == verdict.asked, backend.current()
    by_class = [
        {"class": name, **_share(int(right[verdict.asked == label].sum()), int((verdict.asked == label).sum()))}
        for label, name in enumerate(model.classes)
        if (verdict.asked == label).any()
    ]
    frechet = None
    if verdict.frechet is not None:
        found = verdict.frechet
        frechet = {
            "samples_to_real": _plus_minus("distance", "deviation", found.samples),
            "real_to_real": _plus_minus("distance", "deviation", found.real),
            "images_in_each_set": found.n,
            "features": FEATURES,
        }
    likeness = None
    if verdict.likeness is not None:
        like = verdict.likeness
        pairs = {"precision": like.precision, "recall": like.recall}
        likeness = {
            "kid": {side: _plus_minus("distance", "deviation", each) for side, each in zip(SIDES, like.kid)},
            **{name: dict(zip(SIDES, pair)) for name, pair in pairs.items()},
            "nearest_training_image": None if like.nearest is None else dict(zip(SIDES, like.nearest)),
        }
    by_t = [
        {"from": first, "to": last, "count": len(each), **_plus_minus("mean", "standard_error", mean_and_error(each))}
        for first, last, each in verdict.loss.buckets(model.process.schedule.T)
    ]
    overall = _plus_minus("mean", "standard_error", verdict.loss.overall())
    trained = {} if kept.seconds is None else {"classifier": kept.seconds}
    return {
        "version": VERSION,
        "checkpoint": {
            "path": model.path.as_posix(),
            "sha256": sha256(model.path),
            "step": model.step,
        },
        "data": {"name": exam.name, "held_out_images": len(exam), "classes": list(model.classes)},
        "settings": {**to_dict(drawing), "backend": computer.name, "threads": computer.threads()},
        "classifier": {"file": kept.path.as_posix(), **_share(verdict.classifier_right, verdict.exam)},
        "read_as_asked": {**_share(int(right.sum()), len(right)), "by_class": by_class},
        "frechet": frechet,
        "likeness": likeness,
        "held_out_loss": {**overall, "count": len(verdict.loss.t), "by_t": by_t},
        "misread": [
            {"sample": int(k), "asked": model.classes[verdict.asked[k]], "read": model.classes[verdict.read[k]]}
            for k in np.flatnonzero(~right)
        ],
        "seconds": {name: round(value, 1) for name, value in {**trained, **verdict.seconds}.items()},
        "versions": {"minidiff": __version__, "python": platform.python_version(), "numpy": np.__version__},
    }


def table(result: dict[str, Any]) -> str:
    """Return the dictionary of `summary` as lines for a terminal."""
    data, settings, read, loss = (result[key] for key in ("data", "settings", "read_as_asked", "held_out_loss"))
    held_out = f"{data['held_out_images']} held-out images"
    eta = f", eta {settings['eta']:g}" if settings["eta"] else ""
    drawn = (
        f"{settings['count']} by {settings['sampler']} in {settings['steps']} steps{eta}, "
        f"guidance scale {settings['guidance_scale']:g}, seed {settings['seed']}, on {settings['backend']}"
    )
    lines = [
        f"checkpoint       {result['checkpoint']['path']}, step {result['checkpoint']['step']}",
        f"data             {data['name']}, {len(data['classes'])} labels, {held_out}",
        f"samples          {drawn}",
        "",
        f"classifier       {_percent(result['classifier'])} of the held-out images read right",
        f"read as asked    {_percent(read)} of the samples",
    ]
    shown = sorted(read["by_class"], key=lambda line: line["share"])[:MAX_CLASSES]
    shown = [line for line in read["by_class"] if line in shown]
    width = min(20, max(len(line["class"]) for line in shown))
    lines += [f"  {printable(line['class'], 20):<{width}}  {_percent(line)}" for line in shown]
    if len(shown) < len(read["by_class"]):
        lines.append(f"  … the worst {len(shown)} of {len(read['by_class'])} labels")
    lines.append("")
    if frechet := result["frechet"]:
        samples, real = (_pm(frechet[key], "distance") for key in ("samples_to_real", "real_to_real"))
        lines += [
            f"Fréchet distance {samples} from the samples to real images",
            f"                 {real} from other real images to them "
            f"({frechet['images_in_each_set']} in each set, {frechet['features']} features)",
        ]
    else:
        lines.append(f"Fréchet distance not taken: only {held_out}")
    if like := result["likeness"]:
        samples, real = (_pm(like["kid"][side], "distance") for side in SIDES)
        lines.append(f"kernel distance  {samples}; other real images {real}")
        for name in ("precision", "recall"):
            ours, theirs = (100 * like[name][side] for side in SIDES)
            lines.append(f"{name:<16} {ours:.1f}%; other real images {theirs:.1f}%")
        if near := like["nearest_training_image"]:
            lines.append(
                f"nearest          {near[SIDES[0]]:.3f} to the nearest training image, in the median; "
                f"other real images {near[SIDES[1]]:.3f}"
            )
    lines.append(f"held-out loss    {_pm(loss, 'mean')} ({loss['count']} fixed images, times and noises)")
    lines += [f"  t {part['from']:>4} to {part['to']:<4}  {_pm(part, 'mean')}" for part in loss["by_t"]]
    lines.append("")
    lines.append("seconds          " + ", ".join(f"{name} {value:g}" for name, value in result["seconds"].items()))
    return "\n".join(lines)


def misread_sheet(verdict: Verdict, classes: tuple[str, ...]) -> np.ndarray | None:
    """Draw the first misread samples, each over "asked > read": one image (H, W, 3) uint8, or None without any."""
    wrong = np.flatnonzero(verdict.read != verdict.asked)[:MAX_MISREAD]
    if not len(wrong):
        return None
    height, width = verdict.samples.shape[1:3]
    zoom = max(1, TILE // max(height, width))
    across, down = max(TILE, zoom * width), zoom * height + CAPTION
    tiles = []
    for k in wrong:
        tile = np.full((down, across, 3), 255, np.uint8)
        left = (across - zoom * width) // 2
        tile[: zoom * height, left : left + zoom * width] = verdict.samples[k].repeat(zoom, 0).repeat(zoom, 1)
        canvas = Image.fromarray(tile)
        text = printable(f"{classes[verdict.asked[k]]} > {classes[verdict.read[k]]}")
        ImageDraw.Draw(canvas).text((across / 2, down), text, (60, 60, 67), ImageFont.load_default(), anchor="mb")
        tiles.append(np.asarray(canvas))
    return make_grid(np.stack(tiles), zoom=1, gap=4)


def _share(right: int, of: int) -> dict[str, Any]:
    low, high = wilson(right, of)
    return {"share": right / of, "interval_95": [low, high], "right": right, "of": of}


def _plus_minus(value_name: str, error_name: str, value: tuple[float, float]) -> dict[str, float | None]:
    """JSON knows no NaN: the error of a single number is null."""
    return {value_name: value[0], error_name: None if math.isnan(value[1]) else value[1]}


def _percent(share: dict[str, Any]) -> str:
    low, high = (100 * end for end in share["interval_95"])
    return f"{100 * share['share']:5.1f}%  ({low:.1f} to {high:.1f}; {share['right']} of {share['of']})"


def _pm(values: dict[str, Any], name: str) -> str:
    error = next(value for key, value in values.items() if key in ("deviation", "standard_error"))
    return f"{values[name]:.4f}" + ("" if error is None else f" ± {error:.4f}")
