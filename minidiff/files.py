"""Files are written so that they are whole, and read so that nothing in them is believed.

A file is either the old one or the whole new one, never half of one.  Checkpoints, images and downloads are all
written here: into a temporary file beside the target, which is forced to the disk and then renamed over the target.
POSIX promises that the rename is one step, so whoever reads the name, even after a power cut, finds one of the two
whole files.

A name that a user or another file gives may be that of a pipe, which never ends, or of a file without bounds.  So every
file that is read is opened here: it must be a regular file, and no larger than what its reader expects.
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

MAX_TEXT = 1 << 20  # bytes of a file of settings

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


def open_regular(path: str | os.PathLike[str], most: int | None = None) -> io.BufferedReader:
    """Open a regular file of at most `most` bytes for reading.

    Raises MinidiffError for a folder, a device, a pipe or a socket, for a larger file, and for a name that no file can
    have; OSError if the file is missing or forbidden.
    """
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (ValueError, UnicodeError) as error:  # a NUL in the name, or a character that the file system lacks
        raise MinidiffError(f"{printable(os.fspath(path))} cannot be the name of a file: {error}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise MinidiffError(f"{path} is {_kind(status.st_mode)}; expected a regular file")
        if most is not None and status.st_size > most:
            raise MinidiffError(f"{path} holds {status.st_size} bytes; expected at most {most}")
        return open(descriptor, "rb")  # noqa: PTH123  # of a descriptor, and closed by the caller
    except BaseException:
        os.close(descriptor)
        raise


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def check_regular(path: str | os.PathLike[str], most: int | None = None) -> None:
    """Raise what `open_regular` raises: for readers that open a file by themselves."""
    open_regular(path, most).close()


def read_bytes(path: str | os.PathLike[str], most: int = MAX_TEXT) -> bytes:
    """Return what is in a regular file of at most `most` bytes; raises as `open_regular` does."""
    with open_regular(path, most) as file:
        data = file.read(most + 1)  # it may grow, or lie about its size as those under /proc do
    if len(data) > most:
        raise MinidiffError(f"{path} holds more than {most} bytes")
    return data


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a regular file, in hexadecimal: it names exactly this content; raises as `open_regular`."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: str | os.PathLike[str], most: int = MAX_TEXT) -> str:
    """Return a regular file of at most `most` bytes as UTF-8 text, without a byte order mark; raises MinidiffError for
    other bytes, and as `open_regular` does."""
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MinidiffError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def read_json(path: str | os.PathLike[str], most: int = MAX_TEXT) -> Any:
    """Return what a JSON file of at most `most` bytes says; raises MinidiffError if it cannot be read or is none."""
    try:
        return parse_json(read_text(path, most), str(path))
    except OSError as error:
        raise MinidiffError(f"cannot read settings: {one_line(error)}") from error


def parse_json(text: str, where: str) -> Any:
    """Return what JSON text says; where: names it in messages.  Raises MinidiffError if it is none, nests too deeply or
    has a number of too many digits."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise MinidiffError(f"{where} is not JSON that can be read: it is nested too deeply") from error
    except ValueError as error:
        raise MinidiffError(f"{where} is not JSON: {one_line(error)}") from error


def write_atomically(
    path: str | os.PathLike[str], data: bytes | Callable[[BinaryIO], object], new: bool = False
) -> None:
    """Write a file in one step: afterwards `path` is whole, or as it was before.

    data: the bytes, or a function that writes them into the binary, seekable file that it is given.
    new: whether no file may be there, not even one that came while this one was made; then MinidiffError is raised.
    Raises OSError that names `path` if the folder is missing or forbidden or the disk full. Whatever is raised,
    Ctrl-C included, the temporary file is removed first; only a killed process leaves one (see `remove_temporary`).
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
                os.fsync(file.fileno())  # the content must be on the disk before its name is
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
        # A full disk names no file, a forbidden folder names the temporary one: the user knows neither.
        if error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise


def _link(temporary: Path, path: Path) -> None:
    """Give a file the name that it is to have, unless there is a file of that name: a rename would replace it."""
    try:
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # a disk without links: there a file of the last moment goes unseen
            if os.path.lexists(path):
                raise FileExistsError from None
            temporary.replace(path)
        else:
            temporary.unlink()
    except FileExistsError as error:
        raise MinidiffError(f"{path} exists, and nothing is overwritten; name another file") from error


@contextmanager
def new_folder(path: Path | None, ending: str = "", instead: str = "name another folder") -> Iterator[Path]:
    """Make a folder to write into, this process alone while the block lasts: a free name, or an empty folder.

    path: None for runs/<date and time><ending>.  instead: what to do if the folder is not empty, for the message.
    If what is done with it fails before a file is there, the folders in it go again, and so does a new one itself.
    Raises MinidiffError if the name is taken, or the folder cannot be made or written.
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
        if not os.access(path, os.W_OK):  # better now than after an hour of work
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
    """Make a new folder named by the time, and numbered if there is one of this second already; return it."""
    name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S") + ending
    for number in itertools.count(1):
        path = Path("runs") / (f"{name}_{number}" if number > 1 else name)
        with contextlib.suppress(FileExistsError):
            path.mkdir(parents=True)
            break
    return path


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder while the block lasts; they must ask in the same way.

    The system lets go of the lock when the process ends, however it does.  Where there are no such locks, on Windows
    and on some network disks, nobody is kept out.
    Raises MinidiffError if another process has the folder.
    """
    try:
        import fcntl  # POSIX alone has it
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
    """Remove what killed writers left in `folder`, and return how many files that were.

    For a folder with one writer, such as a training run's: another's unfinished file would go as well.
    """
    removed = 0
    for path in Path(folder).iterdir():
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink()
            removed += 1
    return removed


def _sync_folder(folder: Path) -> None:
    """Force a rename to the disk. Windows opens no folders and some file systems cannot sync one; no harm done."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
