"""Ctrl-C and SIGTERM as a wish: finish the step, save, leave.

Idea: a signal can arrive anywhere, also between the two halves of an update.  So the handler only notes it, and the
loop asks after each step.  Whoever is in a hurry sends it twice: the second one acts as if nobody listened.
In training/ before loop.py.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether the user wishes to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """What a shell reports for a process that this signal ended: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + (self.signal or 0)


@contextmanager
def listening() -> Iterator[Stop]:
    """Turn the first Ctrl-C or SIGTERM inside the block into a note in the `Stop`; restore the handlers afterwards.

    Outside the main thread Python allows no handlers: there nothing is listened to.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        stop.signal = number
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        restore()
