"""Standard output and standard error, as a command may rely on them.

Idea: whoever starts a command may have closed them, or sent them to a full disk, to a reader that hangs up, or to a
terminal whose encoding lacks "×".  Then a character that is lacking is escaped, and what is printed to a closed stream
is gone.  Standard error tells of progress, and no work is given up because that cannot be told; standard output holds
what a command has to say, so a failure there ends it, by its name.
First of all; errors.py puts this around every command.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


class _Output(io.TextIOWrapper):
    """Standard output: an error says that it is the one concerned."""

    def write(self, text: str) -> int:
        with _named("standard output"):
            return super().write(text)

    def flush(self) -> None:
        with _named("standard output"):
            super().flush()


class _Telling(io.TextIOWrapper):
    """Standard error: what cannot be written is dropped, unless nobody listens any more."""

    def write(self, text: str) -> int:
        with _dropped(self):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with _dropped(self):
            super().flush()


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename = name
        raise


@contextlib.contextmanager
def _dropped(stream: io.TextIOWrapper) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError:
        _silence(stream)


@contextlib.contextmanager
def reliable() -> Iterator[None]:
    """Make sys.stdout and sys.stderr what this file promises, and leave them as they were afterwards.

    Streams that somebody else has put there, such as a notebook, are theirs and stay.
    """
    before = sys.stdout, sys.stderr
    with contextlib.ExitStack() as stack:
        if sys.stdout in (None, sys.__stdout__):
            sys.stdout = stack.enter_context(_instead_of(sys.stdout, 1, _Output))
        if sys.stderr in (None, sys.__stderr__):
            sys.stderr = stack.enter_context(_instead_of(sys.stderr, 2, _Telling))
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


@contextlib.contextmanager
def _instead_of(stream: TextIO | None, number: int, kind: type[io.TextIOWrapper]) -> Iterator[TextIO]:
    if stream is None:  # Python's way to say that it was closed
        try:
            os.fstat(number)
        except OSError:
            _point_at_nothing(number)  # or the next file to be opened would have the number of the stream
        with Path(os.devnull).open("w", encoding="utf-8", errors="backslashreplace") as nothing:
            yield nothing
    elif isinstance(stream, io.TextIOWrapper):
        own = kind(
            stream.buffer,
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        try:
            yield own
        finally:
            let_go(own)
            own.detach()  # or it would close the stream with it
    else:
        yield stream


def let_go(stream: TextIO | None) -> None:
    """Empty a stream; where that fails, point it at nothing, or Python's exit tries again and complains about it."""
    if stream is None:  # closed from the beginning
        return
    try:
        stream.flush()
    except OSError:
        _silence(stream)


def _silence(stream: TextIO) -> None:
    with contextlib.suppress(io.UnsupportedOperation):  # it is no file, and the system knows nothing of it
        _point_at_nothing(stream.fileno())


def _point_at_nothing(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
