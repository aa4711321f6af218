"""The output folder of `python -m minidiff.sample`, and some of the files beside grid.png.

    images/00000_dog.png, …    each image by itself
    samples.npz                all images as one array, and their labels
    trace.npz                  t, x_t, x0_hat and eps_hat of every step

Leaves out image formats (images/files.py), and grid.png, the animation and explain.html (draw.py).
"""

import re
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from minidiff import backend, files
from minidiff.diffusion.run import Step
from minidiff.files import write_atomically
from minidiff.images.files import save_png


def save_images(folder: Path, images: np.ndarray, names: list[str]) -> None:
    """Write images as 00000_dog.png, 00001_cat.png, …; characters that file systems dislike become _, and of long
    names the first 80 bytes are kept, since file systems limit their length."""
    folder.mkdir()
    for k, image in enumerate(images):
        name = f"{k:05d}_{names[k]}" if names else f"{k:05d}"
        short = re.sub(r"[^\w-]+", "_", name).encode()[:80].decode(errors="ignore")
        save_png(folder / f"{short}.png", image)


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write named arrays as .npz."""
    write_atomically(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def traced_steps(steps: list[Step]) -> list[np.ndarray]:
    """Return what is traced of a batch: t (steps,) int64 and x_t, x0_hat, eps_hat (steps, N, H, W, C) float32."""
    arrays = (
        np.stack([backend.to_numpy(getattr(step, name)) for step in steps]) for name in ("x_t", "x0_hat", "eps_hat")
    )
    return [np.array([step.t for step in steps]), *arrays]


def trace(batches: list[list[np.ndarray]]) -> dict[str, np.ndarray]:
    """Return t (steps,) int64 and x_t, x0_hat, eps_hat (steps, N, H, W, C) float32, the batches side by side."""
    t, *arrays = zip(*batches)
    named = zip(("x_t", "x0_hat", "eps_hat"), arrays)
    return {"t": t[0], **{name: np.concatenate(parts, axis=1) for name, parts in named}}


def new_folder(out: Path | None) -> AbstractContextManager[Path]:
    """Make the folder for the files, by default runs/<date and time>_samples; nothing may be in it."""
    return files.new_folder(out, "_samples")
