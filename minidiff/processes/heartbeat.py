"""Noticing that a process has died, stands still or cannot be reached.

Idea: a process that waits for the gradients of another cannot know whether they come late or never: the other one may
draw a preview, compile a kernel, or be gone.  So a thread in each process sends a sign of life to process 0 twice a
second, whatever its process does, and process 0 sends one to all.  Whoever is silent for too long is missing: process 0
tells the others, and all end.  In the same way a process tells why it ends, if that is an error.
Leaves out how signs travel: `Line` is what a thread needs of MPI.
"""

import threading
from collections.abc import Callable
from typing import Protocol

from minidiff.errors import MinidiffError

INTERVAL = 0.5  # seconds between two signs of life
SILENCE = 15.0  # seconds without a sign after which a process is missing
GRACE = 6.0  # seconds in which the main thread can end the process itself
LENGTH = 1024  # bytes of a sign: a text that says why its sender ends, empty while it lives


class Line(Protocol):
    """What carries signs between the processes; it never blocks.  Only the thread of the heartbeat uses it."""

    rank: int
    size: int

    def send(self, peer: int, sign: bytes) -> None:
        """Start to send a sign to a process; nothing happens if its last one is still on the way."""

    def receive(self) -> list[tuple[int, bytes]]:
        """Return the signs that have arrived, each with its sender."""


class Heartbeat:
    """The signs of life of this process, and what has become of the others.

    hosts: name of each process's machine.  silence: seconds without a sign after which a process is missing.
    give_up: ends this process at once; called with the problem if the main thread has not ended it in time.
    """

    def __init__(self, line: Line, hosts: list[str], silence: float, give_up: Callable[[str], None]) -> None:
        self.line, self.hosts, self.silence, self.give_up = line, hosts, silence, give_up
        self.problem: str | None = None  # why all processes must end
        self.silent: int | None = None  # the process that is missing, if that is why
        self._told = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise MinidiffError if all processes must end."""
        if self.problem is not None:
            raise MinidiffError(self.problem)

    def tell(self, problem: str) -> None:
        """Tell the other processes that this one ends, and why."""
        self._told = problem

    def _name(self, peer: int) -> str:
        return f"process {peer} on {self.hosts[peer]}"

    def stop(self) -> None:
        """Send and expect no more signs."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        peers = range(1, self.line.size) if self.line.rank == 0 else (0,)
        quiet = dict.fromkeys(peers, 0)  # rounds without a sign: a process that stood still counts none
        rounds_known = 0
        while not self._ended.wait(INTERVAL):
            for peer, sign in self.line.receive():
                quiet[peer] = -1
                if sign and self.problem is None:
                    text = sign.decode(errors="replace")
                    self.problem = text if self.line.rank else f"{self._name(peer)}: {text}"
            for peer in peers:
                quiet[peer] += 1
                if quiet[peer] * INTERVAL > self.silence and self.problem is None:
                    self.silent = peer
                    self.problem = f"{self._name(peer)} has given no sign of life for {self.silence:.0f} s"
            for peer in peers:
                self.line.send(peer, (self._told or self.problem or "").encode()[:LENGTH])
            rounds_known += self.problem is not None
            if rounds_known * INTERVAL > GRACE:
                self.give_up(self.problem or "")
