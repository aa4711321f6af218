"""What processes tell each other in each step, before the weights change, so that all decide the same.

Idea: whether a loss is finite and whether a signal asks for an end is known to one process first; all must act on it in
the same step, or one would wait for the others for ever.  So each reports it to all.  A sum over a part of the weights
goes with it: if the weights of two processes ever differ, that is noticed within `SLICES` steps.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidiff.backend import to_numpy
from minidiff.errors import MinidiffError
from minidiff.processes.world import World

SLICES = 64


@dataclass(frozen=True)
class Report:
    """losses: of the parts that a process has computed.  signal: that asks it to end, 0 for none."""

    losses: Sequence[float]
    signal: int


def check_sum(w: Any, step: int) -> int:
    """Return the CRC-32 of the slice of the weights, (n,), whose turn it is in this step."""
    slice_of = len(w) // SLICES + 1
    start = step % SLICES * slice_of
    return zlib.crc32(to_numpy(w[start : start + slice_of]).tobytes())


def share(world: World, report: Report, w: Any, step: int) -> list[Report]:
    """Return the reports of all processes in a step, by rank.

    w: the weights, (n,).  Raises MinidiffError if they differ.
    """
    if world.size == 1:
        return [report]
    rows = world.gather(np.array([report.signal, check_sum(w, step), *report.losses], np.float64))
    for rank, row in enumerate(rows):
        if row[1] != rows[0, 1]:
            raise MinidiffError(
                f"the weights of process {rank} are not those of process 0 at step {step}: its processor or a library "
                "rounds in another way; all processes must run on machines of one kind"
            )
    return [Report(row[2:].tolist(), int(row[0])) for row in rows]
