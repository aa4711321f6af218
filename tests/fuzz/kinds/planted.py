"""Faults that are put there on purpose, so that tests know that each would be seen.  Never part of a long run."""

import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.fuzz.case import Case, kind
from tests.fuzz.samples import Samples


def _traceback() -> None:
    raise IndexError("planted")


def _hang() -> None:
    time.sleep(100)


def _peak() -> None:
    held = bytearray(400_000_000)  # more than a test allows
    for k in range(0, len(held), 4096):
        held[k] = 1


def _exit() -> None:
    raise SystemExit(3)


def _killed() -> None:
    os.abort()


def _control() -> None:
    print("the name is \x1b[31mred")


def _long() -> None:
    print("x" * 10_000)


def _warning() -> None:
    warnings.warn("planted", RuntimeWarning, stacklevel=1)


def _silent() -> None:
    raise SystemExit(2)


def _lost() -> None:
    Path("precious").unlink()


def _half() -> None:
    Path(".out.01234567.tmp").touch()


def _well() -> None:
    print("all is well", file=sys.stderr)


PLANTED = {
    "planted traceback": (_traceback, "traceback"),
    "planted hang": (_hang, "hang"),
    "planted peak": (_peak, "peak"),
    "planted exit code": (_exit, "exit"),
    "planted signal": (_killed, "exit"),
    "planted control character": (_control, "text"),
    "planted long line": (_long, "text"),
    "planted warning": (_warning, "text"),
    "planted silence": (_silent, "text"),
    "planted loss": (_lost, "files"),
    "planted half a file": (_half, "files"),
    "planted nothing": (_well, ""),
}


def main(words: Sequence[str]) -> None:
    """The command that has the fault of this name."""
    PLANTED[words[0]][0]()


def _enter(name: str) -> None:
    @kind(name, weight=0)
    def planted(random: Random, folder: Path, samples: Samples) -> Case:
        (folder / "precious").write_bytes(b"precious")
        return Case("planted", [name], seconds=1.0 if name == "planted hang" else None)


for _name in PLANTED:
    _enter(_name)
