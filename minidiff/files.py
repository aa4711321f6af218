"""Writing files atomically, reading files from untrusted sources, and claiming a folder for one process.

Idea: a file that is written is afterwards either complete or unchanged.  Checkpoints, images and downloads are written
to a temporary file in the same folder, which is synced to the disk and then renamed to the target.  POSIX guarantees
that the rename is atomic, so a reader finds the old file or the new file.  Because of the sync this holds even after a
power failure.
A path from a user or from another file may name a pipe, which never ends, or a very large file.  So it is opened or
checked here: it must name a regular file that is not larger than its reader expects.
The results of a run go into a folder that is new or empty.  It is locked, so that no second process writes into it.
Leaves out the formats of files.
"""

import contextlib
import hashlib
import io
import itertools
import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from minidiff.errors import MinidiffError, one_line, printable

MAX_TEXT = 1 << 20  # bytes of a settings file

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


def open_regular(path: str | os.PathLike[str], most: int | None = None) -> io.BufferedReader:
    """Open a regular file of at most `most` bytes for reading.

    Raises MinidiffError for a folder, a device, a pipe or a socket, for a larger file, and for an impossible file name;
    OSError if the file does not exist or may not be read.
    """
    try:
        # Without O_NONBLOCK, opening a pipe without a writer would block for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (ValueError, UnicodeError) as error:  # a NUL in the name, or a character that cannot be encoded
        raise MinidiffError(f"{printable(os.fspath(path))} cannot be the name of a file: {error}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise MinidiffError(f"{path} is {_kind(status.st_mode)}; expected a regular file")
        if most is not None and status.st_size > most:
            raise MinidiffError(f"{path} holds {status.st_size} bytes; expected at most {most}")
        return open(descriptor, "rb")  # noqa: PTH123  # from a descriptor; the caller closes it
    except BaseException:
        os.close(descriptor)
        raise


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def check_regular(path: str | os.PathLike[str], most: int | None = None) -> None:
    """Raise the errors of `open_regular`, for a library that opens the file itself."""
    open_regular(path, most).close()


def read_bytes(path: str | os.PathLike[str], most: int = MAX_TEXT) -> bytes:
    """Return the content of a regular file of at most `most` bytes.  Raises as `open_regular`."""
    with open_regular(path, most) as file:
        data = file.read(most + 1)  # the file may have grown, and files in /proc report size 0
    if len(data) > most:
        raise MinidiffError(f"{path} holds more than {most} bytes")
    return data


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a regular file, in hexadecimal.  Raises as `open_regular`."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: str | os.PathLike[str], most: int = MAX_TEXT) -> str:
    """Return the content of a regular file of at most `most` bytes as UTF-8 text, without a byte order mark.

    Raises MinidiffError for bytes that are not UTF-8, and as `open_regular`.
    """
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MinidiffError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def read_json(path: str | os.PathLike[str], most: int = MAX_TEXT) -> Any:
    """Return the parsed content of a JSON file of at most `most` bytes.  Raises MinidiffError if that fails."""
    try:
        return parse_json(read_text(path, most), str(path))
    except OSError as error:
        raise MinidiffError(f"cannot read settings: {one_line(error)}") from error


def parse_json(text: str, where: str) -> Any:
    """Parse JSON text.  where: the name of its source, for messages.

    Raises MinidiffError if it is not JSON, nests too deeply, or has a number with too many digits.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise MinidiffError(f"{where} is not JSON that can be read: it is nested too deeply") from error
    except ValueError as error:
        raise MinidiffError(f"{where} is not JSON: {one_line(error)}") from error


def write_atomically(
    path: str | os.PathLike[str], data: bytes | Callable[[BinaryIO], object], new: bool = False
) -> None:
    """Write a file atomically: afterwards `path` is complete, or unchanged if an error occurred.

    data: the bytes, or a function that writes them to a binary, seekable file.
    new: raise MinidiffError if a file of that name exists, even one created during the writing.
    Raises OSError that names `path` if the folder does not exist or is not writable, or if the disk is full.
    On any error, Ctrl-C included, the temporary file is removed.  Only a killed process leaves it behind; see
    `remove_temporary`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            with temporary.open("xb") as file:
                if callable(data):
                    data(file)
                else:
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())  # the content must be on the disk before the rename
            if new:
                _link(temporary, path)
            else:
                temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)
    except OSError as error:
        # The error of a full disk names no file, and that of an unwritable folder names the temporary file.
        if error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise


def _link(temporary: Path, path: Path) -> None:
    """Rename a file unless a file with the new name exists, which a plain rename would replace."""
    try:
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links: a file created just now could be overwritten
            if os.path.lexists(path):
                raise FileExistsError from None
            temporary.replace(path)
        else:
            temporary.unlink()
    except FileExistsError as error:
        raise MinidiffError(f"{path} exists, and nothing is overwritten; name another file") from error


@contextmanager
def new_folder(path: Path | None, ending: str = "", instead: str = "name another folder") -> Iterator[Path]:
    """Create a folder, or take an empty one, and lock it for this process inside the `with` block.

    path: None for runs/<date and time><ending>.  instead: advice for the message if the folder is not empty.
    If the block fails before it has created a file, the folders inside are removed, and the folder itself if it is new.
    Raises MinidiffError if `path` is a file or a folder with files, or if the folder cannot be created or written.
    """
    new = path is None
    try:
        path = _dated(ending) if path is None else path
        with contextlib.suppress(FileExistsError):
            path.mkdir(parents=True)
            new = True
    except OSError as error:
        raise MinidiffError(f"cannot make the folder {path or 'runs'}: {error.strerror}") from error
    if not path.is_dir():
        raise MinidiffError(f"--out {path} is a file; expected a folder, or a name that is free")
    with claimed(path):
        if any(path.iterdir()):
            raise MinidiffError(f"--out {path} is not empty, and nothing is overwritten; {instead}")
        if not os.access(path, os.W_OK):  # report it now, not after an hour of training
            raise MinidiffError(f"cannot write into the folder {path}")
        try:
            yield path
        except BaseException:
            with contextlib.suppress(OSError):
                inside = sorted(path.rglob("*"))
                if all(each.is_dir() and not each.is_symlink() for each in inside):
                    for each in [*reversed(inside), *[path] * new]:
                        each.rmdir()
            raise


def _dated(ending: str) -> Path:
    """Create a folder named by date and time, with a number if that name exists; return its path."""
    name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S") + ending
    for number in itertools.count(1):
        path = Path("runs") / (f"{name}_{number}" if number > 1 else name)
        with contextlib.suppress(FileExistsError):
            path.mkdir(parents=True)
            break
    return path


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Lock a folder inside the `with` block, against other processes that use this function too.

    The system releases the lock when the process ends in any way.  On systems and disks without such locks (Windows,
    some network disks) nothing is locked.
    Raises MinidiffError if another process holds the lock.
    """
    try:
        import fcntl  # on POSIX systems only
    except ImportError:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MinidiffError(f"another process is writing into {folder}; stop it, or wait for it") from error
        except OSError:
            pass  # a disk without locks
        yield
    finally:
        os.close(descriptor)


def remove_temporary(folder: str | os.PathLike[str]) -> int:
    """Remove the temporary files that killed processes left in a folder, and return their number.

    Only for a folder with a single writer, such as a run folder: temporary files of other writers are removed as well.
    """
    removed = 0
    for path in Path(folder).iterdir():
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink()
            removed += 1
    return removed


def _sync_folder(folder: Path) -> None:
    """Sync a rename to the disk, where the system can sync folders (Windows and some file systems cannot)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
