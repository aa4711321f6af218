"""A tensor that remembers how it was made, and the walk back through that memory.

Idea: every operation records its inputs and a closure that turns the gradient of its result into the gradients of
those inputs.  The chain rule is then a walk over the records, from the loss back to the weights.
Stands third in the reading order, before the operations themselves (ops.py).  Leaves out higher derivatives: the tape
is freed as it is walked.
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


class Tensor:
    """An array and, if gradients are wanted, the record of the operation that made it.

    data: an array of any shape.  grad: an array of the same shape once `backward` has reached a leaf, else None.
    Arithmetic on tensors (+ - * / @ and so on) is defined in ops.py.
    """

    __slots__ = ("__weakref__", "_adds", "_closure", "_inputs", "_serial", "data", "grad", "requires_grad")
    __array_ufunc__ = None  # so that array + tensor asks the tensor, not NumPy

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        if isinstance(data, Tensor):
            raise TypeError("Tensor: data is a Tensor already")
        here = backend.current().xp.asarray if isinstance(data, int | float | list | tuple) else None
        self.data: Any = here(data) if here else data
        self.grad: Any = None
        self.requires_grad = requires_grad
        self._inputs: tuple[Tensor, ...] = ()
        self._closure: Closure | None = None
        self._adds = False
        self._serial = next(_serial)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    def item(self) -> float:
        """Return the one number inside."""
        return self.data.item()

    def __repr__(self) -> str:
        return f"Tensor({self.data!r}{', requires_grad=True' if self.requires_grad else ''})"

    def backward(self) -> None:
        """Add d self / d leaf to the `grad` of every leaf that asks for it.

        self must hold one number.  A tensor is always younger than its inputs, so taking the youngest first reaches
        each record only after everything that used its result.  Records are freed on the way, and a gradient lives
        only until its record has used it.
        Raises ValueError if self is not a single number, or if its tape has been walked already.
        """
        if self.data.size != 1:
            raise ValueError(f"backward: expected a single number, got shape {self.shape}")
        if not self.requires_grad:
            raise ValueError("backward: nothing was recorded, no input asks for a gradient")
        gradients: dict[int, Any] = {self._serial: self.data * 0 + 1}
        waiting = [(-self._serial, self)]
        while waiting:
            _, tensor = heapq.heappop(waiting)
            gy = gradients.pop(tensor._serial)
            if tensor._closure is None:
                tensor._accumulate(gy)
                continue
            so_far = (gradients.get(tensor._inputs[0]._serial),) if tensor._adds else ()
            for i, (source, gradient) in enumerate(zip(tensor._inputs, tensor._closure(gy, *so_far), strict=True)):
                if not source.requires_grad:
                    continue
                gradient = unbroadcast(gradient, source.shape)
                if source._serial not in gradients:
                    heapq.heappush(waiting, (-source._serial, source))
                elif i > 0 or not so_far:  # else it is in the sum already
                    gradient = backend.current().add(gradients[source._serial], gradient)
                gradients[source._serial] = gradient
            tensor._inputs, tensor._closure, tensor._adds = (), _walked, False

    if TYPE_CHECKING:  # ops.py attaches these; here is their list for editors and type checkers

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
        def sum(self, axis: Any = None) -> "Tensor": ...
        def mean(self, axis: Any = None) -> "Tensor": ...
        def reshape(self, shape: Any) -> "Tensor": ...

    def _accumulate(self, gradient: Any) -> None:
        if self.grad is None:
            self.grad = gradient.copy()  # an operation may have handed the same array to two inputs
        else:
            self.grad += gradient  # in place: an optimiser may own this memory


def record(data: Any, inputs: tuple[Tensor, ...], closure: Closure, adds: bool = False) -> Tensor:
    """Return an operation's result as a Tensor that remembers its inputs.

    closure(gy) returns one gradient an input, each of a shape that broadcasts from that input's (None where the
    input does not ask).  It is dropped at once when nothing asks for a gradient.
    adds: it is called as closure(gy, so_far), with the gradient that the first input has from elsewhere (None if none),
    and returns the sum of both for it: on the way, an addition costs less than afterwards.
    """
    out = Tensor(data)
    if _recording and any(source.requires_grad for source in inputs):
        out.requires_grad, out._inputs, out._closure, out._adds = True, inputs, closure, adds
    return out


def _walked(gy: Any) -> tuple[Any, ...]:
    raise ValueError("backward: this tape was walked before, and freed; compute the result anew")


def unbroadcast(gradient: Any, shape: tuple[int, ...]) -> Any:
    """Sum a gradient over the axes along which its input of the given shape was repeated.

    An input repeated k times is used k times, so its gradient is the sum of k gradients.
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
    """Record nothing inside the `with` block: for sampling and for evaluation."""
    global _recording
    before, _recording = _recording, False
    try:
        yield
    finally:
        _recording = before
