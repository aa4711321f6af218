"""Standard output and standard error of a command, whatever they are connected to.

Idea: a command may be started with these streams closed, or redirected to a full disk, to a program that stops reading,
or to a terminal whose encoding has no "×".  Here a character that cannot be encoded is escaped, and text for a closed
stream is dropped.  A write error on standard error is ignored, because progress messages must not stop the work.  A
write error on standard output is raised, because the result of the command would be lost.  A broken pipe, such as that
of `| head`, is raised on both streams.
Leaves out how a command ends after such an error: errors.py.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


class _Output(io.TextIOWrapper):
    """Standard output: write errors name it."""

    def write(self, text: str) -> int:
        with _named("standard output"):
            return super().write(text)

    def flush(self) -> None:
        with _named("standard output"):
            super().flush()


class _ErrorStream(io.TextIOWrapper):
    """Standard error: write errors are ignored, except a broken pipe."""

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
    """Replace sys.stdout and sys.stderr inside the block by streams as described above.

    Streams that other code has installed, such as those of a notebook, are kept.
    """
    before = sys.stdout, sys.stderr
    with contextlib.ExitStack() as stack:
        if sys.stdout in (None, sys.__stdout__):
            sys.stdout = stack.enter_context(_instead_of(sys.stdout, 1, _Output))
        if sys.stderr in (None, sys.__stderr__):
            sys.stderr = stack.enter_context(_instead_of(sys.stderr, 2, _ErrorStream))
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


@contextlib.contextmanager
def _instead_of(stream: TextIO | None, number: int, kind: type[io.TextIOWrapper]) -> Iterator[TextIO]:
    if stream is None:  # it was closed before Python started
        try:
            os.fstat(number)
        except OSError:
            _redirect_to_null(number)  # else the next opened file would get the number of the stream
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
            flush_or_silence(own)
            own.detach()  # else it would close the buffer of the original stream
    else:
        yield stream


def flush_or_silence(stream: TextIO | None) -> None:
    """Flush a stream; if that fails, redirect it to the null device, or Python would report the error again at exit."""
    if stream is None:  # it was closed before Python started
        return
    try:
        stream.flush()
    except OSError:
        _silence(stream)


def _silence(stream: TextIO) -> None:
    with contextlib.suppress(io.UnsupportedOperation):  # a stream without a file descriptor
        _redirect_to_null(stream.fileno())


def _redirect_to_null(number: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    if null != number:
        os.dup2(null, number)
        os.close(null)
