"""A file is either the old one or the whole new one, never half of one.

Checkpoints, pictures and downloads are all written here: into a temporary file beside the target, which is forced
to the disk and then renamed over the target. POSIX promises that the rename is one step, so whoever reads the name,
even after a power cut, finds one of the two whole files.
"""

import contextlib
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


def write_atomically(path: str | os.PathLike[str], data: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file in one step: afterwards `path` is whole, or as it was before.

    data: the bytes, or a function that writes them into the binary, seekable file that it is given.
    Raises OSError that names `path` if the folder is missing or forbidden or the disk full. Whatever is raised,
    Ctrl-C included, the temporary file is removed first; only a killed process leaves one (see `remove_temporary`).
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            with temporary.open("xb") as file:
                if callable(data):
                    data(file)
                else:
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())  # the content must be on the disk before its name is
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)
    except OSError as error:
        # A full disk names no file, a forbidden folder names the temporary one: the user knows neither.
        if error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise


def remove_temporary(folder: str | os.PathLike[str]) -> int:
    """Remove what killed writers left in `folder`, and return how many files that were.

    For a folder with one writer, such as a training run's: another's unfinished file would go as well.
    """
    removed = 0
    for path in Path(folder).iterdir():
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink()
            removed += 1
    return removed


def _sync_folder(folder: Path) -> None:
    """Force a rename to the disk. Windows opens no folders and some file systems cannot sync one; no harm done."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
