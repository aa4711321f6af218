"""Ctrl-C, SIGTERM, a closed terminal and a broken pipe become a request: finish the step, save, and end.

Idea: a signal can arrive anywhere, also in the middle of an update.  So its handler only records a request, and the
training loop checks after each step whether there is one.  A second signal of the same kind ends the process at once.
The same signal twice within half a second counts as one, since a terminal and a supervisor may both pass it on.  Two
different signals also count as one request.  A broken pipe on the output (`| head`) is recorded in the same way.
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
MOMENT = 0.5  # seconds in which the same signal counts once


class StopRequest:
    """Whether the training was asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.first_seen: dict[int, float] = {}  # signal to the time of its first arrival, in seconds

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """What a shell reports for a process that this signal ended: Ctrl-C 130, SIGTERM 143, SIGHUP 129."""
        return 128 + (self.signal or 0)

    def record(self, number: int) -> bool:
        """Record a signal; return whether it is the second of its kind, which must have its usual effect."""
        now = time.monotonic()
        if self.signal is None:
            self.signal = number
        return now - self.first_seen.setdefault(number, now) > MOMENT

    @contextmanager
    def on_broken_pipe(self) -> Iterator[None]:
        """Print inside the block; if the output's reader is gone, record that as a request to stop."""
        try:
            yield
            if sys.stdout is not None:
                sys.stdout.flush()
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):  # EIO: the terminal was closed
                raise
            self.record(SIGPIPE)
            streams.flush_or_silence(sys.stdout)
            streams.flush_or_silence(sys.stderr)


@contextmanager
def handle_signals(stop: StopRequest) -> Iterator[None]:
    """Record the first signal inside the block in `stop`; restore the handlers afterwards.

    SIGHUP stays ignored if it was, since nohup wants a run to outlive its terminal.
    Outside the main thread Python allows no handlers, and no signal is handled.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in SIGNALS}

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.record(number):
            restore()
            signal.raise_signal(number)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in SIGNALS:
        if number in (signal.SIGINT, signal.SIGTERM) or before[number] != signal.SIG_IGN:
            signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
