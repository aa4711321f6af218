"""The progress of a sampling run: a progress bar and, with `--watch`, the images of every step.

Idea: in a terminal, images are printed as coloured characters, each step over the step before.  Elsewhere they are
written to watch.png.
Leaves out how an image becomes characters: images/files.py.
"""

import math
import os
import shutil
import sys
import time
from pathlib import Path

from tqdm import tqdm

from minidiff.diffusion.run import Step
from minidiff.errors import MAX_PRINTED, printable
from minidiff.images.animation import frame
from minidiff.images.files import half_blocks, save_png

MAX_WATCHED = 4  # images in a terminal, which has few pixels
LARGE = 64  # pixels along both sides of an image that is enlarged less before it is reduced


class Viewer:
    """A progress bar with the time left and, with `--watch`, the images.

    In a terminal each frame overwrites the one before, with the bar's text below; elsewhere they go to watch.png.
    """

    def __init__(self, out: Path | None, watch: bool, batches: int) -> None:
        """out: the folder of the files, None for a process that writes none and shows nothing."""
        in_terminal = sys.stdout.isatty()
        self.file = out / "watch.png" if watch and out is not None and not in_terminal else None
        self.in_terminal, self.batches = watch and in_terminal, batches
        # disable=None: no bar where stderr is a file
        self.bar = tqdm(unit="step", disable=True if self.in_terminal else None)
        self.start, self.done, self.lines = time.perf_counter(), 0, 0
        if self.file is not None:
            print(f"watch {printable(self.file, MAX_PRINTED)}", flush=True)

    def __enter__(self) -> "Viewer":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def show(self, step: Step) -> None:
        """Record a finished step."""
        self.bar.total = self.batches * step.steps
        self.bar.update()
        self.done += 1
        if self.file is not None:
            save_png(self.file, frame(step))
        if self.in_terminal:
            size = shutil.get_terminal_size()
            text, seconds = terminal_frame(step, size), time.perf_counter() - self.start
            meter = tqdm.format_meter(self.done, self.bar.total, seconds, unit="step", ncols=size.columns - 10)
            up = f"\x1b[{self.lines}F" if self.lines else ""  # to the first line of what was drawn before
            print(f"{up}{text}\nt = {step.t:<4.0f} {meter}\x1b[K", flush=True)
            self.lines = text.count("\n") + 2


def terminal_frame(step: Step, size: os.terminal_size) -> str:
    """Return x_t and x0_hat of the first images as text that fits a terminal, one line left for the bar."""
    image = frame(step, MAX_WATCHED, zoom=2 if min(step.x_t.shape[1:3]) >= LARGE else None)
    height, width, _ = image.shape
    shrink = max(width / size.columns, height / 2 / max(size.lines - 2, 1))
    return half_blocks(image, max(1, width // math.ceil(shrink)))
