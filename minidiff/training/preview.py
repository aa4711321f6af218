"""What a training shows: grids of samples on the way, and at its end the way itself, from noise to image.

Idea: the noise that a sheet of samples starts from is named by (seed, image), so every sheet shows the same images,
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

from minidiff.data.dataset import Dataset, ImageDataset
from minidiff.diffusion.guidance import denoiser
from minidiff.diffusion.run import Noise, Run, Step
from minidiff.diffusion.samplers import ddim
from minidiff.images.chart import line_chart
from minidiff.images.files import make_grid, save_animation, save_png, to_uint8
from minidiff.nn.flat_parameters import averaged
from minidiff.training.trainer import Trainer

GUIDANCE_SCALE = 3.0  # for labelled data
CAPTIONS = 8  # different ones on a sheet
MAX_COLUMNS = 16  # with more classes than this the sheet is square and shows as many as fit
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
        return variants * max(square // variants, 1) if 0 < variants <= MAX_COLUMNS else square

    def size(self, variants: int) -> int:
        """How many images: full rows, at least one."""
        return max(self.count // self.columns(variants), 1) * self.columns(variants)

    def passes(self, variants: int) -> int:
        """How many images go through the network to draw the sheet; guided ones twice a step."""
        return self.size(variants) * self.steps * (2 if variants else 1)


PREVIEW = Sheet(count=20, steps=10)  # cheap enough to be looked at every minute
FINAL = Sheet(count=64, steps=50)


def variants(trainer: Trainer) -> int:
    """How many different things a sheet shows: classes or captions, 0 for neither."""
    return len(_different(trainer.dataset)) if trainer.dataset.tokenizer else trainer.network.classes


def examples(trainer: Trainer, count: int) -> np.ndarray:
    """Return the numbers (count,) of the images of the data whose captions, or maps, those of a sheet have."""
    data = trainer.dataset
    turns = _different(data) if data.tokenizer else np.arange(min(trainer.network.classes, len(data)))
    return np.resize(turns, count) if len(turns) else np.zeros(count, np.int64)


def labels(trainer: Trainer, count: int) -> np.ndarray | None:
    """Return the labels of a sheet in turn: the classes, (N,), or some captions of the data, (N, L)."""
    if not variants(trainer):
        return None
    if trainer.dataset.tokenizer is None:
        return np.arange(count) % trainer.network.classes
    return trainer.dataset.batch(examples(trainer, count))[1]


def _different(data: Dataset) -> np.ndarray:
    """Return the numbers of up to eight images with different captions, from everywhere in the data."""
    if not isinstance(data, ImageDataset):
        return np.arange(CAPTIONS)
    said = _said(data)
    most = min(CAPTIONS, len(said))
    return said[np.arange(most) * len(said) // max(most, 1)]


@lru_cache(maxsize=1)
def _said(data: ImageDataset) -> np.ndarray:
    """Return the numbers of the first image with each caption that has words."""
    assert data.labels is not None  # as they are where there is a vocabulary
    _, first = np.unique(data.labels, axis=0, return_index=True)
    return np.sort(first[data.labels[first].any(axis=1)])


def draw(trainer: Trainer, sheet: Sheet) -> Iterator[tuple[slice, Step]]:
    """Draw a sheet with the weights that the network carries: all steps from noise to images (n, H, W, C), in parts.

    A part has as many images as training computes at once, so that drawing needs no more memory than that; it comes
    with its place on the sheet.  An image's noise is named by its number, so that it is the same in any part.
    """
    network, count = trainer.network, sheet.size(variants(trainer))
    turns, asked = examples(trainer, count), labels(trainer, count)
    for first in range(0, count, part_size(trainer)):
        part = slice(first, min(first + part_size(trainer), count))
        model = trainer.model
        if trainer.adapter != "none":
            model = trainer.shown(turns[part], trainer.dataset.batch(turns[part])[0])
        ask = denoiser(model, None if asked is None else asked[part], GUIDANCE_SCALE if variants(trainer) else 1.0)
        noise = Noise(trainer.config.run.seed, np.arange(count)[part])
        x_T = noise.start((network.height, network.width, network.channels))
        for step in ddim(Run(ask, trainer.process, _times(trainer, sheet), noise), x_T):
            yield part, step


def part_size(trainer: Trainer) -> int:
    """Return how many images training computes at once."""
    return trainer.config.run.batch // trainer.config.run.accumulate


def steps_of(trainer: Trainer, sheet: Sheet) -> int:
    """Return how many steps `draw` makes for a sheet, in all its parts."""
    parts = -(-sheet.size(variants(trainer)) // part_size(trainer))
    return parts * _times(trainer, sheet)


def _times(trainer: Trainer, sheet: Sheet) -> int:
    """Return how many times t a sheet's images visit: a short schedule has fewer than a sheet asks for."""
    return min(sheet.steps, trainer.process.schedule.T)


def save_sheet(path: Path, images: np.ndarray, trainer: Trainer, sheet: Sheet) -> None:
    """Write images (N, H, W, C) uint8 as a grid, with what drew them as metadata."""
    different, columns = variants(trainer), sheet.columns(variants(trainer))
    about: dict[str, Any] = {
        "step": trainer.step,
        "sampler": "ddim",
        "steps": _times(trainer, sheet),
        "guidance_scale": GUIDANCE_SCALE if different else 1.0,
        "seed": trainer.config.run.seed,
        "columns": names(trainer, columns) if 0 < different <= MAX_COLUMNS else [],
    }
    save_png(path, make_grid(images, columns), about)


def names(trainer: Trainer, columns: int) -> list[str]:
    """Return what the columns of a sheet show, in words."""
    shown = labels(trainer, columns)
    assert shown is not None
    if trainer.dataset.tokenizer is not None:
        return [trainer.dataset.tokenizer.decode(row) for row in shown]
    return [trainer.dataset.classes[label] for label in shown]


def save_preview(path: Path, trainer: Trainer) -> float:
    """Draw and write a preview; return the seconds that one image takes to pass through the network."""
    times, passes, images = [], [], []
    with averaged(trainer.parameters), np.errstate(all="ignore"):  # weights may have grown beyond measure
        for _, step in draw(trainer, PREVIEW):
            times.append(time.perf_counter())
            passes.append(len(step.x_t) * (2 if variants(trainer) else 1))
            if step.index == step.steps - 1:
                images.append(to_uint8(step.x_prev))
    save_sheet(path, np.concatenate(images), trainer, PREVIEW)
    # Counted from the end of the first step: on a machine's first run that one compiles a kernel.
    return (times[-1] - times[0]) / sum(passes[1:]) if len(times) > 1 else 0.0


def frame(step: Step, count: int = ANIMATED, zoom: int | None = None) -> np.ndarray:
    """Return x_t and, beside it, x0_hat, of the first `count` images: one image (height, width, 3) uint8."""
    halves = [make_grid(to_uint8(x[:count]), zoom=zoom) for x in (step.x_t, step.x0_hat)]
    return np.concatenate(halves, axis=1)


class Film:
    """Noise becoming image: x_t and x0_hat of the first images of a sheet, at most 25 times on the way.

    take: is shown every step that `draw` makes; it keeps bytes, of what is to be seen alone.
    """

    def __init__(self) -> None:
        self.frames: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}  # step's number to its parts

    def take(self, part: slice, step: Step) -> None:
        count = max(min(part.stop, ANIMATED) - part.start, 0)
        every = -(-step.steps // ANIMATION_FRAMES)
        last = step.index == step.steps - 1
        if count and step.index % every == 0:
            self._keep(step.index, step.x_t[:count], step.x0_hat[:count])
        if count and last:
            self._keep(step.steps, step.x_prev[:count], step.x_prev[:count])

    def _keep(self, index: int, left: np.ndarray, right: np.ndarray) -> None:
        self.frames.setdefault(index, []).append((to_uint8(left), to_uint8(right)))

    def save(self, path: Path) -> None:
        """Write the frames as they went, and at the end the images for a while."""
        shown = [
            np.concatenate([make_grid(np.concatenate(half), zoom=ANIMATION_ZOOM) for half in zip(*parts)], axis=1)
            for _, parts in sorted(self.frames.items())
        ]
        save_animation(path, shown, [FRAME_MS] * (len(shown) - 1) + [LAST_FRAME_MS])


def save_loss(path: Path, metrics: list[dict[str, Any]]) -> None:
    """Draw the loss over the steps, pale, and on top of it its mean over a fiftieth of them."""
    steps, losses = ([line[name] for line in metrics] for name in ("step", "loss"))
    chart = line_chart(
        {"loss": (steps, losses)}, "Training", "step", "loss", log_y=True, smooth=max(len(steps) // 50, 1)
    )
    save_png(path, chart)
