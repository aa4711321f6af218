"""Opening the dataset that the settings describe: scenes, a published dataset, an .npz file or a folder of images.

Settings that contradict each other are refused before anything is read.
Leaves out the reading: standard.py, arrays.py, folder.py.
"""

from dataclasses import replace
from typing import get_args

import numpy as np

from minidiff.data.arrays import npz
from minidiff.data.config import DataConfig, DataName, check_size, size_text
from minidiff.data.dataset import Dataset, ImageDataset, Split, hold_out
from minidiff.data.folder import folder
from minidiff.data.standard import cifar10, fashion_mnist, mnist
from minidiff.errors import MinidiffError
from minidiff.limits import check_limits
from minidiff.scenes import Scenes
from minidiff.scenes.alike import Alike

SIZE = 32
NAMES = get_args(DataName)
PUBLISHED = {"mnist": mnist, "fashion-mnist": fashion_mnist, "cifar10": cifar10}


def open_data(config: DataConfig, split: Split = "train", seed: int = 0, alike: bool = False) -> Dataset:
    """Return the dataset that the settings name, for training or for testing.

    Published datasets have their own split; of a folder or an .npz one image in ten is for testing.
    seed: of scenes; other data do not depend on it.  alike: whether each scene has a partner of the same style.
    Raises MinidiffError if the settings contradict each other or the files cannot be read.
    """
    _check(config)
    data, size = config.data, config.size or (SIZE,)
    height, width = size[0], size[-1]
    if data == "scenes":
        kind = Alike if alike else Scenes
        return kind(height, split, seed, captions=config.captions != "none")
    assert config.data_dir is not None  # _check
    if data == "folder":
        labels, where = config.folder_labels, config.captions
        everything = folder(config.data_dir, (height, width), config.grey, config.background, labels, where)
        return hold_out(everything, split)
    if data == "npz":
        images = hold_out(npz(config.data_dir), split)
    else:
        images = PUBLISHED[data](config.data_dir, split, config.download)
    if config.size is not None and (height, width) != (images.height, images.width):
        raise MinidiffError(
            f"size {size_text(size)}: the images of {data} are {images.height}×{images.width} and keep that size: "
            "leave the size out (scenes and folder can have any size)"
        )
    return to_grey(images) if config.grey else images


def _check(config: DataConfig) -> None:
    """Raise MinidiffError for settings that contradict each other, before anything is read."""
    data = config.data
    if data not in NAMES:
        raise MinidiffError(f"data {data!r}: expected one of {', '.join(NAMES)}")
    check_limits({"size": config.size}, "--{}")
    check_size(config.size)
    if data == "scenes" and config.size is not None and len(config.size) > 1:
        raise MinidiffError(f"scenes are square: expected one number as their size, got {size_text(config.size)}")
    if data == "scenes" and config.data_dir is not None:
        raise MinidiffError(f"--data-dir {config.data_dir}: scenes read no files; did you mean --data folder?")
    if data == "scenes" and config.grey:
        raise MinidiffError("--grey: scenes are in colour; it works with cifar10, npz and folder")
    if data != "scenes" and config.data_dir is None:
        hint = " (with --download an empty or new one will do)" if data in PUBLISHED else ""
        what = "FILE.npz" if data == "npz" else f"DIR, the folder of its files{hint}"
        raise MinidiffError(f"--data {data} needs --data-dir {what}")
    if config.download and data not in PUBLISHED:
        raise MinidiffError(f"--download: nothing to fetch for {data}; it works with {', '.join(PUBLISHED)}")
    if config.captions not in ("auto", "none") and data != "folder":
        raise MinidiffError(f"--captions {config.captions}: works with --data folder, not with {data}")
    if config.captions not in ("auto", "none") and config.folder_labels:
        raise MinidiffError(f"--captions {config.captions}: a network learns captions or --folder-labels, not both")
    if config.folder_labels and data != "folder":
        raise MinidiffError(f"--folder-labels: works with --data folder, not with {data}")


def to_grey(dataset: ImageDataset) -> ImageDataset:
    """Return the images with one channel: luma 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), rounded.

    In integers, 65536 times the weights, as Pillow does it, so that a folder and an .npz of it agree.
    """
    if dataset.channels == 1:
        return dataset
    weights = np.array([19595, 38470, 7471], np.uint32)
    grey = np.empty((*dataset.images.shape[:3], 1), np.uint8)
    for i in range(0, len(grey), 1000):  # in parts: the sums are four times as wide
        grey[i : i + 1000, :, :, 0] = (dataset.images[i : i + 1000] @ weights + 32768) >> 16
    return replace(dataset, images=grey)
