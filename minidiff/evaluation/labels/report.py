"""The report of a model with class labels: a dictionary for JSON, a table, and an image of the misread samples.

Idea: see evaluation/report.py, which holds what this report has in common with that of scenes.  A sample is misread if
the classifier predicts another label than the one that the sample was drawn for.
Leaves out measuring (judge.py, with the formulas of metrics/) and printing (minidiff/evaluate.py).
"""

from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from minidiff.data.dataset import Numbered
from minidiff.errors import printable
from minidiff.evaluation import report
from minidiff.evaluation.cache import CachedClassifier
from minidiff.evaluation.labels.classifier import FEATURES
from minidiff.evaluation.labels.judge import LabelResults
from minidiff.evaluation.metrics.intervals import mean_and_error
from minidiff.evaluation.report import percent, plus_minus, row, share, with_error
from minidiff.evaluation.samples import EvaluationSampling
from minidiff.images.files import make_grid
from minidiff.pipeline.pipeline import Pipeline

MAX_CLASSES = 20  # lines in the table; the JSON has all classes
MAX_MISREAD = 40
SIDES = "samples", "real"  # what is compared with real images: the samples, and other real images
TILE, CAPTION = 96, 14  # pixels


def summary(
    model: Pipeline,
    test_set: Numbered,
    classifier: CachedClassifier,
    sampling: EvaluationSampling,
    results: LabelResults,
) -> dict[str, Any]:
    """Return all results and settings as a dictionary for JSON."""
    right = results.predicted == results.labels
    by_class = [
        {"class": name, **share(int(right[results.labels == label].sum()), int((results.labels == label).sum()))}
        for label, name in enumerate(model.classes)
        if (results.labels == label).any()
    ]
    training = {} if classifier.seconds is None else {"classifier": classifier.seconds}
    result = report.summary(
        model,
        sampling,
        results.loss,
        {**training, **results.seconds},
        {
            "data": {"name": test_set.name, "held_out_images": len(test_set), "classes": list(model.classes)},
            "classifier": {
                "file": classifier.path.as_posix(),
                "size": list(classifier.model.size),
                "reduced": classifier.model.size != model.shape[:2],
                **share(results.classifier_correct, results.test_count),
            },
            "read_as_asked": {**share(int(right.sum()), len(right)), "by_class": by_class},
            "frechet": report.frechet(results.frechet, FEATURES),
            "likeness": _likeness(results),
            "misread": [
                {
                    "sample": int(k),
                    "asked": model.classes[results.labels[k]],
                    "read": model.classes[results.predicted[k]],
                }
                for k in np.flatnonzero(~right)
            ],
        },
    )
    result["held_out_loss"]["by_t"] = [
        {"from": first, "to": last, "count": len(each), **plus_minus("mean", "standard_error", mean_and_error(each))}
        for first, last, each in results.loss.buckets(model.process.schedule.T)
    ]
    return result


def _likeness(results: LabelResults) -> dict[str, Any] | None:
    like = results.likeness
    if like is None:
        return None
    return {
        "kid": {side: plus_minus("distance", "deviation", each) for side, each in zip(SIDES, like.kid)},
        "precision": dict(zip(SIDES, like.precision)),
        "recall": dict(zip(SIDES, like.recall)),
        "nearest_training_image": None if like.nearest is None else dict(zip(SIDES, like.nearest)),
    }


def table(result: dict[str, Any]) -> str:
    """Return the dictionary of `summary` as lines for a terminal."""
    data, read, loss = result["data"], result["read_as_asked"], result["held_out_loss"]
    held_out = f"{data['held_out_images']} held-out images"
    height, width = result["classifier"]["size"]
    reduced = f", reduced to {height}×{width}" if result["classifier"]["reduced"] else ""
    lines = [
        report.checkpoint_row(result),
        row("data", f"{data['name']}, {len(data['classes'])} labels, {held_out}"),
        report.samples_row(result["settings"]),
        "",
        row("classifier", f"{percent(result['classifier'])} of the held-out images classified correctly{reduced}"),
        row("read as asked", f"{percent(read)} of the samples show their label"),
        *_class_rows(read["by_class"]),
        "",
    ]
    if frechet := result["frechet"]:
        lines += report.frechet_rows(frechet)
    else:
        lines.append(f"Fréchet distance not measured: only {held_out}")
    if like := result["likeness"]:
        samples, real = (with_error(like["kid"][side], "distance") for side in SIDES)
        lines.append(row("kernel distance", f"{samples}; other real images {real}"))
        for name in ("precision", "recall"):
            samples, real = (f"{100 * like[name][side]:.1f}%" for side in SIDES)
            lines.append(row(name, f"{samples}; other real images {real}"))
        if near := like["nearest_training_image"]:
            samples, real = (f"{near[side]:.3f}" for side in SIDES)
            lines.append(row("nearest", f"{samples} to the nearest training image (median); other real images {real}"))
    lines.append(report.loss_row(loss))
    lines += [f"  t {part['from']:>4} to {part['to']:<4}  {with_error(part, 'mean')}" for part in loss["by_t"]]
    lines.append("")
    lines.append(row("seconds", ", ".join(f"{name} {value:g}" for name, value in result["seconds"].items())))
    return "\n".join(lines)


def _class_rows(by_class: list[dict[str, Any]]) -> list[str]:
    """Return a line for each class; of more than MAX_CLASSES the classes with the lowest shares, in their order."""
    worst = sorted(by_class, key=lambda line: line["share"])[:MAX_CLASSES]
    shown = [line for line in by_class if line in worst]
    width = min(20, max(len(line["class"]) for line in shown))
    lines = [f"  {printable(line['class'], 20):<{width}}  {percent(line)}" for line in shown]
    if len(shown) < len(by_class):
        lines.append(f"  … the worst {len(shown)} of {len(by_class)} labels")
    return lines


def misread_sheet(results: LabelResults, classes: tuple[str, ...]) -> np.ndarray | None:
    """Draw misread samples over "label > predicted label": one image (H, W, 3) uint8, or None if there are none."""
    wrong = np.flatnonzero(results.predicted != results.labels)[:MAX_MISREAD]
    if not len(wrong):
        return None
    height, width = results.samples.shape[1:3]
    zoom = max(1, TILE // max(height, width))
    across, down = max(TILE, zoom * width), zoom * height + CAPTION
    tiles = []
    for k in wrong:
        tile = np.full((down, across, 3), 255, np.uint8)
        left = (across - zoom * width) // 2
        tile[: zoom * height, left : left + zoom * width] = results.samples[k].repeat(zoom, 0).repeat(zoom, 1)
        canvas = Image.fromarray(tile)
        text = printable(f"{classes[results.labels[k]]} > {classes[results.predicted[k]]}")
        ImageDraw.Draw(canvas).text((across / 2, down), text, (60, 60, 67), ImageFont.load_default(), anchor="mb")
        tiles.append(np.asarray(canvas))
    return make_grid(np.stack(tiles), zoom=1, gap=4)
