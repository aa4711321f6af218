"""The report of an autoencoder: a dictionary for JSON, a table, and a sheet of images beside their decoded ones.

Idea: see evaluation/report.py, which holds what this report has in common with the others.  The sheet shows the first
images and then the worst, by PSNR: what an average hides is seen there.
Leaves out measuring (judge.py) and printing (minidiff/evaluate.py).
"""

from pathlib import Path
from typing import Any

import numpy as np

from minidiff.evaluation import report
from minidiff.evaluation.autoencoder.judge import AutoencoderResults
from minidiff.evaluation.report import row
from minidiff.evaluation.scenes.edges import Agreement
from minidiff.images.files import make_grid
from minidiff.nn.autoencoder import AutoencoderConfig
from minidiff.training.autoencoder import COLUMNS, contact_sheet

ROWS = 2  # of the first images on the sheet, and as many of the worst


def summary(
    path: Path,
    step: int,
    config: AutoencoderConfig,
    data: str,
    seed: int,
    results: AutoencoderResults,
) -> dict[str, Any]:
    """Return all results and settings as a dictionary for JSON.

    path, step: of the checkpoint.  data: the name of the dataset.
    """
    ordered, latents, originals = np.sort(results.psnr), results.latents, results.original_edges
    tenth = ordered[: -(-len(ordered) // 10)]
    ratio = results.edges.f1 / originals.f1 if originals is not None and originals.f1 else None
    pixels, numbers = config.height * config.width * config.channels, int(np.prod(config.latent_shape))
    return report.complete(
        path,
        step,
        {"count": len(ordered), "seed": seed},
        {
            "data": {"name": data, "held_out_images": len(ordered), "shape": list(results.images.shape[1:])},
            "autoencoder": {"latent_shape": list(config.latent_shape), "times_fewer_numbers": pixels / numbers},
            "psnr": {
                "mean": float(ordered.mean()),
                "median": float(np.median(ordered)),
                "mean_of_lowest_tenth": float(tenth.mean()),
            },
            "edges": {
                "against": "exact edges" if originals is not None else "edges of the originals",
                "decoded": _agreement(results.edges),
                "originals": None if originals is None else _agreement(originals),
                "ratio": ratio,
            },
            "latents": {
                "mean": latents.mean.tolist(),
                "std": latents.std.tolist(),
                "std_of_distributions": latents.width.tolist(),
                "mean_std_of_distributions": float(latents.width.mean()),
            },
        },
        results.seconds,
    )


def _agreement(found: Agreement) -> dict[str, float]:
    return {"f1": found.f1, "precision": found.precision, "recall": found.recall}


def table(result: dict[str, Any]) -> str:
    """Return the dictionary of `summary` as lines for a terminal."""
    data, inside, psnr, latents = (result[key] for key in ("data", "autoencoder", "psnr", "latents"))
    height, width, _ = data["shape"]
    shape = "×".join(map(str, inside["latent_shape"]))
    lines = [
        report.checkpoint_row(result),
        row("data", f"{data['name']}, {data['held_out_images']} held-out images of {height}×{width}"),
        row("latents", f"{shape}, {inside['times_fewer_numbers']:g} times fewer numbers than the images"),
        "",
        row(
            "PSNR",
            f"{psnr['mean']:.2f} dB on average, median {psnr['median']:.2f}, "
            f"lowest tenth {psnr['mean_of_lowest_tenth']:.2f} on average",
        ),
        *_edge_rows(result["edges"]),
        "",
        "latents by channel: mean and spread, and the mean spread of the encoder's distributions:",
    ]
    columns = latents["mean"], latents["std"], latents["std_of_distributions"]
    for channel, (mean, std, width_) in enumerate(zip(*columns, strict=True)):
        lines.append(f"  {channel:>2}  {mean:8.3f} ± {std:<8.3f}  {width_:.4f}")
    lines.append(f"  {'all':<23}{latents['mean_std_of_distributions']:.4f}")
    return "\n".join(lines)


def _edge_rows(found: dict[str, Any]) -> list[str]:
    lines = [row("edges", f"F1 {found['decoded']['f1']:.3f} of the decoded images against the {found['against']}")]
    if found["originals"] is not None:
        share = "" if found["ratio"] is None else f", of which that is {100 * found['ratio']:.1f}%"
        lines.append(row("", f"F1 {found['originals']['f1']:.3f} of the originals, by the same detector{share}"))
    return lines


def sheet(results: AutoencoderResults) -> np.ndarray:
    """Draw the first images and the worst, each row over its decoded images and their differences: (H, W, 3) uint8."""
    number = ROWS * COLUMNS
    first = np.resize(np.arange(len(results.psnr)), number) if len(results.psnr) < number else np.arange(number)
    worst = np.resize(np.argsort(results.psnr, kind="stable")[:number], number)
    shown = np.concatenate([first, worst])
    return make_grid(contact_sheet(results.images[shown], results.decoded[shown], COLUMNS), COLUMNS, zoom=1)
