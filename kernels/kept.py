"""Files with a hash: each begins with the SHA-256 of the rest, so that damage is noticed.

Compiled kernels are kept in such files.  Without the hash, a file that was only half written (after a power cut) would
break every later command.  The hash does not prove who wrote a file, so only the user may be able to write into the
folder; the code that chooses the folder has to ensure that (in minidiff: cache_folders.py).

Leaves out what a kernel caches in memory, such as transformed filters: `constant_filters` in README.md.
"""

import functools
import hashlib
import sys

SUM = hashlib.sha256().digest_size


def sealed(data: bytes) -> bytes:
    """Return the SHA-256 of the bytes, followed by the bytes."""
    return hashlib.sha256(data).digest() + data


def opened(kept: bytes) -> bytes:
    """Return the bytes without their SHA-256.  Raises ValueError if it does not match."""
    if hashlib.sha256(kept[SUM:]).digest() != kept[:SUM]:
        raise ValueError("it is damaged: its content does not match its SHA-256")
    return kept[SUM:]


@functools.cache
def say_once(line: str) -> None:
    """Print a line on standard error, the first time."""
    print(line, file=sys.stderr)
