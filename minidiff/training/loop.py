"""The training loop, and what surrounds it from the first step to the final images.

Idea: `training_loop` is the whole algorithm: take a batch, compute the loss and its gradients, clip them, update the
weights, then log, save and preview.  `TrainingRun` adds the folder, the metrics, the progress bar, the signals and the
clock.  None of these affects the weights, except that `--minutes` sets the number of steps (budget.py): with the same
machine, backend and threads, a run that was interrupted and resumed ends with the same weights, to the bit, as one that
was not interrupted.
Leaves out the loss (trainer.py) and the update of the weights (optimizer.py).
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from minidiff import backend
from minidiff import checkpoint as checkpoints
from minidiff.checkpoint import Checkpoint
from minidiff.checkpoint.config import DEFAULT_MINUTES, Config, check
from minidiff.checkpoint.settings import write_toml
from minidiff.data.encoded import GROUP
from minidiff.data.open import open_data
from minidiff.errors import MinidiffError, one_line
from minidiff.processes import world
from minidiff.processes.report import Report, share
from minidiff.training import console, preview
from minidiff.training import run_dir as folders
from minidiff.training.autoencoder import AutoencoderTrainer, Reconstructions, make_trainer
from minidiff.training.budget import Budget, Periodic, too_late
from minidiff.training.callbacks import Callbacks, Member
from minidiff.training.console import Progress
from minidiff.training.optimizer import ema_decay, gradient_norm, learning_rate, update
from minidiff.training.signals import handle_signals
from minidiff.training.trainer import Record, Trainer

SAVE_SECONDS = 120.0
FIRST_PREVIEW_SECONDS, PREVIEW_SECONDS = 10.0, 60.0
FINISHED = 0


def training_loop(trainer: Trainer, run: Callbacks) -> Iterator[Record]:
    """Train until the last step, or until the run is to stop; yield what each step did.

    A batch in parts has the same images, flips, timesteps, noise and dropped labels as a whole one, since all of them
    depend on an image's place in the whole batch; gradients are sums over images, so only the order of their float32
    summation differs, by a relative error of about 1e-6.  With several processes, each computes some of the parts.
    Raises MinidiffError, and leaves the weights as they were, if the loss or a gradient is not finite.
    """
    parameters, optimizer, gradients = trainer.parameters, trainer.config.optimizer, trainer.gradients
    alone = world.current().size == 1
    stop = run.signal() if alone else 0
    while not stop and trainer.step != trainer.steps:
        start, step = time.perf_counter(), trainer.step + 1
        with np.errstate(all="ignore"):  # an overflow is reported once: here for the loss, in `save` for the weights
            gradients.clear()
            batches, losses = trainer.batches(), []
            for batch in batches:
                with gradients.adding():
                    losses.append(trainer.add_gradients(batch))  # forward and backward pass
            gradients.finish()
            norm, losses = gradient_norm(parameters, losses, trainer.parts)
            reports = share(world.current(), Report(losses, run.signal()), parameters.w, trainer.step)
            trainer.check_finite(batches, reports, norm)
            lr, decay = learning_rate(optimizer, step, trainer.steps), ema_decay(step, optimizer.ema)
            update(parameters, optimizer, step, lr, norm, decay, trainer.parts)  # clips, AdamW, moving average
        trainer.step = step
        losses = [loss for report in reports for loss in report.losses]
        record = Record(step, sum(losses) / len(losses), lr, norm, time.perf_counter() - start)
        run.log(record)
        if trainer.steps is None:
            run.plan(record)
            trainer.steps = world.current().said_by_first(trainer.steps)
        run.save_when_due()
        run.preview_when_due()
        yield record
        stop = run.signal() if alone else max(report.signal for report in reports)
    run.stopped(stop)


def train_step(trainer: Trainer) -> Record:
    """Make one step, with nothing around it."""
    return next(training_loop(trainer, Callbacks()))


def train(config: Config, out: Path | None = None, resume: Checkpoint | None = None) -> int:
    """Train as `config` says into the folder `out`, or go on with the run that `resume` is a checkpoint of.

    Returns the exit code of the command: 0 at the end; after a checkpoint was saved, 130 for Ctrl-C, 143 for SIGTERM,
    129 if the terminal was closed, 141 if the reader of its output is gone (broken pipe).
    Raises MinidiffError in one line for what a user can put right; the last good checkpoint is then still intact.
    """
    started = time.perf_counter()
    if config.run.steps is None and config.run.minutes is None:
        config = _with_run(config, minutes=DEFAULT_MINUTES)
    config = _with_run(config, threads=backend.current().threads())  # with another number, sums have another order
    check(config)
    if resume is not None and config.run.steps is None and too_late(resume.step, config.optimizer.warmup):
        raise MinidiffError(
            f"--minutes sets the end while the learning rate warms up; this run is at step {resume.step}: give --steps"
        )
    data = world.current().one_first(  # which may download it
        lambda: open_data(config.data, "train", config.run.seed, config.addition.adapter == "reference")
    )
    trainer = make_trainer(config, data, resume)
    if (encoded := trainer.training_data.encoded) is not None:
        start = trainer.step, config.run.batch_size
        total = len(encoded.groups_before(*start)) * GROUP
        with console.progress_bar("encoding images", total=total, unit="image", delay=1.0) as bar:
            encoded.fill(*start, lambda: bar.update(GROUP))
    if trainer.steps is not None and trainer.step > trainer.steps:
        raise MinidiffError(f"--steps {trainer.steps}: the run is at step {trainer.step} already")
    if world.current().rank:
        return train_beside(trainer)
    with folders.created(out) if resume is None else folders.reopened(resume) as folder:
        return TrainingRun(trainer, folder, started).train()


def _with_run(config: Config, **changes: object) -> Config:
    return dataclasses.replace(config, run=dataclasses.replace(config.run, **changes))  # type: ignore[arg-type]


def train_beside(trainer: Trainer) -> int:
    """Make all steps that are left beside process 0; return its exit code, when it has ended."""
    member = Member()
    with handle_signals(member.stop):
        for _ in training_loop(trainer, member):
            pass
        return world.current().said_by_first(None) or FINISHED


class TrainingRun(Member):
    """What process 0 adds to the steps of a run: its folder, its metrics, its progress bar, and the clock.

    started: `time.perf_counter()` when the command began.
    """

    progress: Progress
    metrics: folders.Metrics

    def __init__(self, trainer: Trainer, folder: Path, started: float) -> None:
        super().__init__()
        self.trainer, self.folder, self.started = trainer, folder, started
        run = trainer.config.run
        self.pictures = (
            Reconstructions(trainer) if isinstance(trainer, AutoencoderTrainer) else preview.Samples(trainer)
        )
        self.save_due = Periodic(run.save_every, SAVE_SECONDS, first=SAVE_SECONDS)
        self.preview_due = Periodic(run.preview_every, PREVIEW_SECONDS, first=FIRST_PREVIEW_SECONDS)
        self.budget = Budget(run.minutes, trainer.config.optimizer.warmup) if run.minutes is not None else None
        self.pass_seconds: float | None = None  # of one image through the network, once a preview measured it
        self.saved_step = trainer.step if trainer.step else None

    @property
    def elapsed(self) -> float:
        """Seconds since the command began."""
        return time.perf_counter() - self.started

    def train(self) -> int:
        """Make all steps that are left, then the final images; return the exit code."""
        trainer = self.trainer
        with handle_signals(self.stop):
            with self.stop.on_broken_pipe():
                self.print_summary()
            try:
                write_toml(self.folder / "config.toml", trainer.config)
                with contextlib.closing(folders.Metrics(self.folder, trainer.step)) as self.metrics:
                    self.make_steps()
                if not self.stop:
                    self.save_final_images()
            except (OSError, MemoryError) as error:
                raise MinidiffError(f"{one_line(error)}; {self.last_good()}") from error
            with self.stop.on_broken_pipe():
                if self.stop:
                    resume = console.command("train", "--resume", self.folder)
                    print(f"stopped after step {trainer.step}; go on with: {resume}")
                else:
                    self.print_next_commands()
            return world.current().said_by_first(self.stop.exit_code if self.stop else FINISHED) or FINISHED

    def make_steps(self) -> None:
        """Run the training loop with a progress bar, and save where it ends."""
        with Progress(self.stop, "training", self.trainer.steps, self.trainer.step) as self.progress:
            try:
                for _ in self.steps():
                    pass
                if self.saved_step != self.trainer.step:
                    self.save()
            except MinidiffError as error:
                raise MinidiffError(f"{error}; {self.last_good()}") from error

    def steps(self) -> Iterator[Record]:
        """Return the training loop."""
        return training_loop(self.trainer, self)

    # -- after each step ----------------------------------------------------------------------------------------------

    def log(self, record: Record) -> None:
        images_per_second = self.trainer.config.run.batch_size / record.seconds
        self.metrics.write(
            step=record.step,
            loss=record.loss,
            lr=record.lr,
            grad_norm=record.grad_norm,
            images_per_second=round(images_per_second, 2),
            seconds=round(self.metrics.seconds + self.elapsed, 3),
        )
        self.progress.show_loss(record.loss, images_per_second)

    def plan(self, record: Record) -> None:
        """With --minutes: record how long the step took and, once the speed is known well enough, fix the last step."""
        trainer = self.trainer
        if self.budget is None or not self.budget.ready(record.step, record.seconds):
            return
        if self.pass_seconds is None:
            self.preview()
        # A forward pass takes less time than forward and backward; a preview may have been slowed down, or failed.
        step_seconds = self.budget.step_seconds / trainer.config.run.batch_size
        pass_seconds = step_seconds if self.pass_seconds is None else min(self.pass_seconds, step_seconds)
        each, final = self.pictures.seconds(pass_seconds)
        trainer.steps = self.budget.steps(trainer.step, self.elapsed, each, PREVIEW_SECONDS, final)
        trainer.config = _with_run(trainer.config, steps=trainer.steps, minutes=None)
        write_toml(self.folder / "config.toml", trainer.config)
        self.progress.set_total(trainer.steps)
        self.progress.write(f"{self.budget.seconds / 60:g} minutes are {trainer.steps} steps at this speed")
        if note := console.short_warmup(trainer):
            self.progress.write(note)

    def save_when_due(self) -> None:
        if self.save_due.due(self.trainer.step, self.elapsed):
            self.save()

    def preview_when_due(self) -> None:
        if not self.stop and self.preview_due.due(self.trainer.step, self.elapsed):
            self.preview()

    # -- what is written ----------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint and remove the oldest.  Raises MinidiffError for weights that are not finite."""
        trainer = self.trainer
        if not trainer.parameters.finite():
            raise MinidiffError(f"the weights are not finite after step {trainer.step}")
        checkpoints.save(
            checkpoints.path_of(self.folder, trainer.step),
            trainer.step,
            trainer.config,
            trainer.network,
            trainer.dataset.classes,
            trainer.parameters,
            trainer.words,
            trainer.base_digest,
            trainer.data_digest,
            trainer.space,
        )
        self.saved_step = trainer.step
        checkpoints.prune(self.folder, trainer.config.run.keep)

    def preview(self) -> None:
        """Draw a preview.  If that fails, print why; the training goes on."""
        path = self.folder / folders.PREVIEWS / f"step_{self.trainer.step:08d}.png"
        try:
            self.pass_seconds = self.pictures.save_preview(path)
        except Exception as error:
            kind = "" if isinstance(error, MinidiffError | OSError | MemoryError) else f"{type(error).__name__}: "
            self.progress.write(
                f"no preview of step {self.trainer.step}: {kind}{one_line(error)}; the training goes on"
            )

    def save_final_images(self) -> None:
        """Write the final pictures, and a chart of the loss; return early on a stop request."""
        pictures = contextlib.closing(self.pictures.save_final(self.folder))
        with pictures as parts, Progress(self.stop, "drawing", self.pictures.final_parts, leave=False) as progress:
            for _ in parts:
                progress.update()
                if self.stop:
                    return
        preview.save_loss(self.folder / "loss.png", folders.read_metrics(self.folder / "metrics.jsonl"))

    # -- what is printed ----------------------------------------------------------------------------------------------

    def print_summary(self) -> None:
        console.print_summary(self.trainer, self.folder)

    def print_next_commands(self) -> None:
        console.print_next_commands(self.trainer, self.folder)

    def last_good(self) -> str:
        """Name the checkpoint that is left when a run ends badly."""
        if self.saved_step is None:
            return f"no checkpoint had been written to {self.folder} yet"
        return f"the last good checkpoint is {checkpoints.path_of(self.folder, self.saved_step)}"
