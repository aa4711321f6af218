"""Storing in grid.png how it was drawn, so that `--like` can draw it again.

Idea: the PNG contains everything that decides the images: the request, and the SHA-256 of every file that was used.  If
one of the files has changed since, `--like` names it.  Paths are stored as they were typed; instead of a run's folder,
the checkpoint that was read is stored.  A relative path is looked up from the current folder, then from the folder of
the grid and from each folder above it.
Leaves out which files these are: `files_of` in inputs.py.
"""

import dataclasses
import math
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from minidiff import __version__, renamed
from minidiff.checkpoint.settings import from_dict
from minidiff.errors import MAX_PRINTED, MinidiffError, printable
from minidiff.files import sha256
from minidiff.images.files import read_metadata
from minidiff.pipeline.loading import SMALL
from minidiff.sampling.branches import relocated
from minidiff.sampling.request import SampleRequest

INFINITY = "inf"  # the end of a guidance interval; JSON has no such number


def say(line: str) -> None:
    """Print a line for the user of a command."""
    print(line, file=sys.stderr)


def describe(request: SampleRequest, digests: Mapping[str, str]) -> dict[str, Any]:
    """Return what is written into a grid: the request, and the SHA-256 of files.

    digests: names of files, "checkpoint" among them, to their SHA-256.
    """
    others = {name: digest for name, digest in digests.items() if name != "checkpoint"}
    about: dict[str, Any] = {"command": "sample", "minidiff": __version__, "checkpoint_sha256": digests["checkpoint"]}
    about |= {"images_sha256": others} if others else {}
    return about | {
        "settings": {field.name: plain(getattr(request, field.name)) for field in dataclasses.fields(request)}
    }


def read(grid: Path, find: bool = True, warn: Callable[[str], object] = say) -> tuple[SampleRequest, dict[str, str]]:
    """Return the request of a grid, and the digests that its files must have.

    find: look for the files that it names, from the current folder and from the grid's; else paths stay as they are.
    warn: is called with a line if another version drew it.
    Raises MinidiffError if the image was not written by `describe`, or has an unknown setting.
    """
    about = read_metadata(grid)
    config = request_of(about, str(grid))
    digests = {**_table(about.get("images_sha256")), "checkpoint": about.get("checkpoint_sha256")}
    if not all(isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) for digest in digests.values()):
        raise MinidiffError(f"{grid} was not written by python -m minidiff.sample")
    if about.get("minidiff") != __version__:
        by = printable(about.get("minidiff"), 20)
        warn(f"{printable(grid, MAX_PRINTED)} was drawn by minidiff {by}, this is {__version__}: bits may differ")
    if not find:
        return config, digests
    if config.checkpoint is None and SMALL.is_file() and sha256(SMALL) == digests["checkpoint"]:
        config = dataclasses.replace(config, checkpoint=SMALL)  # it was drawn when these were the default
    paths: dict[str, Any]
    paths = {
        name: _found(value, grid, digests.get(name)) for name, value in vars(config).items() if isinstance(value, Path)
    }
    paths |= {
        name: tuple(_found(path, grid) for path in value)
        for name, value in vars(config).items()
        if isinstance(value, tuple) and value and isinstance(value[0], Path)
    }
    config = dataclasses.replace(config, **paths)
    return relocated(config, lambda path, name: _found(path, grid, digests.get(name))), digests


def request_of(about: Mapping[str, Any], where: str) -> SampleRequest:
    """Return the request in what `describe` has written.  Raises MinidiffError if it was not `describe`."""
    settings = renamed.settings({"sample": about.get("settings")})["sample"]
    if about.get("command") != "sample" or not isinstance(settings, dict):
        raise MinidiffError(f"{where} was not written by python -m minidiff.sample")
    known = {field.name for field in dataclasses.fields(SampleRequest)}
    if foreign := sorted(settings.keys() - known):
        raise MinidiffError(f"{where}: unknown setting {foreign[0]!r}")
    if isinstance(interval := settings.get("guidance_interval"), list):
        settings = {**settings, "guidance_interval": [math.inf if end == INFINITY else end for end in interval]}
    return from_dict(SampleRequest, settings, where)


def plain(value: Any) -> Any:
    """Return a setting as a JSON value; paths have / on every system."""
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    if value == math.inf:
        return INFINITY
    return value.as_posix() if isinstance(value, Path) else value


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _found(path: Path, grid: Path, digest: str | None = None) -> Path:
    """Return the path of a file that a grid names: as it is, or below a folder that contains the grid.

    digest: its SHA-256, where the grid has it: of several such files it is the one that fits.
    """
    if path.is_absolute():
        return path
    there = [each for each in (path, *(folder / path for folder in grid.resolve().parents)) if _exists(each)]
    if len(there) > 1 and digest is not None:
        there = [each for each in there if each.is_file() and sha256(each) == digest] or there
    return there[0] if there else path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no file can have
        return False


def check(grid: Path | None, stored: Mapping[str, str], files: Mapping[str, Path]) -> dict[str, str]:
    """Return the SHA-256 of each file; MinidiffError if one is not the one that the grid was drawn with.

    stored: the digests in the grid, {} without one.
    """
    digests = {name: sha256(path) for name, path in files.items()}
    for name, digest in stored.items():
        if name in digests and digest != digests[name]:
            raise MinidiffError(
                f"{grid} was drawn with another {name}: its SHA-256 is {digest}, "
                f"that of {files[name]} is {digests[name]}"
            )
    return digests
