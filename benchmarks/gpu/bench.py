"""What all sections share: a deadline, a log that is on the disk with every record, and a clock.

Idea: a call has a GPU for minutes and not again soon. So whatever fails is written down and the next thing is tried;
what is known is on the disk at once; and nothing begins that the time left is too short for.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers.records import Log, Record
from minidiff.errors import one_line

TIMING = 0.02  # seconds that a timing takes at least
ROUNDS = 7


@dataclass
class Bench:
    """dry: tiny shapes on the CPU.  deadline: when nothing new begins, on time.monotonic's clock."""

    log: Log
    dry: bool
    deadline: float
    failures: list[str] = field(default_factory=list)

    def left(self) -> float:
        """Seconds left."""
        return self.deadline - time.monotonic()

    def synchronize(self) -> None:
        """Wait until the device has done all that it was given."""
        if not self.dry:
            import cupy

            cupy.cuda.Device().synchronize()

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Go on after an error in the block; what went wrong is a record of its own."""
        try:
            yield
        except Exception as error:  # of ours, CuPy's, Numba's, PyTorch's or the compiler's: all are results here
            said = f"{type(error).__name__}: {one_line(error)}"[:500]
            self.failures.append(f"{what}: {said}")
            self.log.add({"what": what, "error": said})
            print(f"  {what}: {said}", flush=True)

    def in_turn(self, functions: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
        """Seconds a call, each several times in turn, there and back; each has been called before."""
        calls: dict[str, int] = {}
        times: dict[str, list[float]] = {name: [] for name in functions}
        for name, function in functions.items():
            once = self._time(function, 1)
            calls[name] = 1 if self.dry else max(1, min(1000, round(TIMING / max(once, 1e-6))))
        for number in range(1 if self.dry else ROUNDS):
            for name in list(functions)[:: 1 if number % 2 == 0 else -1]:
                times[name].append(self._time(functions[name], calls[name]))
        return times

    def _time(self, function: Callable[[], Any], calls: int) -> float:
        self.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            function()
        self.synchronize()
        return (time.perf_counter() - start) / calls


def open_bench(out: Path, dry: bool, seconds: float) -> Bench:
    """Return a bench that writes gpu.json into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    return Bench(Log(out / "gpu.json"), dry, time.monotonic() + seconds)


__all__ = ["Bench", "Record", "open_bench"]
