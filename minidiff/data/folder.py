"""One's own pictures: everything under a folder that Pillow can decode, cropped to squares of one size.

Each becomes plain 8-bit RGB (or grey), once, and stays in memory; what cannot be read is named and left out.
After picture.py, which reads one of them, and folder_captions.py.
"""

import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor
from tqdm import tqdm

from minidiff.conditioning.words import vocabulary
from minidiff.data.config import Captions
from minidiff.data.dataset import Pictures
from minidiff.data.folder_captions import NAMED, captions, inside, set_apart
from minidiff.data.picture import FORMATS, decode, why_unreadable
from minidiff.data.standard import MOST_BYTES
from minidiff.errors import MinidiffError

log = logging.getLogger(__name__)


def folder(
    path: Path,
    size: int = 32,
    grey: bool = False,
    background: str = "white",
    labels: bool = False,
    where: Captions = "none",
) -> Pictures:
    """Read every picture under a folder, at any depth, in the order of their paths: (N, size, size, 3 or 1) uint8.

    background: the colour behind transparent pixels. labels: whether the first-level sub-folders name the classes.
    where: without labels, where captions stand; if there are any, they make the vocabulary and are the labels (N, L).
    Hidden files and folders are passed over; files that cannot be read are named in one warning.
    Raises MinidiffError if there is no such folder, no picture, or more than 8 GiB of them.
    """
    try:
        colour = ImageColor.getrgb(background)[:3]
    except ValueError as error:
        raise MinidiffError(f"background {background!r}: no colour; give a name or #rrggbb") from error
    if not path.is_dir():
        raise MinidiffError(f"{path}: no such folder of pictures")
    skipped: list[str] = []
    everything = find(path, lambda error: skipped.append(f"{inside(path, error.filename)} ({error.strerror})"))
    files, written = set_apart(everything)
    shape = (len(files), size, size, 1 if grey else 3)
    if (most := int(np.prod(shape, dtype=object))) > MOST_BYTES:
        raise MinidiffError(
            f"{path}: {len(files)} files at {size}x{size} pixels would take {most / 2**30:.1f} GiB of memory, "
            f"the limit is {MOST_BYTES / 2**30:.0f}: choose a smaller size or fewer pictures"
        )
    images = np.empty(shape, np.uint8)
    read: list[Path] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks about odd metadata: the pixels are what counts
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for file in tqdm(files, desc="reading pictures", unit="picture", delay=2.0, leave=False):
            try:
                images[len(read)] = decode(file, size, size, grey, colour)
                read.append(file)
            except Exception as error:  # a decoder may raise anything at all on a damaged file
                skipped.append(f"{inside(path, file)} ({why_unreadable(error)})")
    if skipped:
        more = f" and {len(skipped) - NAMED} more" if len(skipped) > NAMED else ""
        total = len(read) + len(skipped)
        log.warning("%s", f"{path}: {len(skipped)} of {total} not readable: {'; '.join(skipped[:NAMED])}{more}")
    if not read:
        raise MinidiffError(f"{path}: no readable picture ({', '.join(FORMATS)}) in this folder or below it")
    images, name = images[: len(read)], path.resolve().name
    if labels:
        return Pictures(name, images, *_label(path, read))
    said = captions(path, read, written, where)
    if said is None:
        return Pictures(name, images)
    known = vocabulary(said)
    return Pictures(name, images, known.tokens(said), vocabulary=known, parts=known.parts(said))


def _label(path: Path, files: list[Path]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Number the first-level sub-folders that hold the files: the labels (N,) int64, and their names, sorted."""
    parts = [file.relative_to(path).parts for file in files]
    loose = next((part[0] for part in parts if len(part) == 1), None)
    if loose is not None:
        raise MinidiffError(f"{path}: {loose} lies in no sub-folder, so it has no label: move it, or ask for no labels")
    names = sorted({part[0] for part in parts})
    number = {name: i for i, name in enumerate(names)}
    return np.array([number[part[0]] for part in parts], np.int64), tuple(names)


def find(root: Path, on_error: Callable[[OSError], object] | None = None) -> list[Path]:
    """Return every file under `root` that is not hidden, sorted by its path; links are followed, once each."""
    found, seen = [], set()
    for place, folders, names in os.walk(root, onerror=on_error, followlinks=True):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:  # a link back up, or a second way to the same folder
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted((file for file in found if file.is_file()), key=lambda file: file.relative_to(root).parts)
