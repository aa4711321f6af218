"""The images that a training draws: grids of samples, and a chart of the loss.

Idea: the noise from which an image of a grid starts is a function of the seed and the image's number.  So successive
grids show the same images at later stages of the training.  They are drawn with the averaged weights.  Drawing changes
neither the random numbers nor the weights of the training.
Leaves out how an image is drawn: pipeline/plan.py, as in the command.
"""

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minidiff.data.dataset import distinct_captions
from minidiff.diffusion.run import Step
from minidiff.images.animation import Animation
from minidiff.images.chart import line_chart
from minidiff.images.files import make_grid, save_png, to_uint8
from minidiff.nn.flat_parameters import averaged
from minidiff.pipeline.model import Model
from minidiff.pipeline.plan import Plan
from minidiff.pipeline.prepare import make_plan
from minidiff.pipeline.settings import DEFAULTS, Inputs, SamplingSettings
from minidiff.training.trainer import Trainer

CAPTIONS = 8  # different captions on a grid
MAX_COLUMNS = 16  # a grid of more classes than this is square, and shows as many as fit


@dataclass(frozen=True)
class SampleGrid:
    """A grid of about `count` samples, drawn by DDIM in `steps` steps; each column shows one class or one caption.

    In the methods, conditions: the number of classes or captions to show, 0 for an unconditional model.
    """

    count: int
    steps: int

    def columns(self, conditions: int) -> int:
        square = round(np.sqrt(self.count))
        return conditions * max(square // conditions, 1) if 0 < conditions <= MAX_COLUMNS else square

    def size(self, conditions: int) -> int:
        """Return the number of images: full rows, at least one."""
        return max(self.count // self.columns(conditions), 1) * self.columns(conditions)

    def passes(self, conditions: int) -> int:
        """Return how many images pass through the network; with guidance, each passes twice a step."""
        return self.size(conditions) * self.steps * (2 if conditions else 1)


PREVIEW = SampleGrid(count=20, steps=10)  # cheap enough for one a minute
FINAL = SampleGrid(count=64, steps=50)


def num_conditions(trainer: Trainer) -> int:
    """Return how many classes or captions a grid shows, 0 for an unconditional model."""
    if trainer.dataset.tokenizer is None:
        return len(trainer.dataset.classes)
    return len(distinct_captions(trainer.dataset, CAPTIONS))


def example_indices(trainer: Trainer, count: int) -> np.ndarray:
    """Return the numbers (count,) of the training images whose captions and conditioning images a grid uses."""
    data = trainer.dataset
    if data.tokenizer:
        index = distinct_captions(data, CAPTIONS)
    else:
        index = np.arange(min(len(trainer.dataset.classes), len(data)))
    return np.resize(index, count) if len(index) else np.zeros(count, np.int64)


def grid_labels(trainer: Trainer, count: int) -> np.ndarray | None:
    """Return the labels of a grid's images: the classes in turn, (N,), captions of the data, (N, L), or None."""
    if not num_conditions(trainer):
        return None
    if trainer.dataset.tokenizer is None:
        return np.arange(count) % len(trainer.dataset.classes)
    return trainer.dataset.batch(example_indices(trainer, count))[1]


def grid_plan(trainer: Trainer, grid: SampleGrid) -> Plan:
    """Return the plan of a grid: how the command would draw it with the weights that the network carries."""
    conditions = num_conditions(trainer)
    count = grid.size(conditions)
    settings = SamplingSettings(
        steps=num_steps(trainer, grid), guidance_scale=guidance_scale(trainer), seed=trainer.config.run.seed
    )
    model = Model(
        trainer.model if trainer.unet is None else trainer.unet,
        trainer.process,
        trainer.dataset.classes,
        trainer.config,
        Path(f"step {trainer.step}"),
        trainer.step,
        replace(DEFAULTS, clip=trainer.space.clip),
        tokenizer=trainer.dataset.tokenizer,
        adapters={trainer.adapter: trainer.model},
        space=trainer.space,
    )
    return make_plan(model, settings, _adapter_inputs(trainer, count), grid_labels(trainer, count))


def _adapter_inputs(trainer: Trainer, count: int) -> Inputs:
    """Return what the adapter that is trained is shown with each image of a grid, at the strength of training."""
    if trainer.adapter == "none":
        return Inputs()
    index = example_indices(trainer, count)
    images = trainer.training_data.conditioning_images(index, trainer.dataset.batch(index)[0])
    if trainer.adapter == "reference":
        return Inputs(reference=images, reference_scale=1.0)
    return Inputs(control=images, control_kind=trainer.adapter)


def draw(trainer: Trainer, grid: SampleGrid) -> Iterator[tuple[slice, Step]]:
    """Draw a grid with the weights that the network carries; yield each part's place in the grid, and its steps.

    A part has as many images as training computes at once, so that drawing needs no more memory than training.  An
    image's noise is a function of its number, so it is the same in any part.
    """
    plan, count = grid_plan(trainer, grid), grid.size(num_conditions(trainer))
    for first in range(0, count, part_size(trainer)):
        part = slice(first, min(first + part_size(trainer), count))
        for step in plan.unchecked_steps(first, part.stop - first):
            yield part, plan.shown(step)


def guidance_scale(trainer: Trainer) -> float:
    """Return the guidance scale of grids."""
    return trainer.space.guidance_scale if num_conditions(trainer) else 1.0


def part_size(trainer: Trainer) -> int:
    """Return how many images training computes at once."""
    return trainer.config.run.batch_size // trainer.parts


def num_steps(trainer: Trainer, grid: SampleGrid) -> int:
    """Return the sampling steps of a grid: a short schedule has fewer timesteps than the grid asks for."""
    return min(grid.steps, trainer.process.schedule.T)


def total_steps(trainer: Trainer, grid: SampleGrid) -> int:
    """Return the number of steps that `draw` yields for a grid, in all its parts."""
    parts = -(-grid.size(num_conditions(trainer)) // part_size(trainer))
    return parts * num_steps(trainer, grid)


def save_grid(path: Path, images: np.ndarray, trainer: Trainer, grid: SampleGrid) -> None:
    """Write images (N, H, W, C) uint8 as a grid, with the settings that drew them as metadata."""
    conditions = num_conditions(trainer)
    columns = grid.columns(conditions)
    metadata: dict[str, Any] = {
        "step": trainer.step,
        "sampler": "ddim",
        "steps": num_steps(trainer, grid),
        "guidance_scale": guidance_scale(trainer),
        "seed": trainer.config.run.seed,
        "columns": column_names(trainer, columns) if 0 < conditions <= MAX_COLUMNS else [],
    }
    save_png(path, make_grid(images, columns), metadata)


def column_names(trainer: Trainer, columns: int) -> list[str]:
    """Return the caption or the name of the class that each column of a grid shows."""
    labels = grid_labels(trainer, columns)
    assert labels is not None
    if trainer.dataset.tokenizer is not None:
        return [trainer.dataset.tokenizer.decode(caption) for caption in labels]
    return [trainer.dataset.classes[label] for label in labels]


class Samples:
    """The pictures of a training of a denoiser: samples."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def save_preview(self, path: Path) -> float:
        """Draw and write a preview; return the seconds that one image takes to pass through the network."""
        trainer, ends, passes, images = self.trainer, [], [], []
        with averaged(trainer.parameters), np.errstate(all="ignore"):  # the weights may have diverged
            for _, step in draw(trainer, PREVIEW):
                ends.append(time.perf_counter())
                passes.append(len(step.x_t) * (2 if num_conditions(trainer) else 1))
                if step.index == step.steps - 1:
                    images.append(to_uint8(step.x_prev))
        save_grid(path, np.concatenate(images), trainer, PREVIEW)
        # Measured from the end of the first step, since on a machine's first run that step compiles a kernel.
        return (ends[-1] - ends[0]) / sum(passes[1:]) if len(ends) > 1 else 0.0

    def seconds(self, pass_seconds: float) -> tuple[float, float]:
        """Return the seconds that a preview and the final images take, if each image takes so many to pass once."""
        conditions = num_conditions(self.trainer)
        return pass_seconds * PREVIEW.passes(conditions), pass_seconds * FINAL.passes(conditions)

    @property
    def final_parts(self) -> int:
        """How often `save_final` yields."""
        return total_steps(self.trainer, FINAL)

    def save_final(self, folder: Path) -> Generator[None]:
        """Draw the grid of samples and the animation of their denoising, and write both at the end; yield each step."""
        trainer, animation, images = self.trainer, Animation(), []
        with averaged(trainer.parameters), np.errstate(all="ignore"):
            for part, step in draw(trainer, FINAL):
                animation.add(part, step)
                if step.index == step.steps - 1:
                    images.append(to_uint8(step.x_prev))
                yield
        save_grid(folder / "grid.png", np.concatenate(images), trainer, FINAL)
        animation.save(folder / "noise_to_image.gif")


def save_loss(path: Path, metrics: list[dict[str, Any]]) -> None:
    """Write a chart of the loss: pale, that of each step; on top, its moving mean over a fiftieth of the steps."""
    steps, losses = ([line[name] for line in metrics] for name in ("step", "loss"))
    chart = line_chart(
        {"loss": (steps, losses)}, "Training", "step", "loss", log_y=True, smooth=max(len(steps) // 50, 1)
    )
    save_png(path, chart)
