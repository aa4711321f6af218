"""The command that draws: `python -m minidiff.sample --checkpoint runs/my-run --label dog`.

Idea: everything that decides what the pictures are goes, with the checkpoint's hash, into grid.png itself, so that
`--like grid.png` can draw them again to the bit.
Last but one in the reading order; pipeline.py is what it calls.  Leaves out nothing that draws: it only parses, shows
and writes.
"""

import dataclasses
import itertools
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from tqdm import tqdm

from minidiff import __version__, backend, pictures
from minidiff.diffusion.samplers import Clip, Step
from minidiff.errors import MinidiffError, exit_with_one_line
from minidiff.files import write_atomically
from minidiff.pipeline import Pipeline, load
from minidiff.training import checkpoint as checkpoints
from minidiff.training.preview import ANIMATION_ZOOM, FRAME_MS, LAST_FRAME_MS, frame
from minidiff.training.settings import from_dict

MOST_FRAMES = 100  # of an animation; a run of 1000 steps shows every tenth
MOST_COLUMNS = 16
MOST_WATCHED = 4  # pictures in a terminal, which has few pixels


@dataclass(frozen=True)
class SampleConfig:
    """Draw pictures with a trained model: grid.png, and on request the pictures one by one, as an array, as an
    animation of their making, or with every step written down."""

    checkpoint: Path | None = None
    """The model: a checkpoint file, or a training's folder for its newest checkpoint."""
    count: int = 16
    """Number of pictures."""
    label: tuple[str, ...] = ()
    """What to draw: names or numbers of labels, which take turns; none given: all labels in turn."""
    sampler: Literal["ddim", "ddpm"] = "ddim"
    """The way from noise to picture: ddim needs few steps, ddpm is the original and wants hundreds."""
    steps: int = 50
    """Steps from noise to picture, from 1 to the length of the model's schedule."""
    eta: float = 0.0
    """Fresh noise in ddim, from 0, none, to 1, as much as ddpm."""
    guidance_scale: float | None = None
    """How hard the label pulls; 1 is as learnt, 0 not at all. None given: 3, or 1 for a model without labels."""
    clip: Clip = "clip"
    """What becomes of guesses outside the range of pictures: cut off, scaled into it (dynamic), or left (none)."""
    seed: int = 0
    """Names the noise: same seed, same pictures."""
    batch: int = 64
    """Pictures drawn at once; fewer need less memory."""
    backend: str = "auto"
    """Which kernels compute: numpy; numba; numba-direct (without Winograd's convolution); on a GPU cupy (in CUDA C++)
    or numba-cuda (in Python); auto for the fastest that runs here."""
    threads: int | None = None
    """CPU threads that compute, for numpy those of its BLAS. None given: all that this process may use. They do not
    change the pictures, but for numpy's last bits."""
    like: Path | None = None
    """A grid.png of this command: repeat it to the bit. Settings given beside it change what they name."""
    out: Path | None = None
    """Folder for the files, by default a new one under runs/. Nothing in it is overwritten."""
    images: bool = False
    """Also write each picture as a PNG of its own."""
    array: bool = False
    """Also write samples.npz: arr_0, uint8 (N, H, W, C), as evaluators read it, and the labels."""
    animation: Literal["none", "gif", "apng"] = "none"
    """Also write noise becoming image, x_t and the guess x0_hat side by side."""
    trace: bool = False
    """Also write trace.npz: t, x_t, x0_hat and eps_hat of every step."""
    watch: bool = False
    """Show the pictures emerging: in a terminal with true colour, else in watch.png, rewritten at each step."""


# What decides the pictures, and so goes into grid.png.
REPEATED = (
    "checkpoint", "count", "label", "sampler", "steps", "eta", "guidance_scale", "clip", "seed", "batch", "backend",
)  # fmt: skip


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, by default the process's."""
    config, digest = parse(sys.argv[1:] if arguments is None else arguments)
    backend.on_compile(lambda line: tqdm.write(line, file=sys.stderr))
    backend.use(config.backend, config.threads)
    if config.checkpoint is None:
        raise MinidiffError("which model? give --checkpoint with a checkpoint file or a training's folder")
    model = load(config.checkpoint)
    found = checkpoints.hash(model.path)
    if digest not in (None, found):
        raise MinidiffError(
            f"{config.like} was drawn with another checkpoint: its SHA-256 is {digest}, that of {model.path} is {found}"
        )
    guidance_scale = model.guidance(config.guidance_scale)
    draw(model, dataclasses.replace(config, guidance_scale=guidance_scale, backend=backend.current().name), found)


def parse(arguments: Sequence[str]) -> tuple[SampleConfig, str | None]:
    """Read the command line, on top of what `--like` says; return it with the hash that its checkpoint must have."""
    read = lambda default: tyro.cli(
        SampleConfig,
        prog="python -m minidiff.sample",
        args=list(arguments),
        default=default,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.HelptextFromCommentsOff),
    )
    config = read(SampleConfig())
    if config.like is None:
        return config, None
    about = pictures.read_metadata(config.like)
    settings, digest = about.get("settings"), about.get("checkpoint_sha256")
    if about.get("command") != "sample" or not isinstance(settings, dict) or not isinstance(digest, str):
        raise MinidiffError(f"{config.like} was not written by python -m minidiff.sample")
    if foreign := sorted(settings.keys() - set(REPEATED)):
        raise MinidiffError(f"{config.like}: unknown setting {foreign[0]!r}")
    if about.get("minidiff") != __version__:
        said = f"{config.like} was drawn by minidiff {about.get('minidiff')}, this is {__version__}: bits may differ"
        print(said, file=sys.stderr)
    return read(from_dict(SampleConfig, settings, str(config.like))), digest


@dataclass
class Drawn:
    """What drawing leaves behind: the pictures x0 (N, H, W, C) float32, and the steps that were asked for."""

    x0: list[np.ndarray] = field(default_factory=list)  # batch by batch
    traced: list[list[Step]] = field(default_factory=list)  # batch by batch, every step
    animated: list[Step] = field(default_factory=list)  # about a hundred steps of the first batch


def draw(model: Pipeline, config: SampleConfig, digest: str) -> None:
    """Draw the pictures, show them on the way as asked, and write the files."""
    if config.batch < 1:
        raise MinidiffError(f"batch must be 1 or more, got {config.batch}")
    generate(model, config, 0, min(config.batch, config.count))  # mistakes are found before there is a folder
    out, drawn = make_folder(config.out), Drawn()
    frames = {round(i) for i in np.linspace(0, config.steps - 1, min(config.steps, MOST_FRAMES))}
    with Viewer(out, config) as viewer:
        for first in range(0, config.count, config.batch):
            drawn.traced.append([])
            for step in generate(model, config, first, min(config.batch, config.count - first)):
                viewer.show(step)
                if config.trace:
                    drawn.traced[-1].append(step)
                if config.animation != "none" and first == 0 and step.index in frames:
                    drawn.animated.append(step)
            drawn.x0.append(backend.to_numpy(step.x_prev))
    write(out, model, config, digest, drawn)


def write(out: Path, model: Pipeline, config: SampleConfig, digest: str, drawn: Drawn) -> None:
    """Write the files that were asked for, and say where they are."""
    x0 = np.concatenate(drawn.x0)
    images, labels = pictures.to_uint8(x0), model.labels(config.count, config.label)
    given = {} if labels is None else {"labels": labels}

    settings = {name: getattr(config, name) for name in REPEATED} | {"checkpoint": model.path.as_posix()}
    about = {"command": "sample", "minidiff": __version__, "checkpoint_sha256": digest, "settings": settings}
    turns = len(config.label) or len(model.classes)  # a column a label, where they fit
    pictures.save_png(out / "grid.png", pictures.grid(images, turns if 1 < turns <= MOST_COLUMNS else None), about)
    if config.images:
        save_images(out / "images", images, [] if labels is None else [model.classes[label] for label in labels])
    if config.array:
        save_arrays(out / "samples.npz", {"arr_0": images, **given})
    if config.trace:
        save_arrays(out / "trace.npz", {**trace(drawn.traced), "x0": x0, **given})
    if config.animation != "none":
        frames = [frame(step, zoom=ANIMATION_ZOOM) for step in drawn.animated]
        result = dataclasses.replace(drawn.animated[-1], x_t=drawn.animated[-1].x_prev)
        frames.append(frame(result, zoom=ANIMATION_ZOOM))
        path = out / ("steps.gif" if config.animation == "gif" else "steps.png")
        pictures.save_animation(path, frames, [FRAME_MS] * len(drawn.animated) + [LAST_FRAME_MS])
    for path in sorted(out.iterdir()):
        print(path)


def generate(model: Pipeline, config: SampleConfig, first: int, count: int) -> Iterator[Step]:
    """Return the generator of the steps of pictures first … first + count - 1."""
    return model.generate(
        count,
        config.label,
        sampler=config.sampler,
        steps=config.steps,
        eta=config.eta,
        guidance_scale=config.guidance_scale,
        clip=config.clip,
        seed=config.seed,
        first=first,
    )


def trace(traced: list[list[Step]]) -> dict[str, np.ndarray]:
    """Return t (steps,) int64 and x_t, x0_hat, eps_hat (steps, N, H, W, C) float32, the batches side by side."""
    arrays = {"t": np.array([step.t for step in traced[0]])}
    for name in ("x_t", "x0_hat", "eps_hat"):
        parts = [np.stack([backend.to_numpy(getattr(step, name)) for step in part]) for part in traced]
        arrays[name] = np.concatenate(parts, axis=1)
    return arrays


def save_images(folder: Path, images: np.ndarray, names: list[str]) -> None:
    """Write pictures as 00000_dog.png, 00001_cat.png, …; characters that file systems dislike become _."""
    folder.mkdir()
    for k, image in enumerate(images):
        name = f"{k:05d}_{names[k]}" if names else f"{k:05d}"
        pictures.save_png(folder / (re.sub(r"[^\w-]+", "_", name)[:80] + ".png"), image)


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write named arrays as .npz."""
    write_atomically(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def make_folder(out: Path | None) -> Path:
    """Make the folder for the files, by default runs/<date and time>_samples; nothing may be in it."""
    if out is None:
        name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S") + "_samples"
        free = (Path("runs") / (f"{name}_{number}" if number else name) for number in itertools.count())
        out = next(path for path in free if not path.exists())
    if out.exists() and not out.is_dir():
        raise MinidiffError(f"--out {out} is a file; expected a folder, or a name that is free")
    if out.is_dir() and any(out.iterdir()):
        raise MinidiffError(f"--out {out} is not empty, and nothing is overwritten; name another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MinidiffError(f"cannot make the folder {out}: {error.strerror}") from error
    if not os.access(out, os.W_OK):  # better now than after an hour of drawing
        raise MinidiffError(f"cannot write into the folder {out}")
    return out


class Viewer:
    """What is seen while it draws: a progress bar with the time left and, with `--watch`, the pictures.

    In a terminal they are drawn over themselves, with the bar's text below; elsewhere they go to watch.png.
    """

    def __init__(self, out: Path, config: SampleConfig) -> None:
        in_terminal = sys.stdout.isatty()
        self.file = out / "watch.png" if config.watch and not in_terminal else None
        self.in_terminal = config.watch and in_terminal
        batches = -(-config.count // config.batch)
        # disable=None: no bar where stderr is a file
        self.bar = tqdm(total=batches * config.steps, unit="step", disable=True if self.in_terminal else None)
        self.start, self.done, self.lines = time.perf_counter(), 0, 0
        if self.file is not None:
            print(f"watch {self.file}", flush=True)

    def __enter__(self) -> "Viewer":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def show(self, step: Step) -> None:
        """Take in that a step is done."""
        self.bar.update()
        self.done += 1
        if self.file is not None:
            pictures.save_png(self.file, frame(step))
        if self.in_terminal:
            size = shutil.get_terminal_size()
            text, seconds = terminal_frame(step, size), time.perf_counter() - self.start
            meter = tqdm.format_meter(self.done, self.bar.total, seconds, unit="step", ncols=size.columns - 10)
            up = f"\x1b[{self.lines}F" if self.lines else ""  # to the first line of what was drawn before
            print(f"{up}{text}\nt = {step.t:<4} {meter}\x1b[K", flush=True)
            self.lines = text.count("\n") + 2


def terminal_frame(step: Step, size: os.terminal_size) -> str:
    """Return x_t and x0_hat of the first pictures as text that fits a terminal, one line left for the bar."""
    image = frame(step, MOST_WATCHED)
    height, width, _ = image.shape
    shrink = max(width / size.columns, height / 2 / max(size.lines - 2, 1))
    return pictures.half_blocks(image, max(1, width // math.ceil(shrink)))


if __name__ == "__main__":
    main()
