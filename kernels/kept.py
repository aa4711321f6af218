"""What is kept of compiled kernels: each file begins with the SHA-256 of the rest, so that one that is damaged shows.

Half a file, after a power cut, would end every command that comes later.  The sum does not tell who wrote a file: the
folder must be its owner's alone, which whoever chooses it has to see to (minidiff does in backend.py).
"""

import functools
import hashlib
import sys

SUM = hashlib.sha256().digest_size


def sealed(data: bytes) -> bytes:
    """The bytes with their sum before them."""
    return hashlib.sha256(data).digest() + data


def opened(kept: bytes) -> bytes:
    """The bytes without their sum.  Raises ValueError if it does not fit."""
    if hashlib.sha256(kept[SUM:]).digest() != kept[:SUM]:
        raise ValueError("it is damaged: its content does not match its SHA-256")
    return kept[SUM:]


@functools.cache
def say_once(line: str) -> None:
    """Print a line on standard error, the first time."""
    print(line, file=sys.stderr)
