"""A training from the first step to the last image.

Idea: call `Trainer.advance` until the last step.  Around it: tell how it goes, write a preview and a checkpoint from
time to time, stop when asked to, and draw images at the end.  None of that reaches into the steps: a run that was
stopped, killed or watched ends with the same weights, to the bit, as one that was left alone.
In training/ before arguments.py.
"""

import contextlib
import dataclasses
import shlex
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from minidiff import backend
from minidiff.checkpoint import file as checkpoints
from minidiff.checkpoint.config import DEFAULT_MINUTES, Config, check
from minidiff.checkpoint.file import Checkpoint
from minidiff.checkpoint.settings import write_toml
from minidiff.data.open import open_data
from minidiff.errors import MAX_PRINTED, MinidiffError, one_line, printable
from minidiff.images.files import to_uint8
from minidiff.nn.flat_parameters import averaged
from minidiff.training import preview
from minidiff.training import run_dir as folders
from minidiff.training.budget import Budget, Every, too_late
from minidiff.training.optimizer import learning_rate
from minidiff.training.signals import Stop, listening
from minidiff.training.trainer import Record, Trainer

T = TypeVar("T")

SAVE_SECONDS = 120.0
FIRST_PREVIEW_SECONDS, PREVIEW_SECONDS = 10.0, 60.0
FINISHED = 0


def train(config: Config, out: Path | None = None, resume: Checkpoint | None = None) -> int:
    """Train as `config` says into the folder `out`, or go on with the run that `resume` is a checkpoint of.

    Returns the exit code of the command: 0 at the end; with everything saved 130 after Ctrl-C, 143 after SIGTERM, 129
    when its terminal was closed, 141 when nobody read any more what it printed.
    Raises MinidiffError in one line for what a user can put right; the last good checkpoint is then still whole.
    """
    started = time.perf_counter()
    if config.run.steps is None and config.run.minutes is None:
        config = _with_run(config, minutes=DEFAULT_MINUTES)
    config = _with_run(config, threads=backend.current().threads())  # another number would add up in another order
    check(config)
    if resume is not None and config.run.steps is None and too_late(resume.step, config.optimizer.warmup):
        raise MinidiffError(
            f"--minutes sets the end while the learning rate warms up; this run is at step {resume.step}: give --steps"
        )
    trainer = Trainer(
        config, open_data(config.data, "train", config.run.seed, config.addition.adapter == "reference"), resume
    )
    if trainer.steps is not None and trainer.step > trainer.steps:
        raise MinidiffError(f"--steps {trainer.steps}: the run is at step {trainer.step} already")
    with folders.created(out) if resume is None else folders.reopened(resume) as run:
        return Run(trainer, run, started).train()


def _with_run(config: Config, **changes: object) -> Config:
    return dataclasses.replace(config, run=dataclasses.replace(config.run, **changes))  # type: ignore[arg-type]


class Run:
    """One process' work on a run: the trainer, its folder, and the clock since the command began."""

    def __init__(self, trainer: Trainer, folder: Path, started: float) -> None:
        self.trainer, self.folder, self.started = trainer, folder, started
        run = trainer.config.run
        self.save_due = Every(run.save_every, SAVE_SECONDS, first=SAVE_SECONDS)
        self.preview_due = Every(run.preview_every, PREVIEW_SECONDS, first=FIRST_PREVIEW_SECONDS)
        self.budget = Budget(run.minutes, trainer.config.optimizer.warmup) if run.minutes is not None else None
        self.pass_seconds: float | None = None  # of one image through the network, once a preview measured it
        self.saved_step = trainer.step if trainer.step else None

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    def train(self) -> int:
        """Make all steps that are left, then the images; return the exit code."""
        trainer = self.trainer
        with listening() as stop:
            with stop.heard():
                self.introduce()
            try:
                write_toml(self.folder / "config.toml", trainer.config)
                with contextlib.closing(folders.Metrics(self.folder, trainer.step)) as metrics:
                    self.make_steps(stop, metrics)
                if self.saved_step != trainer.step:
                    self.save()
                if not stop:
                    self.draw_final(stop)
            except (OSError, MemoryError) as error:
                raise MinidiffError(f"{one_line(error)}; {self.last_good()}") from error
            with stop.heard():
                if stop:
                    print(f"stopped after step {trainer.step}; go on with: {command('train', '--resume', self.folder)}")
                else:
                    self.say_what_next()
        return stop.exit_code if stop else FINISHED

    # -- steps ------------------------------------------------------------------------------------------------------

    def make_steps(self, stop: Stop, metrics: folders.Metrics) -> None:
        """Step until the end is reached or somebody asks to stop."""
        trainer, batch = self.trainer, self.trainer.config.run.batch
        before = metrics.seconds  # those of earlier processes
        with Progress(trainer, stop) as progress:
            while not stop and trainer.step != trainer.steps:
                start = time.perf_counter()
                try:
                    record = trainer.advance()
                except MinidiffError as error:
                    raise MinidiffError(f"{error}; {self.last_good()}") from error
                seconds = time.perf_counter() - start
                metrics.write(
                    step=record.step,
                    loss=record.loss,
                    lr=record.lr,
                    grad_norm=record.grad_norm,
                    images_per_second=round(batch / seconds, 2),
                    seconds=round(before + self.elapsed, 3),
                )
                progress.show(record, batch / seconds)
                self.plan(seconds, progress)
                if self.save_due.due(trainer.step, self.elapsed):
                    self.save()
                if not stop and self.preview_due.due(trainer.step, self.elapsed):
                    self.preview(progress)

    def plan(self, seconds: float, progress: "Progress") -> None:
        """With --minutes: take in how long the step took, and once that is known well enough, fix the last step."""
        trainer = self.trainer
        if self.budget is None or trainer.steps is not None or not self.budget.ready(trainer.step, seconds):
            return
        if self.pass_seconds is None:
            self.preview(progress)
        # An image's way through the network takes less than there and back; a preview may have met a busy moment, or
        # failed.
        there_and_back = self.budget.step_seconds / trainer.config.run.batch
        pass_seconds = there_and_back if self.pass_seconds is None else min(self.pass_seconds, there_and_back)
        variants = preview.variants(trainer)
        costs = [pass_seconds * sheet.passes(variants) for sheet in (preview.PREVIEW, preview.FINAL)]
        trainer.steps = self.budget.steps(trainer.step, self.elapsed, costs[0], PREVIEW_SECONDS, costs[1])
        trainer.config = _with_run(trainer.config, steps=trainer.steps, minutes=None)
        write_toml(self.folder / "config.toml", trainer.config)
        progress.say(f"{self.budget.seconds / 60:g} minutes are {trainer.steps} steps at this speed")
        if short := too_short(trainer):
            progress.say(short)

    # -- what is written --------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint and let the oldest go; weights that are not finite are not worth a good one."""
        trainer = self.trainer
        if not trainer.parameters.finite():
            raise MinidiffError(f"the weights are not finite after step {trainer.step}; {self.last_good()}")
        path = checkpoints.where(self.folder, trainer.step)
        checkpoints.save(
            path,
            trainer.step,
            trainer.config,
            trainer.network,
            trainer.dataset.classes,
            trainer.parameters,
            trainer.words,
            trainer.base,
            trainer.data,
        )
        self.saved_step = trainer.step
        checkpoints.prune(self.folder, trainer.config.run.keep)

    def preview(self, progress: "Progress") -> None:
        """Draw a preview; whatever keeps it from being drawn is said, and is no reason to end the training."""
        path = self.folder / folders.PREVIEWS / f"step_{self.trainer.step:08d}.png"
        try:
            self.pass_seconds = preview.save_preview(path, self.trainer)
        except Exception as error:
            kind = "" if isinstance(error, MinidiffError | OSError | MemoryError) else f"{type(error).__name__}: "
            progress.say(f"no preview of step {self.trainer.step}: {kind}{one_line(error)}; the training goes on")

    def draw_final(self, stop: Stop) -> None:
        """Write the grid, the way there, and the loss; leave early if asked to."""
        trainer, film, images = self.trainer, preview.Film(), []
        total = preview.steps_of(trainer, preview.FINAL)
        quiet = np.errstate(all="ignore")  # where weights have grown beyond measure, the images show it
        with averaged(trainer.parameters), quiet, Progress(trainer, stop, "drawing", total) as progress:
            for part, step in preview.draw(trainer, preview.FINAL):
                film.take(part, step)
                if step.index == step.steps - 1:
                    images.append(to_uint8(step.x_prev))
                progress.move()
                if stop:
                    return
        preview.save_sheet(self.folder / "grid.png", np.concatenate(images), trainer, preview.FINAL)
        film.save(self.folder / "noise_to_image.gif")
        preview.save_loss(self.folder / "loss.png", folders.read_metrics(self.folder / "metrics.jsonl"))

    # -- what is said -----------------------------------------------------------------------------------------------

    def introduce(self) -> None:
        trainer, data = self.trainer, self.trainer.dataset
        colour = {1: "grey", 3: "colour"}[data.channels]
        labels = f"{len(data.classes)} labels" if data.classes else "no labels"
        labels = f"captions of {len(trainer.words)} words" if trainer.words else labels
        million = len(trainer.parameters.w) / 1e6
        end = f"{trainer.steps} steps" if trainer.steps else f"{self.budget.seconds / 60:g} minutes"  # type: ignore[union-attr]
        found = f": {data.found}" if data.found else ""
        print(f"data     {printable(data.name)}, {data.height}×{data.width} in {colour}, {labels}{found}")
        threads = trainer.config.run.threads
        how_many = "" if threads is None else f", {threads} thread{'s' if threads > 1 else ''}"
        print(f"network  {million:.2f} million parameters, on {backend.current().name}{how_many}")
        print(f"length   {end} of {trainer.config.run.batch} images, from step {trainer.step}")
        print(f"folder   {printable(self.folder, MAX_PRINTED)}")
        if short := too_short(trainer):
            print(short)

    def say_what_next(self) -> None:
        classes = self.trainer.dataset.classes
        path, addition = checkpoints.where(self.folder, self.trainer.step), self.trainer.config.addition
        model: list[object] = ["--checkpoint", path]
        shown: list[object] = []
        if addition.onto is not None:
            model = ["--checkpoint", addition.onto, "--adapter", path]
            if addition.adapter == "reference":
                shown = ["--reference", "image.png"]
            else:
                shown = ["--control", "drawing.png", "--control-kind", addition.adapter]
        label = [*_label(classes, min(1, len(classes) - 1)), "--guidance-scale", "3"] if classes else []
        if self.trainer.dataset.tokenizer and preview.variants(self.trainer):
            label = preview.names(self.trainer, 1)
        grid = printable(self.folder / "grid.png", MAX_PRINTED)
        print(f"done: {grid}, noise_to_image.gif and loss.png beside it. Next:")
        print(f"  {command('sample', *model, *shown, *label)}")
        if classes or self.trainer.config.data.data == "scenes":
            print(f"  {command('evaluate', *model)}")
        print(f"  {command('train', '--resume', self.folder, '--steps', 2 * self.trainer.step)}")

    def last_good(self) -> str:
        """Name the checkpoint that is left when a run ends badly."""
        if self.saved_step is None:
            return f"no checkpoint had been written to {self.folder} yet"
        return f"the last good checkpoint is {checkpoints.where(self.folder, self.saved_step)}"


def command(name: str, *words: object) -> str:
    """Return a command of minidiff as a shell reads it."""
    return printable(shlex.join(["python", "-m", f"minidiff.{name}", *map(str, words)]), MAX_PRINTED)


def _label(classes: Sequence[str], number: int) -> list[str]:
    """Return the option that asks for a label: by its name, or by its number where a shell or a parser would stumble
    over the name."""
    name = classes[number]
    plain = name == printable(name) and name.strip() and not name.startswith("-")
    return ["--label", name if plain else str(number)]


def too_short(trainer: Trainer) -> str:
    """Say in a line that the learning rate will not reach its peak, "" where it does or the end is not known yet."""
    steps, optimizer = trainer.steps, trainer.config.optimizer
    if steps is None or steps >= optimizer.warmup:
        return ""
    rate = learning_rate(optimizer, steps, steps)
    return (
        f"note     {steps} steps end within the {optimizer.warmup} of the warm-up, at a learning rate of {rate:.3g} "
        f"instead of {optimizer.lr:g}; --warmup {max(steps // 10, 1)} would reach it"
    )


class Progress:
    """The progress bar: how far it is, time left and, while training, loss and images a second."""

    def __init__(self, trainer: Trainer, stop: Stop, name: str = "training", total: int | None = None) -> None:
        self.trainer, self.stop = trainer, stop
        self.loss: float | None = None
        training = name == "training"
        options = {"total": trainer.steps, "initial": trainer.step, "unit": "step"} if training else {"total": total}
        with self.stop.heard():
            self.bar = progress_bar(name, leave=training, **options)
        if not hasattr(self, "bar"):  # nobody saw it begin; what is printed now leads nowhere
            self.bar = progress_bar(name, leave=training, **options)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        with self.stop.heard():
            self.bar.close()

    def show(self, record: Record, images_per_second: float) -> None:
        """Move on by a step; the loss that is shown is a running mean, as a single step's jumps about."""
        self.loss = record.loss if self.loss is None else 0.95 * self.loss + 0.05 * record.loss
        self.bar.total = self.trainer.steps
        self.bar.set_postfix_str(f"loss {self.loss:.4f}, {images_per_second:.0f} images/s", refresh=False)
        self.move()

    def move(self) -> None:
        with self.stop.heard():
            self.bar.update()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        with self.stop.heard():
            tqdm.write(line)


def progress_bar(name: str, *what: Iterable[T], **options: Any) -> "tqdm[T]":
    """Return a bar on stderr; where that is not a terminal but a log, a line every ten seconds is enough."""
    interval = 0.1 if sys.stderr.isatty() else 10.0
    return tqdm(*what, desc=name, mininterval=interval, maxinterval=interval, dynamic_ncols=True, **options)
