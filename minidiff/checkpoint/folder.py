"""The checkpoints in a run's folder: their names, the newest good one, and which are removed.

    RUN/checkpoints/step_00000500.safetensors

Leaves out the other files of a run: training/run_dir.py.
"""

import re
from collections.abc import Callable
from pathlib import Path

from minidiff.checkpoint.format import Checkpoint
from minidiff.checkpoint.read import load
from minidiff.errors import MAX_PRINTED, MinidiffError, printable

CHECKPOINTS = "checkpoints"  # the folder for them in a run's folder

_NAME = re.compile(r"step_(\d+)\.safetensors")


def find(path: Path, warn: Callable[[str], object] = print) -> Checkpoint:
    """Read a checkpoint file, or the newest good one of a folder: a run's, or the one that holds its checkpoints.

    warn: is called with a line for each checkpoint that is skipped.
    Raises MinidiffError if there is no checkpoint, or none that is good.
    """
    path = Path(path)
    return newest(path, warn) if path.is_dir() else load(path)


def newest(folder: Path, warn: Callable[[str], object] = print) -> Checkpoint:
    """Read the newest checkpoint of a folder; if it is damaged, the one before it, and so on.  See `find`."""
    paths = paths_in(folder)
    if not paths:
        raise MinidiffError(f"no checkpoint in {folder}: expected {path_of(folder, 1).parent}/step_….safetensors")
    first_error = None
    for path in reversed(paths):
        try:
            return load(path)
        except MinidiffError as error:
            first_error = first_error or error
            warn(printable(f"skipped: {error}", MAX_PRINTED))
    raise MinidiffError(f"none of the {len(paths)} checkpoints in {folder} can be used; the newest: {first_error}")


def path_of(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint of a step in a run's folder."""
    return Path(folder) / CHECKPOINTS / f"step_{step:08d}.safetensors"


def step_of(path: Path) -> int:
    """Return the step in the name of a checkpoint file, -1 for a file of another name."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def paths_in(folder: Path) -> list[Path]:
    """Return the checkpoint files of a run's folder, or of the one in it that holds them, oldest first."""
    inside = path_of(folder, 0).parent
    paths = inside.glob("*") if inside.is_dir() else Path(folder).glob("*")
    return sorted((path for path in paths if step_of(path) >= 0), key=step_of)


def prune(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints of a run's folder.

    Links, folders, and files whose names no training writes, such as step_2 without zeros, stay and do not count.
    """
    own = [path for path in paths_in(folder) if path.name == path_of(folder, step_of(path)).name]
    files = [path for path in own if path.is_file() and not path.is_symlink()]
    for path in files[:-keep]:
        path.unlink()
