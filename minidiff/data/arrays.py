"""A user's own images as arrays, in an .npz file that numpy.savez wrote, without pickles.

Idea: the file is a zip of arrays.  It states their sizes in the zip's directory and before each array, and either may
be wrong.  So the shape and the type of an array are checked before it is read, and no more bytes than
they need are unpacked.
"""

import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from minidiff.data.dataset import MAX_IMAGES, ImageDataset
from minidiff.data.standard import MAX_BYTES
from minidiff.errors import MinidiffError, printable
from minidiff.files import open_regular
from minidiff.limits import LIMITS

_PART = 1 << 20  # bytes that are read at once, and that the zip's directory may have
# Raised by zipfile for a file that is no zip, cut off or encrypted, and by NumPy for a header that is no dictionary.
_ZIP = zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError
_HEADER = LookupError, MemoryError, RecursionError, SyntaxError, TypeError, tokenize.TokenError
_PACKED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED  # as NumPy writes
MAX_CLASSES = int(LIMITS["classes"].most)
MAX_LETTERS = 200  # of a class' name


def npz(path: Path) -> ImageDataset:
    """Read an .npz of uint8 images, NHWC or NHW, under the key `images` or `arr_0`.

    Optional: `labels`, (N,) integers from 0, and `classes`, their names. path: the file, or a folder with one.
    Raises MinidiffError if it is no such file, or if an array in it is too large or of another type.
    """
    if path.is_dir():
        inside = sorted(path.glob("*.npz"))
        if len(inside) != 1:
            raise MinidiffError(f"{path}: expected one .npz file in this folder, got {len(inside)}")
        path = inside[0]
    if not path.exists():
        raise MinidiffError(f"{path}: no such .npz file")
    with _arrays(path) as arrays:
        key = "images" if "images" in arrays else "arr_0"
        if key not in arrays:
            names = [printable(name, 30) for name in sorted(arrays)[:10]] + ["…"] * (len(arrays) > 10)
            raise MinidiffError(f"{path}: no array `images` or `arr_0`; there are: {', '.join(names) or 'none'}")
        shape, dtype = arrays[key].shape, arrays[key].dtype
        if dtype != np.uint8 or len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
            raise MinidiffError(
                f"{path}: images must be uint8 of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3), got {dtype} {shape}"
            )
        if shape[0] > MAX_IMAGES:
            raise MinidiffError(f"{path}: {shape[0]} images; at most {MAX_IMAGES} can be learnt from")
        images = np.ascontiguousarray(arrays[key].read())
        images = images if images.ndim == 4 else images[..., None]
        name = printable(path.name)
        if "labels" not in arrays:
            return ImageDataset(name, images)
        return ImageDataset(name, images, *_labels(path, arrays["labels"], arrays.get("classes"), len(images)))


class _Array:
    """An array in a zip: its shape and type and, once these are checked, its content."""

    def __init__(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
        self.archive, self.member = archive, member
        if member.compress_type not in _PACKED:
            raise ValueError(f"{printable(member.filename)} is compressed in a way that NumPy does not use")
        with archive.open(member) as file:
            self.shape, self.fortran, self.dtype = _header(file)

    def read(self) -> np.ndarray:
        """Return the array; memory grows with the data, up to the size in the header."""
        size = math.prod(self.shape) * self.dtype.itemsize
        name = printable(self.member.filename)
        if not size <= min(self.member.file_size, MAX_BYTES):
            raise ValueError(f"{name} claims {size} bytes and holds {self.member.file_size}; at most {MAX_BYTES}")
        data = bytearray()
        with self.archive.open(self.member) as file:
            _header(file)
            while part := file.read(min(size + 1 - len(data), _PART)):
                data += part
        if len(data) != size:
            raise ValueError(f"{name} is {'shorter' if len(data) < size else 'longer'} than the {size} bytes it claims")
        array = np.frombuffer(data, self.dtype)
        return array.reshape(self.shape[::-1]).T if self.fortran else array.reshape(self.shape)


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):  # 3.0 is for names of records
        raise ValueError(f"version {version} of the .npy format, which is not supported")
    try:
        shape, fortran, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
    except _HEADER as error:
        raise ValueError(f"a header that cannot be read: {type(error).__name__}") from error
    if dtype.hasobject or dtype.names or dtype.subdtype:
        raise ValueError("Object arrays and records are not read")
    if any(not isinstance(side, int) or side < 0 for side in shape):
        raise ValueError(f"an array of shape {printable(shape, 60)}")
    return shape, fortran, dtype


@contextmanager
def _arrays(path: Path) -> Iterator[dict[str, _Array]]:
    """Open an .npz; yield its arrays by their names.  Any error in the file becomes a MinidiffError."""
    with open_regular(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy, about headers that are odd or old
        try:
            with zipfile.ZipFile(_InParts(file)) as archive:
                members = archive.infolist()
                names = [member.filename.removesuffix(".npy") for member in members]
                wanted = {"images", "arr_0", "labels", "classes"}
                if twice := [name for name in wanted if names.count(name) > 1]:
                    raise ValueError(f"it holds `{min(twice)}` more than once")
                yield {name: _Array(archive, m) if name in wanted else m for name, m in zip(names, members)}  # type: ignore[misc]
        except (MinidiffError, MemoryError):
            raise
        except _ZIP as error:
            why = printable(" ".join(str(error).split()) or type(error).__name__)
            raise MinidiffError(f"{path}: not a whole .npz file of plain arrays ({why})") from error


class _InParts:
    """A file that refuses to read much at once, since zipfile would read a directory of any size."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def read(self, size: int = -1) -> bytes:
        if size > _PART:
            raise ValueError(f"a directory of {size} bytes")
        return self.file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def _labels(path: Path, labels: _Array, names: _Array | None, n: int) -> tuple[np.ndarray, tuple[str, ...]]:
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise MinidiffError(f"{path}: labels must be {n} integers, one an image, got {labels.dtype} {labels.shape}")
    numbers = labels.read()
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < MAX_CLASSES:
        least, most = numbers.min(), numbers.max()
        raise MinidiffError(f"{path}: labels must be from 0 to {MAX_CLASSES - 1}, got {least} to {most}")
    numbers = numbers.astype(np.int64)
    if names is None:
        return numbers, tuple(map(str, range(int(numbers.max(initial=0)) + 1)))
    if len(names.shape) != 1 or names.dtype.kind != "U":
        raise MinidiffError(f"{path}: classes must be a list of names, got {names.dtype} {names.shape}")
    if not (1 <= names.shape[0] <= MAX_CLASSES and 4 <= names.dtype.itemsize <= 4 * MAX_LETTERS):
        raise MinidiffError(
            f"{path}: classes must be from 1 to {MAX_CLASSES} names of up to {MAX_LETTERS} letters, "
            f"got {names.dtype} {names.shape}"
        )
    return numbers, tuple(map(printable, names.read().tolist()))
