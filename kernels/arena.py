"""Places for arrays in one block of memory, so that arrays which are never needed together share theirs.

Idea: a list of calls says when each array is needed first and last.  Large arrays choose first, and each takes the
lowest place that is free all the while it is needed.
Source: Pisarchyk and Lee 2020, arXiv:2001.03288, section 5.2 ("greedy by size").
"""

from collections.abc import Sequence

import numpy as np

from minidiff.kernels.numba_memory import LINE


class Allocation:
    """Memory for one array: its number, its bytes, the first and the last call that need it, and its place."""

    __slots__ = ("first", "last", "number", "offset", "size")

    def __init__(self, number: int, size: int) -> None:
        self.number, self.size, self.offset = number, -(-size // LINE) * LINE, 0
        self.first = self.last = -1

    def used(self, call: int) -> None:
        """Note that a call needs it; calls are noted in their order."""
        if self.first < 0:
            self.first = call
        self.last = call


def place(allocations: Sequence[Allocation]) -> int:
    """Give each allocation an offset; return how many bytes the memory has."""
    order = sorted((a for a in allocations if a.first >= 0), key=lambda a: -a.size)
    first, last, start, stop = np.zeros((4, len(order)), np.int64)
    for i, allocation in enumerate(order):
        beside = np.flatnonzero((first[:i] <= allocation.last) & (last[:i] >= allocation.first))
        beside = beside[np.argsort(start[beside], kind="stable")]
        ends = np.maximum.accumulate(np.concatenate([[0], stop[beside]]))  # where everything before the next one ends
        gaps = np.append(start[beside], np.iinfo(np.int64).max) - ends
        allocation.offset = int(ends[np.argmax(gaps >= allocation.size)])
        first[i], last[i] = allocation.first, allocation.last
        start[i], stop[i] = allocation.offset, allocation.offset + allocation.size
    return int(stop.max(initial=0))
