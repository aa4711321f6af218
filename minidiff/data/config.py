"""The settings of the data.  The string below each field is its help text on the command line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from minidiff.errors import MinidiffError

Captions = Literal["auto", "txt", "metadata", "names", "none"]
DataName = Literal["scenes", "mnist", "fashion-mnist", "cifar10", "npz", "folder"]


@dataclass(frozen=True)
class DataConfig:
    """Which images to learn from, and what is done to them first."""

    data: DataName = "scenes"
    """The images: scenes are drawn while training; the others are read from --data-dir."""
    data_dir: Path | None = None
    """Path of the images: a folder, or the .npz file of --data npz."""
    size: tuple[int, ...] | None = None
    """Pixels along each side, for scenes and folder (default 32); for folder also two numbers: height, then width. The
    others keep their size."""
    grey: bool = False
    """Turn colour into grey (cifar10, npz, folder)."""
    background: str = "white"
    """The colour behind transparent images of a folder: a name, or #rrggbb."""
    folder_labels: bool = False
    """Label the images of a folder with the names of its sub-folders."""
    captions: Captions = "auto"
    """Where a folder's captions are: name.txt beside name.png (txt), metadata.jsonl or .csv (metadata), or the files'
    names (names). auto: txt or else metadata, if there are any, and for scenes their own. none: learn classes instead,
    if there are any."""
    download: bool = False
    """Download the files that are missing in --data-dir (mnist, fashion-mnist, cifar10)."""
    flip: bool = False
    """Mirror half of the images, at random, while training: "left" and "right" are swapped in their captions. Not
    for digits or letters."""

    def __post_init__(self) -> None:
        if self.size is not None and len(self.size) == 2 and self.size[0] == self.size[1]:
            object.__setattr__(self, "size", self.size[:1])  # so that settings of the same meaning are equal


def check_size(size: tuple[int, ...] | None) -> None:
    """Raise MinidiffError unless a size is None, one number, or a height and a width."""
    if size is not None and len(size) not in (1, 2):
        got = " ".join(map(str, size)) or "nothing"
        raise MinidiffError(f"--size must be one number for a square, or a height and a width, got {got}")


def size_text(size: tuple[int, ...]) -> str:
    """Return a size for a message: 64, or 96×160."""
    return "×".join(map(str, size))
