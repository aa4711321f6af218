"""Graphs: a function of arrays is captured once as a list of calls, and then replayed with next to no Python.

Idea: a training step makes the same calls on arrays of the same shapes again and again; only the numbers change.
While a function is captured, it runs as always, and every call that computes is written down: of compiled kernels, and
of whatever NumPy does.  The list tells when each array is needed first and last.  So all arrays get places in one block
of memory, and those that are never needed together share theirs.  `Graph.replay` then makes the calls of the list.

    outputs, captured = capture(function, arrays)    # calls function(*arrays)
    graph = Graph(captured)
    graph.inputs[0][...] = other numbers
    graph.replay()                                   # graph.outputs now hold what function returns for these

How NumPy is written down: during the capture the arrays belong to a sub-class of NumPy's, `Traced`, which NumPy asks
to compute (`__array_ufunc__`, `__array_function__`, and the methods below).
A list of calls repeats no decision of Python.  A number of an array that becomes one of Python raises NotCapturable;
any other function whose calls depend on more than shapes is recognised by two captures that differ (`Captured.same`).
Leaves out when a function is captured, and whether a graph fits the next arrays: the caller's business.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minidiff.kernels import numba_memory
from minidiff.kernels.arena import Allocation, place
from minidiff.kernels.numba_memory import LINE

_of_thread = threading.local()


class NotCapturable(Exception):
    """The function did something that a list of calls cannot repeat."""


class Place(NamedTuple):
    """Where an array of the list lies: an allocation, and what is seen of it."""

    allocation: Allocation
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype


class Call(NamedTuple):
    """A call of the list.  Arrays that the function made are given as `Place`."""

    function: Callable
    arguments: tuple
    keywords: dict[str, Any]


class Captured:
    """What has been captured: calls, the allocations that they work in, and where inputs and outputs lie."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.allocations: list[Allocation] = []
        self.inputs: list[Place] = []
        self.outputs: list[Place] = []
        self.waiting: list[tuple[Callable, tuple]] = []

    def same(self, other: "Captured") -> bool:
        """Whether another capture made the same calls, of the same numbers outside of what they compute."""
        return len(self.calls) == len(other.calls) and all(map(_equal, self.calls, other.calls))

    def perform(self) -> None:
        """Call what `perform` was asked for during the capture, where it only waited."""
        for function, arguments in self.waiting:
            function(*arguments)

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> "Traced":
        """Return an uninitialised array that the graph gets a place for."""
        array = np.ndarray.__new__(Traced, shape, dtype)
        array.allocation = Allocation(len(self.allocations), max(array.nbytes, 1))
        self.allocations.append(array.allocation)
        return array

    def add(self, function: Callable, arguments: tuple, keywords: dict[str, Any] | None = None) -> None:
        """Write a call down, which has been made."""
        arguments, keywords = self.placed(arguments), self.placed(keywords or {})
        self.calls.append(Call(function, arguments, keywords))

    def keep(self, result: Any, function: Callable, arguments: tuple, keywords: dict[str, Any]) -> Any:
        """Write down a call of NumPy that has returned `result`; return the result, traced.

        A view of one of the arguments needs no call.
        """
        if isinstance(result, tuple | list):
            return type(result)(
                self.keep(part, _part_of, (i, function, arguments, keywords), {}) for i, part in enumerate(result)
            )
        if not isinstance(result, np.ndarray | np.generic):
            return result
        if isinstance(result, np.ndarray) and any(np.may_share_memory(result, a) for a in _arrays(arguments)):
            return result.view(Traced)
        out = self.empty(result.shape, result.dtype)
        np.copyto(plain(out), result)
        if isinstance(function, np.ufunc) or function.__name__ == "reduce":
            self.add(function, arguments, keywords | {"out": out})
        else:
            self.add(_copy_result, (out, function, arguments, keywords))
        return out

    def placed(self, value: Any) -> Any:
        """Replace arrays that were made during the capture by their places, in tuples, lists and dictionaries too."""
        if isinstance(value, np.ndarray):
            allocation, address = _allocation_of(value)
            if allocation is None:
                return plain(value)
            allocation.used(len(self.calls))
            offset = value.__array_interface__["data"][0] - address
            return Place(allocation, offset, value.shape, value.strides, value.dtype)
        if isinstance(value, tuple) and not hasattr(value, "_fields"):
            return tuple(self.placed(each) for each in value)
        if isinstance(value, list):
            return [self.placed(each) for each in value]
        if isinstance(value, dict):
            return {key: self.placed(each) for key, each in value.items()}
        return value


class Graph:
    """A captured function, ready for replay.

    inputs: the arrays that `replay` reads, to be filled before each.  outputs: those that it leaves its results in.
    size: bytes of the memory that all arrays of the function share.
    """

    def __init__(self, captured: Captured) -> None:
        self.size = place(captured.allocations)
        self.memory = np.empty(self.size + LINE, np.uint8)
        self.start = -self.memory.ctypes.data % LINE
        self.calls = [self._bound(call) for call in captured.calls]
        self.inputs, self.outputs = self._array(captured.inputs), self._array(captured.outputs)

    def replay(self, performing: bool = True) -> None:
        """Make all calls again; performing: also those that `perform` was asked for."""
        for call, arguments in self.calls:
            if performing or call is not _perform:
                call(*arguments)

    def _bound(self, call: Call) -> tuple[Callable, tuple]:
        """Return a call with its arrays in the graph's memory."""
        arguments, keywords = self._array(call.arguments), self._array(call.keywords)
        return (partial(call.function, **keywords) if keywords else call.function), arguments

    def _array(self, value: Any) -> Any:
        if isinstance(value, Place):
            start = self.start + value.allocation.offset + value.offset
            return np.ndarray(value.shape, value.dtype, self.memory, start, value.strides)
        if isinstance(value, tuple) and not hasattr(value, "_fields"):
            return tuple(self._array(each) for each in value)
        if isinstance(value, list):
            return [self._array(each) for each in value]
        if isinstance(value, dict):
            return {key: self._array(each) for key, each in value.items()}
        return value


def capture(function: Callable, arrays: Sequence[np.ndarray]) -> tuple[list[np.ndarray], Captured]:
    """Call function(*arrays), which returns a sequence of arrays; return these, and what was captured.

    Arrays that the function finds elsewhere, such as weights, are read and written where they are at every replay; they
    must be `traced` if NumPy computes with nothing but them.
    Raises NotCapturable.
    """
    numba_memory.forget_all()  # of calls that were not captured
    captured = Captured()
    inputs = [captured.empty(array.shape, array.dtype) for array in arrays]
    for ours, given in zip(inputs, arrays):
        plain(ours)[...] = given
    captured.inputs = captured.placed(inputs)
    with _capturing(captured):
        outputs = list(function(*inputs))
    captured.outputs = captured.placed(outputs)
    return [plain(output) for output in outputs], captured


@contextmanager
def _capturing(captured: Captured | None) -> Iterator[None]:
    before = active()
    _enter(captured)
    try:
        yield
    finally:
        _enter(before)


def _enter(captured: Captured | None) -> None:
    _of_thread.capture = captured
    numba_memory.made_by(None if captured is None else captured.empty)


def active() -> Captured | None:
    """Return the capture that this thread is in, None outside of one."""
    return getattr(_of_thread, "capture", None)


def outside() -> Any:
    """A context in which nothing is written down: for what is computed once, and read by every replay."""
    return _capturing(None)


def perform(function: Callable, *arguments: Any) -> None:
    """Call a function that is no arithmetic, such as one that sends a message, and let every replay call it.

    During a capture the function only waits, until the caller calls `Captured.perform`.
    """
    captured = active()
    if captured is None:
        function(*arguments)
    else:
        captured.waiting.append((function, plain(arguments)))
        captured.add(_perform, (function, *arguments))


def _perform(function: Callable, *arguments: Any) -> None:
    function(*arguments)


def traced(array: np.ndarray) -> np.ndarray:
    """Return an array as one whose computations are written down."""
    return array.view(Traced)


def plain(value: Any) -> Any:
    """Return arrays as NumPy's own, in tuples, lists and dictionaries too."""
    if isinstance(value, Traced):
        return value.view(np.ndarray)
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(map(plain, value))
    if isinstance(value, list):
        return list(map(plain, value))
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return value


class Traced(np.ndarray):
    """An array whose computations are written down by the capture that its thread is in."""

    allocation: Allocation | None = None  # of an array that `Captured.empty` made; views have none of their own

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **keywords: Any) -> Any:
        call = ufunc if method == "__call__" else getattr(ufunc, method)
        return _traced_call(call, inputs, keywords)

    def __array_function__(self, function: Callable, types: Any, arguments: Any, keywords: Any) -> Any:
        return _traced_call(function, arguments, keywords)

    def __getitem__(self, key: Any) -> Any:
        if any(isinstance(part, Traced) and part.dtype == bool for part in (key if isinstance(key, tuple) else (key,))):
            raise NotCapturable("a mask chooses how many numbers there are")
        return _traced_call(np.ndarray.__getitem__, (self, key), {})

    def __setitem__(self, key: Any, value: Any) -> None:
        _set_item(plain(self), plain(key), plain(value))
        if (captured := active()) is not None:
            captured.add(_set_item, (self, key, value))

    def _number(self, *_: Any) -> Any:
        raise NotCapturable("a number of an array was asked for")

    item = tolist = __float__ = __int__ = __bool__ = __index__ = _number


def _traced_call(function: Callable, arguments: tuple, keywords: dict[str, Any]) -> Any:
    captured, out = active(), keywords.get("out")
    result = function(*plain(arguments), **plain(keywords))
    if captured is None:
        return result
    if out is None:
        return captured.keep(result, function, arguments, keywords)
    captured.add(function, arguments, keywords)
    return out[0] if isinstance(out, tuple) and len(out) == 1 else out


def _method(name: str) -> Callable:
    original = getattr(np.ndarray, name)

    def method(self: Traced, *arguments: Any, **keywords: Any) -> Any:
        return _traced_call(original, (self, *arguments), keywords)

    return method


for _name in ("astype", "copy", "ravel", "repeat", "reshape", "take"):
    setattr(Traced, _name, _method(_name))


def _set_item(array: np.ndarray, key: Any, value: Any) -> None:
    array[key] = value


def _copy_result(out: np.ndarray, function: Callable, arguments: tuple, keywords: dict[str, Any]) -> None:
    np.copyto(out, function(*arguments, **keywords))


def _part_of(number: int, function: Callable, arguments: tuple, keywords: dict[str, Any]) -> Any:
    return function(*arguments, **keywords)[number]


def _arrays(value: Any) -> Iterator[np.ndarray]:
    """Yield the arrays in nested tuples and lists."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _arrays(each)


def _allocation_of(array: np.ndarray) -> tuple[Allocation | None, int]:
    """Return the allocation that an array was made in, or is a view of, and where it began during the capture."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        if isinstance(owner, Traced) and owner.allocation is not None:
            return owner.allocation, owner.__array_interface__["data"][0]
        owner = owner.base
    return None, 0


def _equal(a: Any, b: Any) -> bool:
    """Whether two arguments are the same: for arrays from elsewhere, whether they hold the same numbers."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        mine, others = ({**each.__array_interface__, "data": 0} for each in (a, b))
        same_place = a.__array_interface__["data"] == b.__array_interface__["data"]
        return mine == others and (same_place or a.tobytes() == b.tobytes())
    if isinstance(a, Place):
        return (a.allocation.number, *a[1:]) == (b.allocation.number, *b[1:])
    if isinstance(a, partial):
        return _equal((a.func, a.args, a.keywords), (b.func, b.args, b.keywords))
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    return bool(a == b)
