"""What surrounds the steps of a training: the functions that the training loop calls after each step.

Idea: the loop is the algorithm, and whatever does not affect the weights stands outside it.  Of several processes, each
takes signals; process 0 does everything else (loop.py).
"""

from minidiff.training.signals import StopRequest
from minidiff.training.trainer import Record


class Callbacks:
    """What the training loop calls after each step; by default nothing happens."""

    def signal(self) -> int:
        """Return the signal that asks for an end before the next step, 0 for none."""
        return 0

    def stopped(self, signal: int) -> None:
        """Take note that a signal ends the training, perhaps one to another process."""

    def log(self, record: Record) -> None:
        """Write down what the step did."""

    def plan(self, record: Record) -> None:
        """Fix the number of steps, if the end is given in minutes."""

    def save_when_due(self) -> None:
        """Write a checkpoint, if it is time for one."""

    def preview_when_due(self) -> None:
        """Draw samples, if it is time for some."""


class Member(Callbacks):
    """What every process adds to the steps of a run: it takes signals."""

    def __init__(self) -> None:
        self.stop = StopRequest()

    def signal(self) -> int:
        return self.stop.signal or 0

    def stopped(self, signal: int) -> None:
        self.stop.signal = signal or self.stop.signal
