"""The collections of pictures that papers measure themselves on, and arrays of one's own, read from their files.

Three formats, none of which can run code: IDX (MNIST and Fashion-MNIST), CIFAR-10's binary version, and .npz arrays
without pickles. A file's header is a claim: nothing is allocated on its word alone.
"""

import gzip
import math
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from minidiff.data.dataset import Pictures, Split
from minidiff.data.download import REMOTES, Remote, fetch, unpack
from minidiff.errors import MinidiffError

MOST_BYTES = 8 << 30  # of pictures in memory

MNIST_CLASSES = tuple("0123456789")
FASHION_CLASSES = (
    *("t-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR_RECORD = 1 + 3 * 32 * 32  # a label, then the red, the green and the blue plane


def mnist(folder: Path, split: Split, download: bool = False, remotes: dict[str, Remote] | None = None) -> Pictures:
    """Read MNIST (LeCun et al. 1998): 28x28 grey, ten digits; 60,000 for training, 10,000 for testing."""
    return _idx_pair("mnist", MNIST_CLASSES, folder, split, download, remotes)


def fashion_mnist(
    folder: Path, split: Split, download: bool = False, remotes: dict[str, Remote] | None = None
) -> Pictures:
    """Read Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747): the shape of MNIST, ten kinds of clothes."""
    return _idx_pair("fashion-mnist", FASHION_CLASSES, folder, split, download, remotes)


def _idx_pair(
    name: str,
    classes: tuple[str, ...],
    folder: Path,
    split: Split,
    download: bool,
    remotes: dict[str, Remote] | None,
) -> Pictures:
    remotes = REMOTES[name] if remotes is None else remotes
    if download:
        for archive, remote in remotes.items():
            if _find(folder, archive) is None:
                fetch(remote, folder)
    prefix = "train" if split == "train" else "t10k"
    arrays = []
    for suffix, dimensions in (("images-idx3-ubyte.gz", 3), ("labels-idx1-ubyte.gz", 1)):
        archive = f"{prefix}-{suffix}"
        path = _find(folder, archive)
        if path is None:
            missing = f"{archive} (or {archive.removesuffix('.gz')})"
            raise _missing(missing, folder, remotes[archive].urls[0], name)
        arrays.append(read_idx(path, dimensions))
    images, labels = arrays
    if len(images) != len(labels):
        raise MinidiffError(f"{folder}: {len(images)} pictures but {len(labels)} labels ({prefix}-*)")
    return Pictures(name, images[..., None], labels.astype(np.int64), classes)


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


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes, plain or .gz, into a uint8 array with so many dimensions.

    Format: two zero bytes, the type (0x08: uint8), the number of dimensions; each size as a big-endian uint32;
    then the data, row-major. Source: LeCun et al., http://yann.lecun.com/exdb/mnist/
    Raises MinidiffError if it is another format, shorter or longer than its header says, or damaged.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4 + 4 * dimensions)
            if len(head) < 4 + 4 * dimensions or head[:4] != bytes([0, 0, 0x08, dimensions]):
                raise MinidiffError(
                    f"{path}: expected an IDX file of bytes with {dimensions} dimensions "
                    f"(first bytes 00 00 08 {dimensions:02x}), got {head[:4].hex(' ') or 'an empty file'}"
                )
            shape = struct.unpack(f">{dimensions}I", head[4:])
            size = math.prod(shape)
            if not 0 < size <= MOST_BYTES:
                raise MinidiffError(f"{path}: the header claims {_times(shape)} bytes: empty or unreasonably large")
            parts, left = [], size + 1  # one more than there should be, to notice it
            while left and (part := file.read(min(left, 1 << 24))):  # memory grows with the data, not the claim
                parts.append(part)
                left -= len(part)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise MinidiffError(f"{path}: damaged gzip file ({error}): remove it and --download it again") from error
    data = b"".join(parts)
    if len(data) != size:
        relation = f"ends after {len(data)}" if len(data) < size else "is longer"
        raise MinidiffError(f"{path}: the header says {_times(shape)} = {size} bytes of data, the file {relation}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def cifar10(folder: Path, split: Split, download: bool = False, remotes: dict[str, Remote] | None = None) -> Pictures:
    """Read CIFAR-10 (Krizhevsky 2009), binary version: 32x32 RGB, ten kinds; 50,000 to train on, 10,000 to test.

    folder: the one that holds data_batch_1.bin, or the one above it. Each file is a row of records of 3,073 bytes:
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
        data = np.fromfile(path, np.uint8)
        if len(data) == 0 or len(data) % CIFAR_RECORD:
            raise MinidiffError(
                f"{path}: {len(data)} bytes is no whole number of records of {CIFAR_RECORD} bytes: cut off, "
                "or not the binary version of CIFAR-10"
            )
        records = data.reshape(-1, CIFAR_RECORD)
        labels.append(records[:, 0].astype(np.int64))
        images.append(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))  # planes -> (N, 32, 32, 3)
    return Pictures("cifar10", np.concatenate(images), np.concatenate(labels), _cifar_classes(here))


def _cifar_classes(folder: Path) -> tuple[str, ...]:
    """Return the names in batches.meta.txt, one a line; the published ones where that file is missing."""
    path = folder / "batches.meta.txt"
    if not path.is_file():
        return CIFAR_CLASSES
    names = path.read_bytes()[:10_000].decode("utf-8", "replace").split()
    return tuple(names) or CIFAR_CLASSES


def npz(path: Path) -> Pictures:
    """Read an .npz of uint8 pictures, NHWC or NHW, under the key `images` or `arr_0`.

    Optional: `labels`, (N,) integers from 0, and `classes`, their names. path: the file, or a folder with one.
    """
    if path.is_dir():
        inside = sorted(path.glob("*.npz"))
        if len(inside) != 1:
            raise MinidiffError(f"{path}: expected one .npz file in this folder, got {len(inside)}")
        path = inside[0]
    if not path.is_file():
        raise MinidiffError(f"{path}: no such .npz file")
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            for key in ("images", "arr_0", "labels", "classes"):
                if key in members:
                    arrays[key] = _read_npy(archive, members[key])
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error, ValueError) as error:
        raise MinidiffError(f"{path}: not a whole .npz file of plain arrays ({error})") from error
    images = arrays.get("images", arrays.get("arr_0"))
    if images is None:
        raise MinidiffError(f"{path}: no array `images` or `arr_0`; there are: {', '.join(sorted(members)) or 'none'}")
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise MinidiffError(
            f"{path}: pictures must be uint8 of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3), "
            f"got {images.dtype} {images.shape}"
        )
    images = np.ascontiguousarray(images if images.ndim == 4 else images[..., None])
    if "labels" not in arrays:
        return Pictures(path.name, images)
    labels, classes = _labels(path, arrays["labels"], arrays.get("classes"), len(images))
    return Pictures(path.name, images, labels, classes)


def _read_npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """Read one array without pickles, after its header, the zip's directory and MOST_BYTES have agreed on its size."""
    with archive.open(member) as file:
        version = npy.read_magic(file)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(file)
        size = math.prod(shape) * dtype.itemsize
    if not size <= min(member.file_size, MOST_BYTES):
        raise ValueError(f"{member.filename} claims {size} bytes and holds {member.file_size}; at most {MOST_BYTES}")
    with archive.open(member) as file:
        return npy.read_array(file, allow_pickle=False)


def _labels(path: Path, labels: np.ndarray, names: np.ndarray | None, n: int) -> tuple[np.ndarray, tuple[str, ...]]:
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise MinidiffError(f"{path}: labels must be {n} integers, one a picture, got {labels.dtype} {labels.shape}")
    if labels.size and not 0 <= labels.min() <= labels.max() < 1 << 16:
        raise MinidiffError(f"{path}: labels must count from 0 to at most 65535, got {labels.min()} to {labels.max()}")
    if names is None:
        return labels.astype(np.int64), tuple(map(str, range(int(labels.max(initial=0)) + 1)))
    if names.ndim != 1 or names.dtype.kind != "U":
        raise MinidiffError(f"{path}: classes must be a list of names, got {names.dtype} {names.shape}")
    return labels.astype(np.int64), tuple(map(str, names))
