"""What a training shows: grids of samples on the way, and at its end the way itself, from noise to image.

Idea: the noise that a sheet of samples starts from is named by (seed, picture), so every sheet shows the same pictures,
further on.  The averaged weights draw.  Nothing here touches the training's own randomness or weights.
In training/ before loop.py.  Leaves out samplers: diffusion/samplers.py.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from minidiff import pictures
from minidiff.chart import line_chart
from minidiff.data.dataset import Dataset, Pictures
from minidiff.diffusion.guidance import denoiser
from minidiff.diffusion.samplers import Noise, Step, ddim
from minidiff.training.ema import averaged
from minidiff.training.trainer import Trainer

GUIDANCE_SCALE = 3.0  # for labelled data
CAPTIONS = 8  # different ones on a sheet
MOST_COLUMNS = 16  # with more classes than this the sheet is square and shows as many as fit
ANIMATED = 16
ANIMATION_FRAMES, ANIMATION_ZOOM = 25, 2  # noise does not compress: 50 frames four times as large are 7 MB
FRAME_MS, LAST_FRAME_MS = 120, 2500


@dataclass(frozen=True)
class Sheet:
    """A page of samples: about `count` of them, by DDIM in `steps` steps; a column shows one class, or one caption."""

    count: int
    steps: int

    def columns(self, variants: int) -> int:
        square = round(np.sqrt(self.count))
        return variants * max(square // variants, 1) if 0 < variants <= MOST_COLUMNS else square

    def size(self, variants: int) -> int:
        """How many pictures: full rows, at least one."""
        return max(self.count // self.columns(variants), 1) * self.columns(variants)

    def passes(self, variants: int) -> int:
        """How many pictures go through the network to draw the sheet; guided ones twice a step."""
        return self.size(variants) * self.steps * (2 if variants else 1)


PREVIEW = Sheet(count=20, steps=10)  # cheap enough to be looked at every minute
FINAL = Sheet(count=64, steps=50)


def variants(trainer: Trainer) -> int:
    """How many different things a sheet shows: classes or captions, 0 for neither."""
    return len(_different(trainer.dataset)) if trainer.dataset.vocabulary else trainer.network.classes


def examples(trainer: Trainer, count: int) -> np.ndarray:
    """Return the numbers (count,) of the pictures of the data whose captions, or maps, those of a sheet have."""
    data = trainer.dataset
    turns = _different(data) if data.vocabulary else np.arange(min(trainer.network.classes, len(data)))
    return np.resize(turns, count) if len(turns) else np.zeros(count, np.int64)


def labels(trainer: Trainer, count: int) -> np.ndarray | None:
    """Return the labels of a sheet in turn: the classes, (N,), or some captions of the data, (N, L)."""
    if not variants(trainer):
        return None
    if trainer.dataset.vocabulary is None:
        return np.arange(count) % trainer.network.classes
    return trainer.dataset.batch(examples(trainer, count))[1]


def _different(data: Dataset) -> np.ndarray:
    """Return the numbers of up to eight pictures with different captions, from everywhere in the data."""
    if not isinstance(data, Pictures):
        return np.arange(CAPTIONS)
    said = _said(data)
    most = min(CAPTIONS, len(said))
    return said[np.arange(most) * len(said) // max(most, 1)]


@lru_cache(maxsize=1)
def _said(data: Pictures) -> np.ndarray:
    """Return the numbers of the first picture with each caption that has words."""
    assert data.labels is not None  # as they are where there is a vocabulary
    _, first = np.unique(data.labels, axis=0, return_index=True)
    return np.sort(first[data.labels[first].any(axis=1)])


def draw(trainer: Trainer, sheet: Sheet) -> Iterator[Step]:
    """Draw a sheet with the weights that the network carries: all steps from noise to pictures (N, H, W, C)."""
    network = trainer.network
    samples = np.arange(sheet.size(variants(trainer)))
    steps = min(sheet.steps, trainer.process.schedule.T)  # a short schedule has no more times to visit
    turns = examples(trainer, len(samples))
    model = (
        trainer.shown(turns, trainer.dataset.batch(turns)[0], twice=True)
        if trainer.adapter != "none"
        else trainer.model
    )
    ask = denoiser(model, labels(trainer, len(samples)), GUIDANCE_SCALE if variants(trainer) else 1.0)
    noise = Noise(trainer.config.run.seed, samples)
    x_T = noise.start((network.height, network.width, network.channels))
    return ddim(ask, trainer.process, x_T, steps, noise)


def save_sheet(path: Path, x: np.ndarray, trainer: Trainer, sheet: Sheet) -> None:
    """Write pictures (N, H, W, C) float32 in [-1, 1] as a grid, with what drew them as metadata."""
    different, columns = variants(trainer), sheet.columns(variants(trainer))
    about: dict[str, Any] = {
        "step": trainer.step,
        "sampler": "ddim",
        "steps": sheet.steps,
        "guidance_scale": GUIDANCE_SCALE if different else 1.0,
        "seed": trainer.config.run.seed,
        "columns": names(trainer, columns) if 0 < different <= MOST_COLUMNS else [],
    }
    pictures.save_png(path, pictures.grid(pictures.to_uint8(x), columns), about)


def names(trainer: Trainer, columns: int) -> list[str]:
    """Return what the columns of a sheet show, in words."""
    shown = labels(trainer, columns)
    assert shown is not None
    if trainer.dataset.vocabulary is not None:
        return [trainer.dataset.vocabulary.text(row) for row in shown]
    return [trainer.dataset.classes[label] for label in shown]


def save_preview(path: Path, trainer: Trainer) -> float:
    """Draw and write a preview; return the seconds that one picture takes to pass through the network."""
    times = []
    with averaged(trainer.parameters):
        for step in draw(trainer, PREVIEW):
            times.append(time.perf_counter())
            x = step.x_prev
    save_sheet(path, x, trainer, PREVIEW)
    if len(times) == 1:
        return 0.0
    # Counted from the end of the first step: on a machine's first run that one compiles a kernel.
    passes = PREVIEW.passes(variants(trainer)) / PREVIEW.steps * (len(times) - 1)
    return (times[-1] - times[0]) / passes


def frame(step: Step, count: int = ANIMATED, zoom: int | None = None) -> np.ndarray:
    """Return x_t and, beside it, x0_hat, of the first `count` pictures: one picture (height, width, 3) uint8."""
    halves = [pictures.grid(pictures.to_uint8(x[:count]), zoom=zoom) for x in (step.x_t, step.x0_hat)]
    return np.concatenate(halves, axis=1)


def save_animation(path: Path, steps: list[Step]) -> None:
    """Write noise becoming image: at most 25 of the steps, and at the end the picture for a while."""
    shown = steps[:: -(-len(steps) // ANIMATION_FRAMES)]
    frames = [frame(step, zoom=ANIMATION_ZOOM) for step in shown]
    last = pictures.grid(pictures.to_uint8(steps[-1].x_prev[:ANIMATED]), zoom=ANIMATION_ZOOM)
    frames.append(np.concatenate([last, last], axis=1))
    pictures.save_animation(path, frames, [FRAME_MS] * len(shown) + [LAST_FRAME_MS])


def save_loss(path: Path, metrics: list[dict[str, Any]]) -> None:
    """Draw the loss over the steps, pale, and on top of it its mean over a fiftieth of them."""
    steps, losses = ([line[name] for line in metrics] for name in ("step", "loss"))
    chart = line_chart(
        {"loss": (steps, losses)}, "Training", "step", "loss", log_y=True, smooth=max(len(steps) // 50, 1)
    )
    pictures.save_png(path, chart)
