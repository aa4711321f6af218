"""Ids by which a browser names files: made here, and only ever looked up.

Idea: no request contains a path.  An id is the hash of a file's name or content, so it is the same in every session,
and a table that the server fills by looking into its own folder says which file it stands for.  Whatever else a
request contains cannot name a file.
Leaves out the tables: pictures.py, gallery.py, runs.py.
"""

import hashlib
import stat
from pathlib import Path

from minidiff.errors import MinidiffError, printable

DIGITS = 16  # of a SHA-256, in hexadecimal


class UnknownIdError(MinidiffError):
    """There is nothing here of that id."""

    def __init__(self, what: str, id: object) -> None:
        super().__init__(f"there is no {what} {printable(id, 40)}")


def id_of(prefix: str, content: bytes) -> str:
    """Return "p-0123456789abcdef": a prefix, and the first digits of the content's SHA-256."""
    return f"{prefix}-{hashlib.sha256(content).hexdigest()[:DIGITS]}"


def is_file(path: Path) -> bool:
    """Return whether a path names a regular file; a symbolic link is none, wherever it leads."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False
