"""Dividing the cores of a machine among the processes that run on it.

Idea: each kernel takes all cores that its process may use.  Two processes on one machine would both take all of them,
and slow each other down.  So each process is confined to its share, before the kernels count their threads.  If a
launcher has given them different cores, these are the ones that are divided.
Leaves out machines whose processes cannot be confined (macOS, Windows): there only the number of threads is set.
"""

import os
from collections.abc import Sequence

import threadpoolctl


def available() -> list[int]:
    """Return the numbers of the cores that this process may use, in order."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def share_of(cores: Sequence[Sequence[int]], place: int) -> list[int]:
    """Return the cores that process number `place` of a machine takes.

    cores: for each process of this machine, those that it may use.  Processes that may use the same ones divide them
    into nearly equal parts, neighbours in number; if there are fewer cores than processes, several take the same one.
    """
    mine = list(cores[place])
    same = [k for k, other in enumerate(cores) if list(other) == mine]
    k, n = same.index(place), len(same)
    if len(mine) < n:
        return [mine[k % len(mine)]]
    return mine[k * len(mine) // n : (k + 1) * len(mine) // n]


def take_share(cores: Sequence[Sequence[int]], place: int) -> list[int]:
    """Confine this process to its share of the cores, see `share_of`; return it.  Call it before Numba is imported."""
    share = share_of(cores, place)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share)
    os.environ["NUMBA_NUM_THREADS"] = str(min(len(share), int(os.environ.get("NUMBA_NUM_THREADS", len(share)))))
    threadpoolctl.threadpool_limits(limits=len(share), user_api="blas")
    return share
