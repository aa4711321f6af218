"""A user's own images: the image files under a folder, at any depth, cropped to one size.

Each image is read once, becomes 8-bit RGB or grey, and stays in memory.  Files that cannot be read, and folders that
minidiff itself has written, are named in a warning and left out.  The names of sub-folders can be the labels.
Leaves out decoding (images/read.py) and captions (folder_captions.py).
"""

import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor
from tqdm import tqdm

from minidiff.data.config import Captions
from minidiff.data.dataset import ImageDataset, packed
from minidiff.data.folder_captions import captions, inside, set_apart, warn
from minidiff.data.standard import MAX_BYTES
from minidiff.errors import MinidiffError, printable
from minidiff.files import open_regular
from minidiff.images.read import FORMATS, MAX_FILE, decode, quiet, why_unreadable
from minidiff.nn.tokenizer import build_tokenizer


def folder(
    path: Path,
    size: tuple[int, int] = (32, 32),
    grey: bool = False,
    background: str = "white",
    labels: bool = False,
    where: Captions = "none",
) -> ImageDataset:
    """Read every image under a folder, at any depth, in the order of their paths: (N, height, width, 3 or 1) uint8.

    size: height and width of the images; what a file's image has beyond this aspect ratio is cropped.
    background: the colour behind transparent pixels.  labels: whether the names of the first-level sub-folders are the
    classes.  where: without labels, the source of the captions; if there are any, they make the tokenizer and are the
    labels (N, L).
    Hidden files and folders are skipped, and so are folders that minidiff's commands have written, since a network drew
    their images.  Warnings name these folders, and the files that cannot be read.
    Raises MinidiffError if there is no such folder, no image, or more than 8 GiB of them.
    """
    try:
        colour = ImageColor.getrgb(background)[:3]
    except ValueError as error:
        raise MinidiffError(f"background {background!r}: not a colour; give a name or #rrggbb") from error
    if not path.is_dir():
        raise MinidiffError(f"{path}: no such folder of images")
    skipped: list[str] = []
    own: list[Path] = []
    everything = find(path, lambda error: skipped.append(f"{inside(path, error.filename)} ({error.strerror})"), own)
    warn(path, "folders of trainings and of samples are left out", [inside(path, each) for each in own])
    files, written = set_apart(everything)
    height, width = size
    shape = (len(files), height, width, 1 if grey else 3)
    if (most := int(np.prod(shape, dtype=object))) > MAX_BYTES:
        raise MinidiffError(
            f"{path}: {len(files)} files at {height}×{width} pixels would take {most / 2**30:.1f} GiB of memory, "
            f"the limit is {MAX_BYTES / 2**30:.0f}: choose a smaller size or fewer images"
        )
    images = np.empty(shape, np.uint8)
    read: list[Path] = []
    content: list[bytes] = []
    for file in tqdm(files, desc="reading images", unit="image", delay=2.0, leave=False):
        try:
            with quiet(), open_regular(file, MAX_FILE) as stream:
                images[len(read)] = decode(stream, height, width, grey, colour)
                stream.seek(0)
                content.append(hashlib.file_digest(stream, "sha256").digest())
            read.append(file)
        except Exception as error:  # a decoder may raise anything at all on a damaged file
            why = why_unreadable(error).removeprefix(f"{file} ")
            skipped.append(f"{inside(path, file)} ({why})")
    warn(path, f"of {len(read) + len(skipped)} not readable", skipped)
    if not read:
        raise MinidiffError(f"{path}: no readable image ({', '.join(FORMATS)}) in this folder or below it")
    name = printable(path.resolve().name)
    dataset = partial(ImageDataset, name, images[: len(read)], content=packed(content), left_out=len(skipped))
    if labels:
        return dataset(*_label(path, read))
    said = captions(path, read, written, where)
    if said is None:
        return dataset()
    known = build_tokenizer(said)
    return dataset(known.encode(said), tokenizer=known, parts=known.caption_parts(said))


def _label(path: Path, files: list[Path]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Number the first-level sub-folders that hold the files: the labels (N,) int64, and their names, sorted."""
    parts = [file.relative_to(path).parts for file in files]
    loose = next((part[0] for part in parts if len(part) == 1), None)
    if loose is not None:
        raise MinidiffError(
            f"{path}: {printable(loose)} lies in no sub-folder, so it has no label: move it, or ask for no labels"
        )
    names = sorted({part[0] for part in parts})
    number = {name: i for i, name in enumerate(names)}
    return np.array([number[part[0]] for part in parts], np.int64), tuple(map(printable, names))


def find(root: Path, on_error: Callable[[OSError], object] | None = None, own: list[Path] | None = None) -> list[Path]:
    """Return every file under `root` that is not hidden, sorted by its path; links are followed, once each.

    own: collects the folders below `root` that minidiff's commands have written, which are skipped.
    """
    found, seen = [], set()
    for place, folders, names in os.walk(root, onerror=on_error, followlinks=True):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:  # a link back up, or a second way to the same folder
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        if Path(place) != root and _is_minidiffs(Path(place), folders, names):
            if own is not None:
                own.append(Path(place))
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(found, key=lambda file: file.relative_to(root).parts)


def _is_minidiffs(folder: Path, folders: list[str], names: list[str]) -> bool:
    """Return whether a folder was written by a training or by sampling."""
    if "config.toml" in names and not {"checkpoints", "previews"}.isdisjoint(folders):
        return True
    if "grid.png" not in names:
        return False
    try:
        with quiet(), open_regular(folder / "grid.png", MAX_FILE) as file, Image.open(file, formats=("PNG",)) as grid:
            return "minidiff" in grid.info
    except Exception:  # a decoder may raise anything at all; whatever that is, it is not ours
        return False
