"""The processes that train or draw together, and what one of them can ask the others.

Idea: every process runs the same program.  A process knows its number `rank`, 0 … size - 1, and takes its share of the
work by it.  Three things are then enough: two processes exchange arrays, all processes see a small array of each, and a
process that waits notices when another one is gone.  A program that was started by itself is a world of one process,
which has nothing to exchange and nobody to wait for.
Leaves out how arrays travel: mpi.py between processors, nccl.py between GPUs.
"""

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
Done = Callable[[], bool]  # whether something that was started has ended


class World:
    """The world of one process; those of several processes are derived from it.

    rank: number of this process.  size: number of processes.  place: number of this process among those of its machine.
    """

    rank, size, place = 0, 1, 0

    def exchange(self, peer: int, give: Any, take: Any, tag: int) -> Done:
        """Start to send the array `give` to a process and to receive the array `take` from it; either may be None.

        Both must be contiguous.  Until the returned function returns True, `give` must not be written,
        and `take` neither read nor written.
        tag: 0, 1, …; an exchange meets that of its peer with the same tag, in the order in which they were started.
        """
        raise NotImplementedError("one process has nobody to exchange with")

    def gather(self, row: np.ndarray) -> np.ndarray:
        """Return the arrays that all processes have called this with, by rank: (size, *row.shape).

        They must have the same shape and dtype.  Returns when all processes have called it.
        """
        return row[None]

    def wait(self, done: Done) -> None:
        """Return when `done` returns True.  Raises MinidiffError if another process has failed or is gone."""

    def share(self, arrays: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """Return the arrays that all processes have called this with, by rank; their number and shapes may differ."""
        if self.size == 1:
            return [list(arrays)]
        described = json.dumps([(array.dtype.str, array.shape) for array in arrays]).encode()
        data = [described, b"".join(array.tobytes() for array in arrays)]
        lengths = self.gather(np.array([len(part) for part in data]))
        row = np.zeros(lengths.sum(1).max(), np.uint8)
        row[: sum(map(len, data))] = np.frombuffer(b"".join(data), np.uint8)
        return [_unpacked(bytes(row), int(length)) for row, (length, _) in zip(self.gather(row), lengths)]

    def texts(self, text: str) -> list[str]:
        """Return the texts that all processes have called this with, by rank."""
        shared = self.share([np.frombuffer(text.encode(), np.uint8)])
        return [array.tobytes().decode() for (array,) in shared]

    def said_by_first(self, number: int | None) -> int | None:
        """Return the number above 0, or None, that process 0 has called this with."""
        return int(self.gather(np.array([number or 0]))[0, 0]) or None

    def one_first(self, call: Callable[[], T]) -> T:
        """Return what `call` returns, which may download files: process 0 calls it, then one on each machine, then all.

        So a file is downloaded once, or once on each machine if they have different disks.
        """
        own_turn = 0 if self.rank == 0 else 1 if self.place == 0 else 2
        for turn in range(3):
            if turn == own_turn:
                result = call()
            self.texts("")
        return result

    def in_turn(self, tasks: Iterable[Callable[[], Sequence[np.ndarray]]]) -> Iterator[list[np.ndarray]]:
        """Run tasks, each on one process; every process yields the arrays that each task returned, in their order.

        Task k runs on process k modulo size.  Every process receives the results of all of them.
        """
        for group in batched(tasks, self.size):
            mine = group[self.rank]() if self.rank < len(group) else []
            yield from self.share(mine)[: len(group)]


def batched(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Yield the items in groups of `size`, the last one perhaps smaller."""
    rest = iter(items)
    while group := tuple(itertools.islice(rest, size)):
        yield group


def _unpacked(row: bytes, length: int) -> list[np.ndarray]:
    """Return the arrays in a row of bytes, whose first `length` bytes describe them."""
    arrays, start = [], length
    for dtype, shape in json.loads(row[:length]):
        count = math.prod(shape)
        arrays.append(np.frombuffer(row, dtype, count, start).reshape(shape))
        start += arrays[-1].nbytes
    return arrays


ALONE = World()
_current = ALONE


def current() -> World:
    """Return the processes that this one works with."""
    return _current


@contextmanager
def using(world: World) -> Iterator[World]:
    """Work with these processes inside the `with` block."""
    global _current
    before, _current = _current, world
    try:
        yield world
    finally:
        _current = before
