"""The settings of the data.  The string below each field is its help text on the command line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Captions = Literal["auto", "txt", "metadata", "names", "none"]
DataName = Literal["scenes", "mnist", "fashion-mnist", "cifar10", "npz", "folder"]


@dataclass(frozen=True)
class DataConfig:
    """Which images to learn from, and what is done to them first."""

    data: DataName = "scenes"
    """The images: scenes are drawn while training; the others are read from --data-dir."""
    data_dir: Path | None = None
    """Path of the images: a folder, or the .npz file of --data npz."""
    size: int | None = None
    """Height and width in pixels, for scenes and folder (default 32); the others keep their size."""
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
