"""Processes on one machine take different cores."""

import os
import subprocess
import sys

import pytest

from minidiff.processes.cores import share_of


@pytest.mark.parametrize("cores", [1, 2, 3, 7, 8, 64])
@pytest.mark.parametrize("processes", [1, 2, 3, 5, 8])
def test_each_core_is_taken_once_or_each_process_takes_one(cores, processes):
    mine = list(range(10, 10 + cores))
    shares = [share_of([mine] * processes, place) for place in range(processes)]
    if cores >= processes:
        assert sorted(core for share in shares for core in share) == mine
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    else:
        assert all(len(share) == 1 for share in shares) and {core for (core,) in shares} == set(mine)


def test_what_a_launcher_has_divided_stays():
    assert share_of([[0, 1], [2, 3]], 1) == [2, 3]
    assert share_of([[0], [0], [1]], 1) == [0]
    assert [share_of([[0, 1], [0, 1], [2, 3], [2, 3]], place) for place in range(4)] == [[0], [1], [2], [3]]


def test_kernels_take_the_share():
    """In a process of its own, as Numba counts the cores once."""
    code = (
        "import os; from minidiff.processes.cores import available, take_share\n"
        "share = take_share([available()] * 2, 1)\n"
        "from minidiff import backend; assert backend.use('numba').threads() == len(share) == len(available())\n"
        "assert backend.use('numpy').threads() in (None, len(share))\n"
        "print(len(share))"
    )
    environment = {**os.environ, "NUMBA_NUM_THREADS": ""}
    del environment["NUMBA_NUM_THREADS"]
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert int(done.stdout) == cores - cores // 2
