"""Graphs on a GPU: CUDA captures what is launched in a stream, and launches all of it again at once.

Idea: as in graph.py, but CUDA itself writes the list down.  During a capture nothing runs: launches only join the
graph.  So the function is called twice: once for its results, which also fills a pool of memory, and once to be
captured with arrays from that pool.  The pool belongs to the graph, so that nobody else writes into its arrays.
A graph has been captured on an emulated device only, never on a GPU.
Source: CUDA C++ Programming Guide, "CUDA Graphs"; CuPy's `Stream.begin_capture`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from minidiff.kernels.cuda_launch import device

_capturing = False


class NotCapturable(Exception):
    """The function did something that no launch can repeat, such as to wait for a number."""


class Captured:
    """A captured function.  graph: of the device, with a `launch`.  inputs, outputs: its arrays."""

    def __init__(self, graph: Any, inputs: list[Any], outputs: list[Any]) -> None:
        self.graph, self.inputs, self.outputs = graph, inputs, outputs

    def same(self, other: "Captured") -> bool:
        """CUDA compares no graphs: a replay with other numbers has to show it."""
        return True

    def perform(self) -> None:
        """Nothing waits, see `perform` below."""

    def replay(self, performing: bool = True) -> None:
        """Launch everything again."""
        self.graph.launch()


def Graph(captured: Captured) -> Captured:
    """Return what was captured: it is ready for replay."""
    return captured


def capture(function: Callable, arrays: Sequence[Any]) -> tuple[list[Any], Captured]:
    """Call function(*arrays), which returns a sequence of arrays; return these, and what was captured.

    Raises NotCapturable.
    """
    global _capturing
    inputs = [array.copy() for array in arrays]
    _capturing = True
    try:
        with device().pool() as pool:
            results = [output.copy() for output in function(*inputs)]
            outputs: list[Any] = []
            graph = pool.capture(lambda: outputs.extend(function(*inputs)))
    finally:
        _capturing = False
    if graph is None:
        raise NotCapturable("it waits for a number, or moves an array between host and device")
    return results, Captured(graph, inputs, outputs)


def traced(array: Any) -> Any:
    """Return the array: CUDA captures whatever is launched."""
    return array


plain = traced


def perform(function: Callable, *arguments: Any) -> None:
    """Call a function, which is not possible inside of a graph.  Raises NotCapturable there."""
    if _capturing:
        raise NotCapturable("Python has something to do in between")
    function(*arguments)
