"""Adding up the gradients of a batch: over the parts that a process computes, and over all processes.

Idea: the loss of a batch is the mean of its images' losses, and the gradient of a sum is the sum of the gradients.  So
each process computes the gradients of its part of the batch, all processes add them up, and then all make the same
step: their weights stay the same, to the bit, without ever being sent.
The backward pass computes the gradients of the last layers first.  The flat array of gradients is divided into pieces,
and as soon as a piece is complete, processes begin to add it up, while the backward pass goes on.
Leaves out the order of the sums: tree.py.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from minidiff import backend
from minidiff.autograd import Tensor, on_gradient
from minidiff.nn.flat_parameters import FlatParameters
from minidiff.processes.tree import PartSums, add_up
from minidiff.processes.world import Done, World

PIECE = 1 << 18  # numbers, of 4 bytes each


@dataclass(eq=False)
class Piece:
    """A piece of the flat array: where it lies, and how far its sum over the processes has come.

    parameters: how many lie in it, at least in part.  missing: how many wait for their gradient of the last part of the
    batch.  sum: over the processes, None until it has begun.  arrived: whether it can go on.
    """

    where: slice
    number: int
    parameters: int = 0
    missing: int = 0
    sum: Iterator[Done] | None = None
    arrived: Done = lambda: True


class GradientSum:
    """The gradients of a batch, summed over its parts on all processes.

    parts: of the batch, on all processes.  own: those of this process.
    early: whether pieces are sent while the backward pass goes on.
    waited: seconds that `finish` took for the last batch, in which nothing else was done.
    """

    def __init__(self, parameters: FlatParameters, world: World, parts: int, early: bool = True) -> None:
        self.g, self.world, self.early = parameters.g, world, early
        self.own = slice(world.rank * parts // world.size, (world.rank + 1) * parts // world.size)
        self.sums = PartSums(parts // world.size)
        self.part, self.waited = 0, 0.0
        self.spare = self.g[:0] if world.size == 1 else backend.current().xp.empty_like(self.g)
        starts = range(0, len(self.g), PIECE)
        self.pieces = [Piece(slice(k, min(k + PIECE, len(self.g))), number) for number, k in enumerate(starts)]
        self.running: list[Piece] = []
        self.pieces_of: dict[int, list[Piece]] = {}  # by the identity of a parameter
        start = 0
        for parameter in parameters.parameters.values():
            stop = start + parameter.data.size
            self.pieces_of[id(parameter)] = self.pieces[start // PIECE : -(-stop // PIECE)]
            for piece in self.pieces_of[id(parameter)]:
                piece.parameters += 1
            start = stop

    def clear(self) -> None:
        """Set all gradients to zero, before the first part of a batch."""
        self.g[:] = 0
        self.sums.waiting.clear()
        self.part = 0

    @contextmanager
    def adding(self) -> Iterator[None]:
        """Add the gradients of the next part: the block calls `backward`, which adds to `g`."""
        if self.part + 1 < self.sums.parts:
            yield
            self.sums.add(self.g, self.part)
        elif self.world.size == 1:
            yield
            self.sums.finish(self.g, slice(None))
        else:
            for piece in self.pieces:
                piece.missing, piece.sum = piece.parameters, None
            with on_gradient(self._on_gradient):
                yield
        self.part += 1

    def finish(self) -> None:
        """Return when `g` holds the sum over all parts on all processes."""
        if self.world.size == 1:
            return
        start = time.perf_counter()
        for piece in self.pieces:
            if piece.sum is None:
                self._begin(piece)
        self._go_on()
        while self.running:
            self.world.wait(lambda: any(piece.arrived() for piece in self.running))
            self._go_on()
        self.waited = time.perf_counter() - start

    def _on_gradient(self, leaf: Tensor) -> None:
        """Begin to add up the pieces that are complete now, and go on with the others."""
        for piece in self.pieces_of.get(id(leaf), ()):
            piece.missing -= 1
            if piece.missing == 0 and self.early:
                self._begin(piece)
        self._go_on()

    def _begin(self, piece: Piece) -> None:
        self.sums.finish(self.g, piece.where)
        piece.arrived = lambda: True
        piece.sum = add_up(self.world, self.g[piece.where], self.spare[piece.where], piece.number)
        self.running.append(piece)

    def _go_on(self) -> None:
        """Continue each sum for whose next round everything has arrived."""
        for piece in list(self.running):
            while piece.arrived():
                try:
                    assert piece.sum is not None
                    piece.arrived = next(piece.sum)
                except StopIteration:
                    self.running.remove(piece)
                    break
