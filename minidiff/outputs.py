"""The folder that drawings go into, and what is written there beside the grid.

Before sample.py.  Leaves out pictures themselves: pictures.py.
"""

import itertools
import os
import re
from datetime import datetime
from pathlib import Path

import numpy as np

from minidiff import pictures
from minidiff.errors import MinidiffError
from minidiff.files import write_atomically


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
