"""Every engine in a process of its own, and one of them at work at a time.

Idea: two engines in one process fight over cores, since each keeps threads that wait for work, and over memory.  So
each gets a fresh interpreter and answers questions through a pipe; while one computes, the others sleep in `recv`.
`in_turn` asks them round after round, so that whatever the machine does meanwhile meets all of them.
Leaves out what is computed (problems.py) and what the times say (records.py).
"""

import contextlib
import ctypes
import gc
import importlib.util
import math
import multiprocessing
import os
import signal
import time
from collections.abc import Iterable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from benchmarks.peers.problems import Problem
from minidiff.errors import MinidiffError, one_line

OURS = "ours"
# (channels_last, compiled, bfloat16) of every way in which PyTorch is asked
PEERS = {
    "torch eager": (False, False, False),
    "torch channels_last": (True, False, False),
    "torch compile": (True, True, False),
    "torch bfloat16": (True, False, True),
    "torch bfloat16 compile": (True, True, True),
}
EAGER = ("torch eager", "torch channels_last", "torch bfloat16")  # without compiling, which takes a minute a network
JAX = "jax"  # where it is installed
RUNTIMES = ("onnxruntime", "openvino", "openvino bfloat16")  # run networks and nothing else, where they are installed

PAUSE, LONG = 0.03, 2.0  # seconds

MISSING = "PyTorch, which this benchmark measures beside, is not installed: pip install -e '.[peers]'"


def require_torch() -> None:
    """Raise MinidiffError in one line if there is no PyTorch."""
    if importlib.util.find_spec("torch") is None:
        raise MinidiffError(MISSING)


def peers(compiled: bool) -> tuple[str, ...]:
    """The peers to measure beside: PyTorch in every way, or without what it compiles, and JAX where it is installed."""
    return (*(PEERS if compiled else EAGER), *((JAX,) if importlib.util.find_spec("jax") else ()))


def runtimes() -> tuple[str, ...]:
    """The runtimes that are installed."""
    return tuple(name for name in RUNTIMES if importlib.util.find_spec(name.split()[0]))


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# ---- inside the process ---------------------------------------------------------------------------------------------


class Engine:
    """What a worker's process does when asked."""

    def __init__(self, name: str, threads: int) -> None:
        self.job: Any = None
        if name == OURS:
            from benchmarks.peers import ours

            ours.start(threads)
            self._make, self.about = ours.make, ours.about
        elif name == JAX:
            from benchmarks.peers import jax_jobs

            jax_jobs.start(threads)
            self._make, self.about = jax_jobs.make, jax_jobs.about
        elif name in RUNTIMES:
            from benchmarks.peers import runtime_jobs

            runtime_jobs.start(threads)
            self._make, self.about = lambda problem: runtime_jobs.make(problem, name), runtime_jobs.about
        else:
            from benchmarks.peers import torch_jobs

            torch_jobs.start(threads)
            variant = torch_jobs.Variant(*PEERS[name])
            self._make, self.about = lambda problem: torch_jobs.make(problem, variant), torch_jobs.about

    def make(self, problem: Problem) -> None:
        """Make the problem's job in place of the one before."""
        self.job = None
        gc.collect()
        self.job = self._make(problem)

    def check(self) -> dict[str, np.ndarray]:
        """What the job computes; compiles what is to be compiled."""
        return self.job.check()

    def time(self, calls: int) -> float:
        """Seconds for one call, the mean over so many; one more goes before them, to fetch its data back into cache."""
        if calls > 1:
            self.job.run()
        begin = time.perf_counter()
        for _ in range(calls):
            self.job.run()
        return (time.perf_counter() - begin) / calls

    def grown(self, calls: int) -> float:
        """MiB by which the process' peak, during so many calls, is above its size just before them.  Linux only."""
        gc.collect()
        with contextlib.suppress(AttributeError, OSError):  # glibc alone has it: freed memory goes back to the system,
            ctypes.CDLL(None).malloc_trim(0)  # or what earlier work has left behind would serve these calls uncounted
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak (VmHWM) to the present size (VmRSS)
        before = _mebibytes("VmRSS")
        for _ in range(calls):
            self.job.run()
        return _mebibytes("VmHWM") - before


def _mebibytes(entry: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{entry}:"))


def _serve(connection: Connection, name: str, threads: int) -> None:
    """Answer (question, arguments) with (True, answer) or (False, error in one line) until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; who asked ends this process
    engine = None
    with contextlib.suppress(EOFError, BrokenPipeError):  # who asked is gone
        while True:
            question, arguments = connection.recv()
            try:
                engine = engine or Engine(name, threads)
                answer = (True, getattr(engine, question)(*arguments))
            except Exception as error:  # whatever it is, it is told; only what the coordinator does with it matters
                answer = (False, f"{type(error).__name__}: {one_line(error)}"[:500])
            connection.send(answer)


def first_step(name: str, threads: int, problem: Problem) -> None:
    """Make a job and run it once: what a fresh process does until its first step is done."""
    engine = Engine(name, threads)
    engine.make(problem)
    engine.time(1)


# ---- outside --------------------------------------------------------------------------------------------------------


class Worker:
    """An engine's process, seen from outside: every question of `Engine` waits for its answer."""

    def __init__(self, engine: str, threads: int) -> None:
        context = multiprocessing.get_context("spawn")  # a fresh interpreter
        self.engine = engine
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, engine, threads))
        self._process.start()
        theirs.close()

    def ask(self, question: str, *arguments: Any) -> Any:
        """Raises MinidiffError in one line if the engine failed or its process died."""
        try:
            self._connection.send((question, arguments))
            well, answer = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            self._process.join(5)
            raise MinidiffError(f"{self.engine}: its process ended with {self._process.exitcode}") from error
        if not well:
            raise MinidiffError(f"{self.engine}: {answer}")
        return answer

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._connection.close()
        self._process.kill()
        self._process.join()


class Workers(dict[str, Worker]):
    """Workers by name, ended together at the end of a `with` block.

    names: engines, all with so many threads; or a mapping of other names to (engine, threads).
    """

    def __init__(self, names: Iterable[str] | Mapping[str, tuple[str, int]], threads: int = 0) -> None:
        wanted = names if isinstance(names, Mapping) else {name: (name, threads) for name in names}
        super().__init__({name: Worker(*what) for name, what in wanted.items()})

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for worker in self.values():
            worker.close()

    def leave_out(self, name: str, error: MinidiffError) -> None:
        """Go on without a peer that cannot do it; without ours there is nothing to go on with."""
        if self[name].engine == OURS:
            raise error
        print(f"  left out: {error}")
        self.pop(name).close()

    def make(self, problem: Problem) -> None:
        """Let each make the problem's job."""
        for name in list(self):
            try:
                self[name].ask("make", problem)
            except MinidiffError as error:
                self.leave_out(name, error)

    def check(self) -> dict[str, dict[str, np.ndarray]]:
        """What each computes, by worker; the first time, each compiles."""
        answers = {}
        for name in list(self):
            try:
                answers[name] = self[name].ask("check")
            except MinidiffError as error:
                self.leave_out(name, error)
        return answers

    def in_turn(self, rounds: int, least: float) -> dict[str, list[float]]:
        """Seconds a call, each `rounds` times in turn: there and back, so that nobody always follows the same one.

        least: seconds that one timing should take at least; what is shorter is called several times for it.
        Each turn begins with a pause, as the threads of the engine before still turn in circles, waiting for more work,
        and with a call that does not count, unless it is long: caches are full of that engine's numbers.
        """
        once = {name: worker.ask("time", 1) for name, worker in self.items()}
        calls = {name: calls_for(seconds, least) for name, seconds in once.items()}
        times: dict[str, list[float]] = {name: [] for name in self}
        for number in range(rounds):
            for name, worker in list(self.items())[:: 1 if number % 2 == 0 else -1]:
                time.sleep(PAUSE)
                if once[name] < LONG:
                    worker.ask("time", 1)
                times[name].append(worker.ask("time", calls[name]))
        return times


def calls_for(once: float, least: float) -> int:
    """How many calls of `once` seconds make a timing of at least `least` seconds."""
    return max(1, math.ceil(least / max(once, 1e-9)))
