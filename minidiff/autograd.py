"""Automatic differentiation: a tensor records the operation that made it, and `backward` walks the records.

Idea: every operation records its inputs and a closure, which turns the gradient of the operation's result into the
gradients of its inputs.  All records together are called the tape.  By the chain rule, a walk over the tape from the
loss back to the weights gives the gradient of the loss with respect to each weight.  The walk frees the tape.
Leaves out higher derivatives: the closures compute with plain arrays, so that the walk itself is not recorded.
Source: reverse-mode differentiation, Linnainmaa 1970; surveyed in Baydin et al. 2018, arXiv:1502.05767, section 3.2.
"""

import heapq
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from minidiff import backend

Closure = Callable[..., tuple[Any, ...]]

_serial = itertools.count()
_recording = True
_gradient_hook: Callable[["Tensor"], object] | None = None


class Tensor:
    """An array, and the record of the operation that made it if an input of that operation requires gradients.

    data: an array of any shape.  grad: an array of the same shape after `backward`, for a tensor that no operation made
    (a leaf) and that requires gradients; else None.
    Arithmetic on tensors (+ - * / @, slices and so on) is defined in ops.py.
    """

    __slots__ = ("__weakref__", "_closure", "_inputs", "_serial", "data", "grad", "requires_grad")
    __array_ufunc__ = None  # array + tensor then calls Tensor.__radd__

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        if isinstance(data, Tensor):
            raise TypeError("Tensor: data is a Tensor already")
        here = backend.current().xp.asarray if isinstance(data, int | float | list | tuple) else None
        self.data: Any = here(data) if here else data
        self.grad: Any = None
        self.requires_grad = requires_grad
        self._inputs: tuple[Tensor, ...] = ()
        self._closure: Closure | None = None
        self._serial = next(_serial)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    def item(self) -> float:
        """Return the value of a tensor of one element."""
        return self.data.item()

    def __repr__(self) -> str:
        return f"Tensor({self.data!r}{', requires_grad=True' if self.requires_grad else ''})"

    def backward(self) -> None:
        """Add d self / d leaf to the `grad` of every leaf that requires gradients.

        self must have one element.  A tensor always has a larger serial number than its inputs.  So the walk takes the
        tensor with the largest number first: by then, every operation that used the tensor has added its gradient.
        A leaf needs no place in that order: it receives its gradient as soon as all its uses have added theirs.
        Each record and each gradient is freed as soon as it has been used.
        Raises ValueError if self does not have one element, or if the tape has been walked before.
        """
        if self.data.size != 1:
            raise ValueError(f"backward: expected a single number, got shape {self.shape}")
        if not self.requires_grad:
            raise ValueError("backward: nothing was recorded, no input asks for a gradient")
        sums: dict[int, Any] = {self._serial: self.data * 0 + 1}  # by serial number, the sum of the gradients so far
        uses, reached = self._uses_of_leaves(), {self._serial}
        waiting = [(-self._serial, self)]  # a heap, whose first entry is the smallest
        while waiting:
            _, tensor = heapq.heappop(waiting)
            gy = sums.pop(tensor._serial)
            if tensor._closure is None:  # backward was called on a leaf
                tensor._add_to_grad(gy)
                continue
            for source, gradient in zip(tensor._inputs, tensor._gradients_of_inputs(gy, sums), strict=True):
                if not source.requires_grad:
                    continue
                gradient = unbroadcast(gradient, source.shape)
                if source._serial in sums:
                    gradient = backend.current().add(sums[source._serial], gradient)
                sums[source._serial] = gradient
                if source._closure is None:
                    uses[source._serial] -= 1
                    if uses[source._serial] == 0:
                        source._add_to_grad(sums.pop(source._serial))
                elif source._serial not in reached:
                    reached.add(source._serial)
                    heapq.heappush(waiting, (-source._serial, source))
            tensor._inputs, tensor._closure = (), _already_walked

    def _uses_of_leaves(self) -> dict[int, int]:
        """Return how often the records before this tensor use each leaf that requires gradients, by serial number."""
        uses: dict[int, int] = {}
        reached, waiting = {self._serial}, [self]
        while waiting:
            for source in waiting.pop()._inputs:
                if not source.requires_grad:
                    continue
                if source._closure is None:
                    uses[source._serial] = uses.get(source._serial, 0) + 1
                elif source._serial not in reached:
                    reached.add(source._serial)
                    waiting.append(source)
        return uses

    def _gradients_of_inputs(self, gy: Any, sums: dict[int, Any]) -> tuple[Any, ...]:
        """Return the gradients of the inputs, given that of the result.  (fused_sum.py also uses `sums`.)"""
        assert self._closure is not None
        return self._closure(gy)

    def _add_to_grad(self, gradient: Any) -> None:
        if self.grad is None:
            self.grad = gradient.copy()  # an operation may have returned the same array for two inputs
        else:
            self.grad += gradient  # in place, because the array may be a view of the optimiser's flat array
        if _gradient_hook is not None:
            backend.current().perform(_gradient_hook, self)

    if TYPE_CHECKING:  # ops.py defines these; they are declared here for type checkers

        def __add__(self, other: Any) -> "Tensor": ...
        def __radd__(self, other: Any) -> "Tensor": ...
        def __sub__(self, other: Any) -> "Tensor": ...
        def __rsub__(self, other: Any) -> "Tensor": ...
        def __mul__(self, other: Any) -> "Tensor": ...
        def __rmul__(self, other: Any) -> "Tensor": ...
        def __truediv__(self, other: Any) -> "Tensor": ...
        def __rtruediv__(self, other: Any) -> "Tensor": ...
        def __matmul__(self, other: Any) -> "Tensor": ...
        def __neg__(self) -> "Tensor": ...
        def __getitem__(self, key: Any) -> "Tensor": ...
        def sum(self, axis: Any = None) -> "Tensor": ...
        def mean(self, axis: Any = None) -> "Tensor": ...
        def reshape(self, shape: Any) -> "Tensor": ...


def record(data: Any, inputs: tuple[Tensor, ...], closure: Closure, kind: type[Tensor] = Tensor) -> Tensor:
    """Return the result of an operation as a Tensor, with a record of the operation.

    closure(gy): returns one gradient for each input, given the gradient gy of the result.  A gradient has the shape of
    its input or one that the input broadcasts to.  It may be None for an input that does not require gradients.
    kind: the class of the result, which fused_sum.py changes.
    Nothing is recorded if no input requires gradients.
    """
    out = kind(data)
    if _recording and any(source.requires_grad for source in inputs):
        out.requires_grad, out._inputs, out._closure = True, inputs, closure
    return out


def _already_walked(*_: Any) -> tuple[Any, ...]:
    raise ValueError("backward: this tape was walked before, and freed; compute the result anew")


def has_gradient_hook() -> bool:
    """Whether a hook is set, see `on_gradient`."""
    return _gradient_hook is not None


def unbroadcast(gradient: Any, shape: tuple[int, ...]) -> Any:
    """Sum a gradient over the axes along which NumPy repeated an input of the given shape.

    An input that is repeated k times is used k times, so its gradient is the sum of k gradients.
    """
    if gradient.shape == shape:
        return gradient
    extra = gradient.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        extra + i for i, n in enumerate(shape) if n == 1 and gradient.shape[extra + i] > 1
    )
    return gradient.sum(axis=axes, keepdims=True).reshape(shape)


@contextmanager
def no_grad() -> Iterator[None]:
    """Record nothing inside the `with` block, for sampling and for evaluation."""
    global _recording
    before, _recording = _recording, False
    try:
        yield
    finally:
        _recording = before


@contextmanager
def on_gradient(call: Callable[[Tensor], object]) -> Iterator[None]:
    """Inside the `with` block, `backward` calls `call` with each leaf that has received its whole gradient."""
    global _gradient_hook
    before, _gradient_hook = _gradient_hook, call
    try:
        yield
    finally:
        _gradient_hook = before
