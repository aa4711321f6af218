"""What was drawn: a folder of PNGs, each with all settings inside, listed from the newest to the oldest.

    2026-11-28_14-30-05_001_000.png     date, time, number of the drawing, number of the image in it

Idea: the folder is the whole database.  A name sorts by time, and a file holds its own settings, in two forms: those
of `python -m minidiff.sample`, whose --like repeats the drawing to the bit, and the text that other programs read
(parameters.py).  A listing takes names alone, so it is as fast with ten thousand files as with ten; the settings of the
few that are shown are read when they are, and kept.
The folder may contain anything else.  Other names, symbolic links and damaged files are passed over.
Leaves out the drawing itself.
"""

import bisect
import json
import os
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from minidiff.errors import MinidiffError
from minidiff.images.files import read_metadata, save_png
from minidiff.sampling import like
from minidiff.sampling.request import SampleRequest
from minidiff.studio.ids import UnknownIdError, id_of, is_file
from minidiff.studio.parameters import PARAMETERS_KEY, infotext

_NAME = re.compile(r"(\d{4}-\d\d-\d\d)_(\d\d)-(\d\d)-(\d\d)_\d{3,6}_\d{3,6}\.png", re.ASCII)
_SETTLED = 2.0  # seconds after which a change of the folder is sure to have got a time stamp of its own
_MOST_KEPT = 4096  # files whose settings are kept in memory


@dataclass(frozen=True)
class Entry:
    """An image of the gallery.

    name: of its file.  drawn: when, "2026-11-28T14:30:05".
    about: what the PNG says of its making, see `like.describe`; "settings" are in it, and "image", its number among
    those of the request.
    """

    id: str
    name: str
    drawn: str
    about: Mapping[str, Any]


# Inside Gallery, `list` is a method.
Entries: TypeAlias = list[Entry]
Names: TypeAlias = list[str]


class Gallery:
    """The images in a folder, which is made for the first ones.  Its methods may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.RLock()
        self._names: Names = []  # sorted, so oldest first
        self._name_of: dict[str, str] = {}  # by id; also of files that are gone, which a listing may go on from
        self._seen: int | None = None  # the time stamp of the folder at which `_names` was complete
        self._kept: dict[tuple[str, int, int], dict[str, Any] | None] = {}  # by name, time and size; None: damaged

    def save(
        self,
        images: np.ndarray,
        request: SampleRequest,
        digests: Mapping[str, str],
        model_name: str,
        about: Mapping[str, Any] | None = None,
    ) -> Entries:
        """Write images (N, H, W, 1 or 3) uint8, the first N of a request, each as a PNG of its own.

        request: with steps, guidance scale and backend filled in, and paths that `python -m minidiff.sample` would
        read.  digests: the SHA-256 of its files, "checkpoint" among them.  about: is stored beside the settings.
        Nothing is overwritten.  Images that were written stay if a later one fails: OSError that names the file.
        """
        described = {**like.describe(request, digests), **(about or {})}
        height, width = images.shape[1:3]
        self.folder.mkdir(parents=True, exist_ok=True)
        stamp, number, entries = f"{datetime.now():%Y-%m-%d_%H-%M-%S}", 1, Entries()
        for k, image in enumerate(images):
            text = infotext(request, model_name, digests["checkpoint"], width, height, k)
            while True:
                name, mine = f"{stamp}_{number:03d}_{k:03d}.png", {**described, "image": k}
                try:
                    save_png(self.folder / name, image, mine, {PARAMETERS_KEY: text}, new=True)
                    break
                except MinidiffError:  # a file of that name exists
                    if k or not os.path.lexists(self.folder / name):
                        raise
                    number += 1
            entries.append(Entry(self._known(name), name, _drawn(name), mine))
        return entries

    def list(self, before: str | None = None, count: int = 60) -> Entries:
        """Return the newest images, at most `count`; with `before`, those that are older than the image of this id."""
        names = self._scanned()
        end = len(names) if before is None else bisect.bisect_left(names, self._name(before))
        entries: Entries = []
        while end > 0 and len(entries) < count:
            end -= 1
            if (about := self._about(names[end])) is not None:
                entries.append(Entry(id_of("g", names[end].encode()), names[end], _drawn(names[end]), about))
        return entries

    def path(self, id: str) -> Path:
        """Return the file of an image.  Raises UnknownIdError for any text that is not the id of one."""
        path = self.folder / self._name(id)
        if not is_file(path):
            raise UnknownIdError("image", id)
        return path

    def settings(self, id: str) -> dict[str, Any]:
        """Return what an image's PNG says of its making, as in `Entry.about`.

        Raises UnknownIdError, and MinidiffError if the PNG is damaged.
        """
        path = self.path(id)
        about = self._about(path.name)
        if about is None:
            raise MinidiffError(f"{path.name}: damaged, or not written by minidiff")
        return about

    def _name(self, id: str) -> str:
        with self._lock:
            if id not in self._name_of:
                self._scanned()
            if id not in self._name_of:
                raise UnknownIdError("image", id)
            return self._name_of[id]

    def _known(self, name: str) -> str:
        """Enter a new file into the tables, and return its id."""
        id = id_of("g", name.encode())
        with self._lock:
            self._name_of[id] = name
            place = bisect.bisect_left(self._names, name)
            if self._names[place : place + 1] != [name]:
                self._names = [*self._names[:place], name, *self._names[place:]]  # listings may hold the old one
        return id

    def _scanned(self) -> Names:
        """Return the names in the folder, oldest first.  It is read again only if it has changed."""
        with self._lock:
            try:
                stamp = self.folder.stat().st_mtime_ns
                if stamp != self._seen:
                    with os.scandir(self.folder) as found:
                        names = sorted(
                            each.name
                            for each in found
                            if _NAME.fullmatch(each.name) and each.is_file(follow_symlinks=False)
                        )
                    known = set(self._name_of.values())
                    self._name_of |= {id_of("g", name.encode()): name for name in names if name not in known}
                    # A file that is made right after this could leave the time stamp as it is.
                    self._seen = stamp if time.time_ns() - stamp > _SETTLED * 1e9 else None
                    self._names = names
            except (FileNotFoundError, NotADirectoryError):
                self._names, self._seen = [], None
            return self._names

    def _about(self, name: str) -> dict[str, Any] | None:
        """Return what a PNG says of its making; None if it is damaged, gone, or was not written by minidiff."""
        path = self.folder / name
        try:
            status = path.lstat()
            key = name, status.st_mtime_ns, status.st_size
            with self._lock:
                if key in self._kept:
                    return self._kept[key]
            about = read_metadata(path) if is_file(path) else None
        except OSError:  # it is gone, or may not be read just now
            return None
        except MinidiffError:
            about = None
        about = None if about is None else _sound(about)
        with self._lock:
            while len(self._kept) >= _MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = about
        return about


def _sound(about: dict[str, Any]) -> dict[str, Any] | None:
    """Return what is shown of a PNG's text, which may be anybody's: its settings and number; None if they are none."""
    try:
        request = like.request_of(about, "it")
        settings = {name: like.plain(value) for name, value in vars(request).items()}
        json.dumps(settings, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):  # a MinidiffError, a NaN, or half of a character
        return None
    image = about.get("image")
    return {**about, "settings": settings, "image": image if type(image) is int and 0 <= image < 1 << 32 else 0}


def _drawn(name: str) -> str:
    match = _NAME.fullmatch(name)
    assert match is not None  # only such names are listed
    return f"{match[1]}T{match[2]}:{match[3]}:{match[4]}"
