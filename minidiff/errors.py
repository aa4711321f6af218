"""Mistakes of a user, said in one line.

Whatever a user can get wrong (a value, a file, a folder) raises `MinidiffError` with one sentence that names
what was expected and what came. A command prints that sentence and exits; a traceback from a command is a bug.
Programming errors (two arrays that do not fit) stay ordinary ValueErrors and keep their traceback.
"""

import contextlib
import difflib
import errno
import functools
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
_JOINERS = "\u200c\u200d"  # which parts of emoji and of some scripts' words need


class MinidiffError(ValueError):
    """A mistake that the user can put right; its text is one line."""


def printable(text: object, most: int = 200) -> str:
    """Return text that comes from outside (a file, its name, a server) as one line that is safe to print.

    Control and direction characters, line ends and lone surrogates could move a terminal's cursor, forge a line or
    stop a stream: they become escapes, such as \\x1b.  What is longer than `most` characters is cut and ends in "…".
    """
    text = str(text)
    cut = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(map(_escaped, cut))


def _escaped(character: str) -> str:
    harmful = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _JOINERS
    return ascii(character)[1:-1] if harmful else character


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'?" with the known word that is spelt most like `word`, or "" if none is like it."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def listed(names: Sequence[str], most: int, separator: str = ", ") -> str:
    """Join the first `most` names; of the others only their number is told: "cat, dog and 8 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return separator.join(names[:most]) + more


def one_line(error: BaseException) -> str:
    """Say an error in one printable line: `error` is a MinidiffError, OSError or MemoryError.

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
        said = str(error).removeprefix("Out of memory ")  # as CuPy begins, of the GPU's
        text = f"out of memory: {said}" if said else "out of memory"
    else:
        text = str(error) or type(error).__name__
    return printable(" ".join(text.split()), MAX_PRINTED)


def exit_with_one_line(main: Callable[P, R]) -> Callable[P, R]:
    """Decorate a command's main: its user's mistakes end as one line on stderr and exit code 2, not as a traceback.

    MinidiffError, OSError (a full disk, a forbidden path) and MemoryError: "error: ..." and 2. Ctrl-C: 130, silently.
    A reader that hung up (`| head`): 141, silently. Everything else is a bug and keeps its traceback.  What can be
    printed where, streams.py tells.
    """

    @functools.wraps(main)
    @_interruptible()
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        with streams.reliable():
            try:
                try:
                    return main(*args, **kwargs)
                finally:
                    sys.stdout.flush()  # what cannot be written shows here, not in the interpreter's last moment
            except BrokenPipeError:
                code = EXIT_BROKEN_PIPE
            except (MinidiffError, OSError, MemoryError) as error:
                with contextlib.suppress(BrokenPipeError):
                    print(f"error: {one_line(error)}", file=sys.stderr)
                code = EXIT_MISTAKE
            except KeyboardInterrupt:
                code = EXIT_INTERRUPTED
            streams.let_go(sys.stdout)
            raise SystemExit(code)

    return guarded


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt inside a command, where somebody catches it and files are tidied up.

    Before it, while Python imports, and after it, while Python leaves, Ctrl-C just ends the process (start.py).
    """
    here = threading.current_thread() is threading.main_thread()  # which alone may set handlers
    if not here or signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
