"""Standard datasets, read from their published files: MNIST, Fashion-MNIST and CIFAR-10.

There are two formats, neither of which can run code: IDX (MNIST and Fashion-MNIST) and CIFAR-10's binary version.  The
sizes in a file's header are checked before anything is allocated, and no more is unpacked than is needed.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from minidiff.data.dataset import MAX_IMAGES, ImageDataset, Split
from minidiff.data.download import REMOTES, Remote, fetch, unpack
from minidiff.errors import MinidiffError, printable
from minidiff.files import open_regular, read_bytes

MAX_BYTES = 8 << 30  # of images in memory
_PART = 1 << 20  # bytes that are read at once: memory grows with the data, not with what a header claims

MNIST_CLASSES = tuple("0123456789")
FASHION_CLASSES = (
    *("t-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MAX_CIFAR = 1_000_000  # records of a file; the published ones have 10,000
CIFAR_RECORD = 1 + 3 * 32 * 32  # a label, then the red, the green and the blue plane


def mnist(folder: Path, split: Split, download: bool = False, remotes: dict[str, Remote] | None = None) -> ImageDataset:
    """Read MNIST (LeCun et al. 1998): 28x28 grey, ten digits; 60,000 for training, 10,000 for testing."""
    return _idx_pair("mnist", MNIST_CLASSES, folder, split, download, remotes)


def fashion_mnist(
    folder: Path, split: Split, download: bool = False, remotes: dict[str, Remote] | None = None
) -> ImageDataset:
    """Read Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747): the shape of MNIST, ten kinds of clothes."""
    return _idx_pair("fashion-mnist", FASHION_CLASSES, folder, split, download, remotes)


def _idx_pair(
    name: str,
    classes: tuple[str, ...],
    folder: Path,
    split: Split,
    download: bool,
    remotes: dict[str, Remote] | None,
) -> ImageDataset:
    remotes = REMOTES[name] if remotes is None else remotes
    if download:
        for archive, remote in remotes.items():
            if _find(folder, archive) is None:
                fetch(remote, folder)
    prefix = "train" if split == "train" else "t10k"
    arrays: list[np.ndarray] = []
    for suffix, dimensions in (("images-idx3-ubyte.gz", 3), ("labels-idx1-ubyte.gz", 1)):
        archive = f"{prefix}-{suffix}"
        path = _find(folder, archive)
        if path is None:
            missing = f"{archive} (or {archive.removesuffix('.gz')})"
            raise _missing(missing, folder, remotes[archive].urls[0], name)
        arrays.append(read_idx(path, dimensions, len(arrays[0]) if arrays else None))
    images, labels = arrays
    return ImageDataset(name, images[..., None], labels.astype(np.int64), classes)


def _find(folder: Path, archive: str) -> Path | None:
    """Return the file in `folder`, unpacked or as .gz, or None."""
    candidates = (folder / archive.removesuffix(".gz"), folder / archive)
    return next((path for path in candidates if path.is_file()), None)


def _missing(file: str, folder: Path, url: str, name: str) -> MinidiffError:
    if not folder.is_dir():
        file = f"no such folder, so no {file}"
    else:
        file = f"no {file} in this folder"
    return MinidiffError(f"{folder}: {file}: get it from {url} or add --download (--data {name})")


def read_idx(path: Path, dimensions: int, labels_of: int | None = None) -> np.ndarray:
    """Read an IDX file of unsigned bytes, plain or .gz, into a uint8 array with this number of dimensions.

    labels_of: the number of images, if these are labels.
    Format: two zero bytes, the type (0x08: uint8), the number of dimensions; each size as a big-endian uint32;
    then the data, row-major. Source: LeCun et al., http://yann.lecun.com/exdb/mnist/
    Raises MinidiffError if it is another format, shorter or longer than its header says, or damaged.
    """
    data = bytearray()
    try:
        with open_regular(path, MAX_BYTES) as packed:
            file = gzip.GzipFile(fileobj=packed) if path.suffix == ".gz" else packed
            head = file.read(4 + 4 * dimensions)
            if len(head) < 4 + 4 * dimensions or head[:4] != bytes([0, 0, 0x08, dimensions]):
                raise MinidiffError(
                    f"{path}: expected an IDX file of bytes with {dimensions} dimensions "
                    f"(first bytes 00 00 08 {dimensions:02x}), got {head[:4].hex(' ') or 'an empty file'}"
                )
            shape = struct.unpack(f">{dimensions}I", head[4:])
            size = math.prod(shape)
            if not (0 < size <= MAX_BYTES and shape[0] <= MAX_IMAGES):
                raise MinidiffError(f"{path}: the header claims {_times(shape)} bytes: empty or unreasonably large")
            if labels_of not in (None, shape[0]):
                raise MinidiffError(f"{path}: there are {labels_of} images but {shape[0]} labels")
            more = size + 1  # than there should be, to notice it
            while part := file.read(min(more - len(data), _PART)):
                data += part
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise MinidiffError(f"{path}: damaged gzip file ({error}): remove it and --download it again") from error
    if len(data) != size:
        relation = f"ends after {len(data)}" if len(data) < size else "is longer"
        raise MinidiffError(f"{path}: the header says {_times(shape)} = {size} bytes of data, the file {relation}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def cifar10(
    folder: Path, split: Split, download: bool = False, remotes: dict[str, Remote] | None = None
) -> ImageDataset:
    """Read CIFAR-10 (Krizhevsky 2009), binary version: 32x32 RGB, ten kinds; 50,000 to train on, 10,000 to test.

    folder: the one that holds data_batch_1.bin, or the one above it. Each file is a sequence of records of 3,073 bytes:
    the label, then 32x32 red, 32x32 green, 32x32 blue. Source: https://www.cs.toronto.edu/~kriz/cifar.html
    """
    remotes = REMOTES["cifar10"] if remotes is None else remotes
    (remote,) = remotes.values()
    inside = "cifar-10-batches-bin"
    files = [f"data_batch_{i}.bin" for i in range(1, 6)]
    everything = [*files, "test_batch.bin", "batches.meta.txt"]
    here = folder if any((folder / file).is_file() for file in everything) else folder / inside
    if download and not all((here / file).is_file() for file in everything):
        archive = fetch(remote, folder)
        unpack(archive, {f"{inside}/{file}": 10_000 * CIFAR_RECORD for file in everything}, folder / inside)
        archive.unlink()
        here = folder / inside
    images, labels = [], []
    for file in files if split == "train" else ["test_batch.bin"]:
        path = here / file
        if not path.is_file():
            raise _missing(file, folder, remote.urls[0], "cifar10")
        data = np.frombuffer(read_bytes(path, MAX_CIFAR * CIFAR_RECORD), np.uint8)
        if len(data) == 0 or len(data) % CIFAR_RECORD:
            raise MinidiffError(
                f"{path}: {len(data)} bytes is no whole number of records of {CIFAR_RECORD} bytes: cut off, "
                "or not the binary version of CIFAR-10"
            )
        records = data.reshape(-1, CIFAR_RECORD)
        labels.append(records[:, 0].astype(np.int64))
        images.append(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))  # planes -> (N, 32, 32, 3)
    return ImageDataset("cifar10", np.concatenate(images), np.concatenate(labels), _cifar_classes(here))


def _cifar_classes(folder: Path) -> tuple[str, ...]:
    """Return the names in batches.meta.txt, one a line; the published ones if that file is missing."""
    path = folder / "batches.meta.txt"
    if not path.is_file():
        return CIFAR_CLASSES
    names = read_bytes(path).decode("utf-8", "replace").split()
    if len(names) not in (0, len(CIFAR_CLASSES)):
        raise MinidiffError(f"{path}: expected the names of {len(CIFAR_CLASSES)} classes, got {len(names)} words")
    return tuple(map(printable, names)) or CIFAR_CLASSES
