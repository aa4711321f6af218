"""Processes that talk by MPI, the Message Passing Interface, through mpi4py.

Idea: a launcher (mpiexec, srun) starts the same program several times and tells each its number.  MPI carries arrays
from the memory of one process into that of another, on the same machine or through a network.  Nothing here waits
inside of MPI, except while it starts and ends: exchanges are started and asked whether they have ended, so that a
process notices if another is missing.
Leaves out when MPI is used: command.py.
Source: MPI: A Message-Passing Interface Standard 4.1, chapters 3 (point to point) and 6 (collectives).
"""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from minidiff.errors import MinidiffError
from minidiff.processes.heartbeat import LENGTH, Heartbeat
from minidiff.processes.world import Done, World

# How many processes a launcher says that it has started: Hydra (MPICH, Intel MPI), Open MPI, Slurm's srun.
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")
SPINS = 1000  # questions without a pause: most answers come within a millisecond
LEAST_PAUSE, MOST_PAUSE = 5e-5, 1e-2  # seconds between later questions


def launched(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Return the number of this process and how many a launcher has started; 0 and 1 without a launcher."""
    for rank, size in zip(RANKS, SIZES):
        with contextlib.suppress(KeyError, ValueError):
            return int(environment[rank]), int(environment[size])
    return 0, 1


class MpiWorld(World):
    """The processes that a launcher has started.

    hosts: name of each process's machine.  cores: for each process of this machine, the cores that it may use.  place:
    of this process among them.  heartbeat: is started by the caller, before the first exchange that may fail.
    sent: how many bytes of arrays this process has begun to send.
    """

    heartbeat: Heartbeat | None = None
    sent = 0

    def __init__(self, cores: list[int]) -> None:
        MPI = self._mpi = import_mpi()
        if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
            raise MinidiffError("this MPI lets only one thread of a process use it (MPI_THREAD_MULTIPLE is missing)")
        self._comm = MPI.COMM_WORLD.Dup()
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        _, expected = launched()
        if self.size != expected:
            raise MinidiffError(
                f"the launcher has started {expected} processes, but MPI ({library(MPI)}) sees {self.size}: the "
                "launcher belongs to another MPI than the one that mpi4py has loaded, or is srun without --mpi=pmi2"
            )
        self.hosts = self.texts(MPI.Get_processor_name())
        here = [rank for rank, host in enumerate(self.hosts) if host == self.hosts[self.rank]]
        known = self.texts(" ".join(map(str, cores)))
        self.place, self.cores = here.index(self.rank), [[int(core) for core in known[rank].split()] for rank in here]

    def line(self) -> "MpiLine":
        """Return what carries the signs of a heartbeat."""
        self._line = MpiLine(self._mpi, self._comm.Dup())
        return self._line

    def finalize(self) -> None:
        """Leave MPI, when all processes have come here; no signs are sent any more."""
        self.texts("")
        self.leave()

    def leave(self) -> None:
        """Leave MPI, which waits for all processes; no signs are sent any more."""
        self._line.receive()  # MPI may not be left while messages are on the way
        self._mpi.Finalize()

    def exchange(self, peer: int, give: Any, take: Any, tag: int) -> Done:
        with one_line_from_mpi(self._mpi):
            requests = [] if take is None else [self._comm.Irecv(take, peer, tag)]
            if give is not None:
                requests.append(self._comm.Isend(give, peer, tag))
                self.sent += give.nbytes
        return self._done(requests)

    def gather(self, row: np.ndarray) -> np.ndarray:
        row = np.ascontiguousarray(row)
        rows = np.empty((self.size, *row.shape), row.dtype)
        with one_line_from_mpi(self._mpi):
            request = self._comm.Iallgather(row.view(np.uint8), rows.view(np.uint8))
        self.wait(self._done([request]))
        return rows

    def wait(self, done: Done) -> None:
        started = time.perf_counter()
        for _ in range(SPINS):
            if done():
                return
            time.sleep(0)
        while not done():
            if self.heartbeat is not None:
                self.heartbeat.check()
            waited = time.perf_counter() - started
            time.sleep(min(max(waited / 1000, LEAST_PAUSE), MOST_PAUSE))

    def _done(self, requests: list[Any]) -> Done:
        def done() -> bool:
            with one_line_from_mpi(self._mpi):
                return self._mpi.Request.Testall(requests)

        return done


class MpiLine:
    """Carries the signs of a heartbeat, see `heartbeat.Line`."""

    def __init__(self, MPI: Any, comm: Any) -> None:
        self._mpi, self._comm = MPI, comm
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self._sent: dict[int, tuple[Any, bytes]] = {}  # by peer, the last sign and its request

    def send(self, peer: int, sign: bytes) -> None:
        with contextlib.suppress(self._mpi.Exception):  # of a process that is gone, which its silence tells as well
            if peer not in self._sent or self._sent[peer][0].Test():
                self._sent[peer] = self._comm.Isend(sign, peer), sign

    def receive(self) -> list[tuple[int, bytes]]:
        signs, status = [], self._mpi.Status()
        with contextlib.suppress(self._mpi.Exception):
            while self._comm.Iprobe(status=status):
                sign = bytearray(LENGTH)
                self._comm.Recv(sign, status.Get_source())
                signs.append((status.Get_source(), bytes(sign[: status.Get_count()])))
        return signs


def import_mpi() -> Any:
    """Return mpi4py.MPI, whose import starts MPI.  Raises MinidiffError if it or an MPI library is missing."""
    try:
        import mpi4py

        mpi4py.rc.finalize = False  # MpiWorld does it, unless a process failed: MPI would wait for it for ever
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise MinidiffError(
            f"a launcher has started several processes, which need mpi4py and an MPI library: {why}; install "
            "minidiff[mpi], or leave out the launcher"
        ) from error
    return MPI


def library(MPI: Any) -> str:
    """Return the name and the version of the MPI library."""
    return " ".join(MPI.Get_library_version().replace(":", "").split("\n")[0].split())[:60]


@contextlib.contextmanager
def one_line_from_mpi(MPI: Any) -> Iterator[None]:
    """Raise a MinidiffError instead of an error of MPI, such as that another process is gone."""
    try:
        yield
    except MPI.Exception as error:
        raise MinidiffError(f"MPI: {error.Get_error_string()}") from error
