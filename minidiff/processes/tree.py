r"""Sums in the order of a binary tree, which several processes can compute together without changing that order.

Idea: floating-point addition is not associative: (a + b) + c and a + (b + c) differ in their last bits.  A batch is
computed in parts, whose gradients are added.  If these sums followed the order in which processes are ready, every run
would end with other weights.  So the order is fixed:

    part    0   1   2   3   4   5   6   7
             \ /     \ /     \ /     \ /
              +       +       +       +
                \   /           \   /
                  +               +
                       \      /
                           +

Two processes compute a half of this tree each, four a quarter; one process computes all of it.  What remains above is
added between processes, again in the order of the tree: a + b and b + a have the same bits, so two processes that
exchange their sums find the same sum.  Numbers of processes that are no power of two have an order of their own.
Leaves out when the sums are computed: gradients.py.
Source: recursive halving and doubling, Thakur, Rabenseifner and Gropp 2005, doi:10.1177/1094342005051521, section 4.
"""

import math
from collections.abc import Iterator
from typing import Any

from minidiff.errors import MinidiffError
from minidiff.processes.world import Done, World


def parts_of(batch_size: int, accumulate: int, processes: int) -> int:
    """Return into how many parts a batch is divided: the least common multiple of `accumulate` and `processes`.

    Raises MinidiffError if the batch cannot be divided into so many.
    """
    parts = math.lcm(accumulate, processes)
    if batch_size % parts:
        why = f" in {accumulate} parts" if accumulate > 1 else ""
        raise MinidiffError(
            f"a batch of {batch_size} images{why} cannot be divided among {processes} processes: take a --batch-size "
            f"that {parts} divides, such as {-(-batch_size // parts) * parts}"
        )
    return parts


class PartSums:
    """Adds up the gradients of the parts of one process, in the order of the tree.

    parts: how many there are.  They are halved as long as that is possible; the groups that remain, of an odd number of
    parts, are added one part after the other.
    waiting: the sums of finished branches of the tree that wait for their neighbours, the last one first to be added.
    """

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self.group = parts // (parts & -parts)  # the odd factor
        self.waiting: list[Any] = []

    def add(self, g: Any, part: int) -> None:
        """Take the sum in `g` after part 0, 1, … was added to it; `g` then holds what the next part is added to.

        Not to be called after the last part, whose sum `finish` completes.
        """
        groups, rest = divmod(part + 1, self.group)
        if rest:
            return
        while groups % 2 == 0:
            g[:] = self.waiting.pop() + g
            groups //= 2
        self.waiting.append(g.copy())
        g[:] = 0

    def finish(self, g: Any, piece: slice) -> None:
        """Complete a piece of the sum in `g` after the last part."""
        for branch in reversed(self.waiting):
            g[piece] += branch[piece]


def add_up(world: World, x: Any, spare: Any, tag: int) -> Iterator[Done]:
    """Add up the array x (n,) of all processes, in place; yield what must be done before the iterator is continued.

    In each round, two processes exchange a half of what they have, and add the half that they keep, until every process
    knows the sum of an n / size-th of the array.  Then they exchange these, and every process knows the whole sum.  A
    process sends 2 (1 - 1 / size) n numbers in 2 log2(size) rounds.
    If the number of processes is no power of two, some hand over their array first, and receive the sum at the end.
    spare: an array like x, for what is received.  tag: of all its exchanges, which both processes start in one order.
    """
    power = 1 << (world.size.bit_length() - 1)
    extra = world.size - power  # processes 1, 3, … 2 extra - 1 hand over
    if world.rank < 2 * extra and world.rank % 2:
        yield world.exchange(world.rank - 1, x, None, tag)
        yield world.exchange(world.rank - 1, None, x, tag)
        return
    if world.rank < 2 * extra:
        yield world.exchange(world.rank + 1, None, spare, tag)
        x += spare
    place = world.rank // 2 if world.rank < 2 * extra else world.rank - extra
    rounds, low, high = [], 0, len(x)
    for level in range(power.bit_length() - 1):
        middle = (low + high) // 2
        halves = slice(low, middle), slice(middle, high)
        keep, give = halves if place >> level & 1 == 0 else halves[::-1]
        other = place ^ 1 << level
        peer = 2 * other if other < extra else other + extra
        yield world.exchange(peer, x[give], spare[keep], tag)
        x[keep] += spare[keep]
        rounds.append((peer, keep, give))
        low, high = keep.start, keep.stop
    for peer, keep, give in reversed(rounds):
        yield world.exchange(peer, x[keep], x[give], tag)
    if world.rank < 2 * extra:
        yield world.exchange(world.rank + 1, x, None, tag)
