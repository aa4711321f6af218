"""What a training prints: a summary at its start, a progress bar, and at its end the commands to run next.

Leaves out when they are printed (loop.py), and error messages, which are written where the errors are found.
"""

import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from minidiff import backend
from minidiff import checkpoint as checkpoints
from minidiff.errors import MAX_PRINTED, printable
from minidiff.training import preview
from minidiff.training.autoencoder import AutoencoderTrainer
from minidiff.training.optimizer import learning_rate
from minidiff.training.signals import StopRequest
from minidiff.training.trainer import Trainer

T = TypeVar("T")


def print_summary(trainer: Trainer, folder: Path) -> None:
    """Print the data, the network, the length and the folder of a training, a line each."""
    data, run = trainer.dataset, trainer.config.run
    colour = {1: "grey", 3: "colour"}[data.channels]
    labels = f"{len(data.classes)} labels" if data.classes else "no labels"
    labels = f"captions of {len(trainer.words)} words" if trainer.words else labels
    million = len(trainer.parameters.w) / 1e6
    end = f"{trainer.steps} steps" if trainer.steps else f"{run.minutes:g} minutes"
    found = f": {data.found}" if data.found else ""
    print(f"data     {printable(data.name)}, {data.height}×{data.width} in {colour}, {labels}{found}")
    threads = "" if run.threads is None else f", {run.threads} thread{'s' if run.threads > 1 else ''}"
    print(f"network  {million:.2f} million parameters, on {backend.current().name}{threads}")
    images = data.height, data.width, data.channels
    if (shape := trainer.space.array_shape(images)) != images:
        print(f"latents  {shape[0]}×{shape[1]} of {shape[2]} channels")
    print(f"length   {end} of {run.batch_size} images, from step {trainer.step}")
    print(f"folder   {printable(folder, MAX_PRINTED)}")
    if note := short_warmup(trainer):
        print(note)


def print_next_commands(trainer: Trainer, folder: Path) -> None:
    """Print the results of a finished training, and commands that sample, evaluate and train on."""
    classes, addition = trainer.dataset.classes, trainer.config.addition
    path = checkpoints.path_of(folder, trainer.step)
    if isinstance(trainer, AutoencoderTrainer):
        print_commands_of_autoencoder(trainer, folder)
        return
    model: list[object] = ["--checkpoint", path]
    conditioning: list[object] = []
    if addition.onto is not None:
        model = ["--checkpoint", addition.onto, "--adapter", path]
        if addition.adapter == "reference":
            conditioning = ["--reference", "image.png"]
        else:
            conditioning = ["--control", "drawing.png", "--control-kind", addition.adapter]
    label = [*_label_option(classes, min(1, len(classes) - 1)), "--guidance-scale", "3"] if classes else []
    if trainer.dataset.tokenizer and preview.num_conditions(trainer):
        label = preview.column_names(trainer, 1)
    grid = printable(folder / "grid.png", MAX_PRINTED)
    print(f"done: {grid}, noise_to_image.gif and loss.png beside it. Next:")
    print(f"  {command('sample', *model, *conditioning, *label)}")
    if classes or trainer.config.data.data == "scenes":
        print(f"  {command('evaluate', *model)}")
    print(f"  {command('train', '--resume', folder, '--steps', 2 * trainer.step)}")


def print_commands_of_autoencoder(trainer: AutoencoderTrainer, folder: Path) -> None:
    """Print the results of a finished training of an autoencoder, and commands that evaluate, use and train it on."""
    data = trainer.config.data
    options: list[object] = ["--data", data.data] if data.data != "scenes" else []
    options += ["--data-dir", data.data_dir] if data.data_dir is not None else []
    options += ["--size", *data.size] if data.size is not None else []
    print(f"done: {printable(folder / 'grid.png', MAX_PRINTED)}, loss.png beside it. Next:")
    print(f"  {command('evaluate', '--checkpoint', folder)}")
    print(f"  {command('train', '--autoencoder', folder, *options)}")
    print(f"  {command('train', '--resume', folder, '--steps', 2 * trainer.step)}")


def command(name: str, *words: object) -> str:
    """Return a command of minidiff, quoted for a shell."""
    return printable(shlex.join(["python", "-m", f"minidiff.{name}", *map(str, words)]), MAX_PRINTED)


def _label_option(classes: Sequence[str], number: int) -> list[str]:
    """Return the option for a label: its name, or its number if a shell or a parser would misread the name."""
    name = classes[number]
    plain = name == printable(name) and name.strip() and not name.startswith("-")
    return ["--label", name if plain else str(number)]


def short_warmup(trainer: Trainer) -> str:
    """Return a note that the learning rate will not reach its peak; "" if it will, or if the end is not known yet."""
    steps, optimizer = trainer.steps, trainer.config.optimizer
    if steps is None or steps >= optimizer.warmup:
        return ""
    rate = learning_rate(optimizer, steps, steps)
    return (
        f"note     {steps} steps end within the {optimizer.warmup} of the warm-up, at a learning rate of {rate:.3g} "
        f"instead of {optimizer.lr:g}; --warmup {max(steps // 10, 1)} would reach it"
    )


class Progress:
    """The progress bar: steps made, time left and, while training, the loss and images per second.

    stop: receives the request to stop if nobody reads the bar any more.  total: steps, None if unknown.
    leave: whether the bar stays when it is done.
    """

    def __init__(self, stop: StopRequest, name: str, total: int | None, initial: int = 0, leave: bool = True) -> None:
        self.stop = stop
        self.loss: float | None = None
        options = {"total": total, "initial": initial, "unit": "step", "leave": leave}
        with self.stop.on_broken_pipe():
            self.bar = progress_bar(name, **options)
        if not hasattr(self, "bar"):  # the stream was closed; it now leads nowhere, and the bar can be made
            self.bar = progress_bar(name, **options)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        with self.stop.on_broken_pipe():
            self.bar.close()

    def set_total(self, total: int) -> None:
        """Fix the number of steps, shown from the next update on."""
        self.bar.total = total

    def show_loss(self, loss: float, images_per_second: float) -> None:
        """Move on by a step and show a running mean of the loss, since the losses of single steps vary widely."""
        self.loss = loss if self.loss is None else 0.95 * self.loss + 0.05 * loss
        self.bar.set_postfix_str(f"loss {self.loss:.4f}, {images_per_second:.0f} images/s", refresh=False)
        self.update()

    def update(self) -> None:
        """Move on by a step."""
        with self.stop.on_broken_pipe():
            self.bar.update()

    def write(self, line: str) -> None:
        """Print a line above the bar."""
        with self.stop.on_broken_pipe():
            tqdm.write(line)


def progress_bar(name: str, *iterable: Iterable[T], **options: Any) -> "tqdm[T]":
    """Return a progress bar on stderr; if that is not a terminal but a log, it prints a line every ten seconds."""
    interval = 0.1 if sys.stderr.isatty() else 10.0
    return tqdm(*iterable, desc=name, mininterval=interval, maxinterval=interval, dynamic_ncols=True, **options)
