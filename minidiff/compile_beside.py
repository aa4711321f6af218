"""A second process that compiles kernels, the first time that a machine needs them.

Idea: Numba compiles kernels one after the other, with one core.  So the first command that needs kernels starts a
second process.  It makes one small call of each kernel, beginning with those that the command needs last.  Whatever one
of the two has compiled lies on the disk, where the other finds it; in the middle they meet.
Leaves out where compiled kernels are kept: cache_folders.py.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from minidiff import backend
from minidiff.processes import cores, world

DRAWING, TRAINING = "drawing", "training"
_started: list[subprocess.Popen] = []  # kept, as Python warns of a process that runs longer than the object for it


def start(what: str) -> None:
    """Start the second process, unless that has been done before or there is no core for it.

    what: DRAWING or TRAINING, which needs more kernels.  Call it when the backend is selected.
    """
    if backend.current().name != "numba" or world.current().size > 1 or len(cores.available()) < 2:
        return
    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    if (folder / f"compiled-for-{TRAINING}").exists():
        return
    nowhere = subprocess.DEVNULL
    with contextlib.suppress(OSError):  # it exists, or cannot be written: this process compiles what it needs
        (folder / f"compiled-for-{what}").touch(exist_ok=False)
        command = [sys.executable, "-c", f"from minidiff.compile_beside import main; main({what!r})"]
        _started.append(subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere))


def calls(k: backend.Backend, what: str) -> list[Callable[[], object]]:
    """Return small calls that need all kernels of a drawing, or of a training too, as a command needs them."""
    zeros = lambda *shape: np.zeros(shape, np.float32)
    many = 4 * k.threads(None)  # images: enough for all threads
    x, w, b, vector = zeros(many, 16, 16, 16), zeros(3, 3, 16, 16), zeros(16), zeros(many, 16)
    rows, square, small = zeros(1, 600, 1, 64), zeros(1, 1, 64, 64), zeros(many, 2, 2, 16)
    large, one = zeros(1, 128, 128, 16), zeros(1, 16)  # an image that several threads share
    q, mean, key, sample, numbers = zeros(2, 16, 16), zeros(many, 4), (0, 0, 0), np.arange(many), zeros(64)
    drawing = [
        lambda: k.normal(key, sample, 8),
        lambda: k.group_norm(x, b, b, 4, 1e-5, False),
        lambda: k.conv2d(rows, square, zeros(64)),
        lambda: k.attention(q, q, q, 2),
        lambda: k.add(large, large),
        lambda: k.conv2d(x, w, b),
        lambda: k.norm_silu_conv2d(large, one, one, 4, 1e-5, w, b),
        lambda: k.norm_silu_conv2d(x, vector, vector, 4, 1e-5, w, b),
        lambda: k.concat(large, large),
        lambda: k.sampler_update(x, x, None, (1.0, 0.0, 0.0, 0.0), key, sample),
    ]
    if what == DRAWING:
        return drawing
    shape = np.zeros((1, 1, 17), np.float32)  # one row of a scene's display list
    return [
        lambda: k.raster(shape, np.ones(1, np.int64), 8),
        lambda: k.uniform(key, sample, 8),
        lambda: k.add_noise(x, zeros(many), zeros(many), key, sample),
        *drawing,
        lambda: k.square_sum(numbers),
        lambda: k.conv2d_grad_b(x),
        lambda: (k.conv2d_grad_x(rows, square, rows.shape), k.conv2d_grad_w(rows, rows, square.shape)),
        lambda: k.split(large, 8),
        lambda: k.attention_grad(q, q, q, q, zeros(2, 2, 16, 16), 2),
        lambda: k.group_norm_grad(x, x, vector, vector, mean, mean, 4, False),
        lambda: k.norm_silu_conv2d_grad(small, small, vector, vector, mean, mean, 4, w),
        lambda: k.norm_silu_conv2d_grad(large, large, one, one, mean[:1], mean[:1], 4, w),
        lambda: k.norm_silu_conv2d_grad(x, x, vector, vector, mean, mean, 4, w),
        lambda: k.adamw_ema(*(numbers.copy() for _ in range(5)), 8, np.ones(9)),
    ]


def main(what: str) -> None:
    """Compile, from the kernel that is needed last to the one that is needed first."""
    with contextlib.suppress(AttributeError, OSError):
        os.nice(5)
    for call in reversed(calls(backend.use("numba"), what)):
        call()
