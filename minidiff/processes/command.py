"""What a command does that a launcher has started several times: `mpiexec -n 4 python -m minidiff.train`.

Idea: the processes of such a command look like one from outside.  Process 0 alone prints and writes files.  If one of
them fails, all end, and process 0 prints why; if process 0 itself is gone, another one does.
Leaves out what the processes compute.
"""

import atexit
import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from minidiff.errors import EXIT_BROKEN_PIPE, EXIT_INTERRUPTED, EXIT_MISTAKE, MinidiffError, one_line
from minidiff.processes import cores
from minidiff.processes.heartbeat import INTERVAL, SILENCE, Heartbeat
from minidiff.processes.mpi import MpiWorld, launched
from minidiff.processes.world import World, current, using

LEAVING = 4.0  # seconds that processes which fail wait for each other: to hear why, and then to leave MPI together


@contextlib.contextmanager
def join() -> Iterator[World]:
    """Work together with the other processes of this command inside the `with` block; returns when all have left it.

    Without a launcher, nothing happens.  Call it before Numba is imported, which counts the cores.
    Raises MinidiffError if the processes cannot find each other, or one of them fails.
    """
    rank, size = launched()
    if size == 1:
        yield current()
        return
    if rank:
        _silence()
    world: MpiWorld | None = None
    help_was_shown: SystemExit | None = None
    try:
        world = MpiWorld(cores.available())
        cores.take_share(world.cores, world.place)
        world.heartbeat = Heartbeat(world.line(), world.hosts, SILENCE, lambda problem: _give_up(world, problem))
        with using(world):
            try:
                yield world
            except SystemExit as end:
                if end.code:
                    raise
                help_was_shown = end
        world.texts("")  # all have left the block
    except BaseException as error:
        _leave(rank, world, error)
        raise
    world.heartbeat.stop()
    world.finalize()
    if help_was_shown is not None:
        raise help_was_shown


def _silence() -> None:
    """Let everything that this process prints go nowhere."""
    nothing = Path(os.devnull).open("w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    sys.stdout = sys.stderr = nothing


def _leave(rank: int, world: MpiWorld | None, error: BaseException) -> None:
    """Tell the others why this process ends.  Process 0 then returns, and prints it; any other one ends here.

    A launcher kills the others when one process ends with an error, and may report that it has killed them instead of
    how they ended.  So all leave MPI together and then end at once, unless one is missing.
    """
    heartbeat = None if world is None else world.heartbeat
    known = heartbeat is not None and heartbeat.problem is not None
    is_mistake = isinstance(error, MinidiffError | OSError | MemoryError | KeyboardInterrupt | SystemExit)
    why = "it was interrupted" if isinstance(error, KeyboardInterrupt) else one_line(error)
    if rank and not is_mistake:
        os.write(2, "".join(traceback.format_exception(error)).encode())
    if heartbeat is not None and not known and not isinstance(error, SystemExit):  # which all processes come to
        heartbeat.tell(why)
    if rank == 0:
        if heartbeat is not None:
            time.sleep(3 * INTERVAL)  # until the others have heard it
            heartbeat.stop()
            if world is not None and heartbeat.silent is None:
                atexit.register(_end_together, world, _exit_code(error))  # after it has printed why
        return
    deadline = time.monotonic() + LEAVING
    while time.monotonic() < deadline and (heartbeat is None or heartbeat.problem is None):
        time.sleep(INTERVAL / 5)
    if world is not None and heartbeat is not None:
        heartbeat.stop()
        if heartbeat.silent is None:
            _end_together(world, _exit_code(error))
        if heartbeat.problem is not None:
            _give_up(world, heartbeat.problem)
    if isinstance(error, SystemExit):
        os._exit(_exit_code(error))
    os.write(2, f"error: process {rank}: {why}\n".encode())  # process 0 has not heard it
    os._exit(EXIT_MISTAKE)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    return {KeyboardInterrupt: EXIT_INTERRUPTED, BrokenPipeError: EXIT_BROKEN_PIPE}.get(type(error), EXIT_MISTAKE)


def _end_together(world: MpiWorld, code: int) -> None:
    """Leave MPI when all processes do, and end this one; end it as well if they do not in time."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    late = threading.Timer(LEAVING, os._exit, (code,))
    late.daemon = True
    late.start()
    world.leave()
    os._exit(code)


def _give_up(world: MpiWorld, problem: str) -> None:
    """End this process at once, whatever its main thread waits for; print why, if that falls to it."""
    if world.rank == reporter(world.hosts, world.heartbeat.silent if world.heartbeat is not None else None):
        os.write(2, f"error: {problem}\n".encode())
    os._exit(EXIT_MISTAKE)


def reporter(hosts: list[str], silent: int | None) -> int:
    """Return the process that prints an error: process 0 or, if that is silent, one that is likely to be alive.

    hosts: the machine of each process.
    """
    if silent != 0:
        return 0
    return next((rank for rank, host in enumerate(hosts) if host != hosts[0]), 1)
