"""Errors that a user can correct, reported in one line.

Idea: a wrong value, file or folder raises `MinidiffError` with one sentence, which names what was expected and what was
given.  A command prints that sentence and exits; a traceback from a command is a bug.  Programming errors, such as two
arrays whose shapes do not fit, stay ordinary ValueErrors with a traceback.
"""

import bisect
import contextlib
import difflib
import errno
import functools
import itertools
import os
import signal
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ParamSpec, TypeVar

from minidiff import streams

P = ParamSpec("P")
R = TypeVar("R")

EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 128 + 2  # what a shell reports for SIGINT
EXIT_BROKEN_PIPE = 128 + 13  # and for SIGPIPE

MAX_PRINTED = 4000  # characters of a message
_JOINERS = "\u200c\u200d"  # zero-width joiners, used in emoji and in some scripts


class MinidiffError(ValueError):
    """An error that the user can correct; its text is one line."""


def printable(text: object, most: int = 200) -> str:
    """Return text that comes from outside (a file, its name, a server) as one line that is safe to print.

    Control and direction characters, line ends and lone surrogates could move a terminal's cursor, forge a line or
    stop a stream: they become escapes, such as \\x1b.  If the result has more than `most` characters, it is cut and
    ends in "…".
    """
    text = str(text)
    ends = list(itertools.accumulate(len(_escaped(character)) for character in text[: most + 1]))
    if not ends or ends[-1] <= most:
        return "".join(map(_escaped, text))
    return "".join(map(_escaped, text[: bisect.bisect_right(ends, most - 1)])) + "…"


def _escaped(character: str) -> str:
    harmful = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _JOINERS
    return ascii(character)[1:-1] if harmful else character


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'?" with the known word that is spelt most like `word`, or "" if none is like it."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def listed(names: Sequence[str], most: int, separator: str = ", ") -> str:
    """Join the first `most` names, and count the others: "cat, dog and 8 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return separator.join(names[:most]) + more


def one_line(error: BaseException) -> str:
    """Return the message of a MinidiffError, OSError or MemoryError as one printable line.

    An OSError becomes "reason: path", without errno; a full disk and a forbidden path say what to do about it.
    """
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
        if error.errno == errno.ENOSPC:
            text = "no space left on the disk"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            text = f"not allowed ({error.strerror.lower()})"
        elif error.errno == errno.ENOENT:
            text = "no such file or folder"
        paths = [path for path in (error.filename, error.filename2) if isinstance(path, str | bytes | os.PathLike)]
        text = ": ".join([text, *map(os.fsdecode, paths[:1])])
    elif isinstance(error, MemoryError):
        said = str(error).removeprefix("Out of memory ")  # with which messages of CuPy begin
        text = f"out of memory: {said}" if said else "out of memory"
    else:
        text = str(error) or type(error).__name__
    return printable(" ".join(text.split()), MAX_PRINTED)


def exit_with_one_line(main: Callable[P, R]) -> Callable[P, R]:
    """Decorate the main function of a command: a user's error becomes one line on stderr and an exit code.

    MinidiffError, OSError (a full disk, a forbidden path), MemoryError: "error: ..." and exit code 2.
    Ctrl-C: exit code 130, silently.  A broken pipe (`| head`): exit code 141, silently.
    Any other exception is a bug and keeps its traceback.  streams.py prepares stdout and stderr.
    """

    @functools.wraps(main)
    @_interruptible()
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        with streams.reliable():
            try:
                try:
                    return main(*args, **kwargs)
                finally:
                    sys.stdout.flush()  # so that a write error is raised here, not when Python exits
            except BrokenPipeError:
                code = EXIT_BROKEN_PIPE
            except (MinidiffError, OSError, MemoryError) as error:
                with contextlib.suppress(BrokenPipeError):
                    print(f"error: {one_line(error)}", file=sys.stderr)
                code = EXIT_MISTAKE
            except KeyboardInterrupt:
                code = EXIT_INTERRUPTED
            streams.flush_or_silence(sys.stdout)
            raise SystemExit(code)

    return guarded


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt inside a command, which can then remove temporary files.

    Before the command, during imports, and after it, Ctrl-C ends the process silently (start.py).
    """
    is_main_thread = threading.current_thread() is threading.main_thread()  # only it may set handlers
    if not is_main_thread or signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
