"""Ctrl-C, SIGTERM, a closed terminal and a reader that hung up, as a wish: finish the step, save, leave.

Idea: a signal can arrive anywhere, also between the two halves of an update.  So the handler only notes it, and the
loop asks after each step.  Whoever is in a hurry sends it twice: the second one acts as if nobody listened.  Two within
a moment are one wish, which a terminal and a supervisor have both passed on; and so are two different ones.
That nobody reads any more what is printed (`| head`) is noted in the same way.
In training/ before loop.py.
"""

import errno
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from minidiff import streams

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
SIGPIPE = 13  # also on Windows, whose Python has no name for it
MOMENT = 0.5  # seconds in which the same signal is the same wish


class Stop:
    """Whether somebody wishes to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.since: dict[int, float] = {}  # when each signal came first, in seconds

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """What a shell reports for a process that this signal ended: Ctrl-C 130, SIGTERM 143, SIGHUP 129."""
        return 128 + (self.signal or 0)

    def note(self, number: int) -> bool:
        """Take a signal in; return whether it came before, and not just now, so that it should act."""
        now = time.monotonic()
        if self.signal is None:
            self.signal = number
        return now - self.since.setdefault(number, now) > MOMENT

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Print inside the block; if nobody is there to read it any more, that is a wish to stop."""
        try:
            yield
            if sys.stdout is not None:
                sys.stdout.flush()
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):  # the second: of a terminal that was closed
                raise
            self.note(SIGPIPE)
            streams.flush_or_silence(sys.stdout)
            streams.flush_or_silence(sys.stderr)


@contextmanager
def listening() -> Iterator[Stop]:
    """Turn the first signal inside the block into a note in the `Stop`; restore the handlers afterwards.

    A SIGHUP that is ignored stays so: nohup wants a run to outlive its terminal.
    Outside the main thread Python allows no handlers: there nothing is listened to.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        if stop.note(number):
            restore()
            signal.raise_signal(number)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in SIGNALS:
        if number in (signal.SIGINT, signal.SIGTERM) or before[number] != signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield stop
    finally:
        restore()
