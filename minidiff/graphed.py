"""Replay: what is computed again and again is recorded once, and repeated with next to no Python.

Idea: a training step, or a step of a sampler, makes the same calls of kernels on arrays of the same shapes every time.
Between them Python checks shapes, looks for memory and records operations on the tape, which takes a quarter of the
time of a small network.  So the list of calls is captured (kernels/graph.py), and later steps only make these calls.
The result is the same, to the bit.  The function itself stays the definition: it runs at first, whenever shapes are
new, and while somebody watches what happens inside it.

    forward = Graphed(lambda x, t: (network(x, t).data,))
    (y,) = forward(x, t)

Leaves out how calls are captured and replayed: kernels/graph.py, on a GPU kernels/cuda_graph.py.
"""

import operator
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from minidiff import autograd, backend
from minidiff.autograd import Tensor
from minidiff.errors import one_line
from minidiff.nn.module import watched

Function = Callable[..., Sequence[Any]]


@dataclass
class State:
    """How far a function has come with arrays of some shapes: calls so far, what was captured, and the proved graph.

    weights: the arrays of the weights, where they lay in the first call.
    """

    weights: list[Any]
    calls: int = 0
    captured: Any = None
    graph: Any = None


class Graphed:
    """A function of arrays that returns arrays, replayed from its fourth call with the same shapes on.

    function: apart from its arguments, which are arrays or None, it must depend on nothing that changes but `weights`:
    tensors, whose gradients it may add to if they have some already.
    The first call runs the function.  The second and the third are captured: the two lists of calls must be the same,
    and the list of the second must give what the third has computed, to the bit.  If not, the function itself runs at
    every call, and a line on standard error says why.
    """

    def __init__(self, function: Function, weights: Iterable[Tensor] = ()) -> None:
        self.function, self.weights = function, list(weights)
        self.states: dict[tuple, State] = {}
        self.refused = False

    def __call__(self, *arrays: Any) -> Sequence[Any]:
        table = backend.current()
        if table.capture is None or self.refused or watched():
            return self.function(*arrays)
        shapes = tuple(None if array is None else (array.shape, array.dtype) for array in arrays)
        key, weights = (table.name, autograd.has_gradient_hook(), shapes), [weight.data for weight in self.weights]
        state = self.states.get(key)
        if state is None or not all(map(operator.is_, state.weights, weights)):
            state = self.states[key] = State(weights)
        state.calls += 1
        if state.graph is not None:
            return _replay(state.graph, arrays)
        return self.function(*arrays) if state.calls == 1 else self._captured(table, state, arrays)

    def _captured(self, table: backend.Backend, state: State, arrays: Sequence[Any]) -> Sequence[Any]:
        """Call the function and capture it; the second time, prove that the first graph does the same."""
        gradients = [weight.grad for weight in self.weights if weight.requires_grad]
        before = [gradient.copy() for gradient in gradients]

        def function(*traced: Any) -> Sequence[Any]:
            rest = iter(traced)
            return self.function(*(None if array is None else next(rest) for array in arrays))

        try:
            with _traced(table, self.weights):
                results, captured = table.capture(function, [array for array in arrays if array is not None])
        except Exception as error:
            _restore(gradients, before)
            results = self.function(*arrays)  # raises the same, if it is the function's own mistake
            self._refuse(one_line(error))
            return results
        if state.captured is None:
            state.captured = captured
        elif not state.captured.same(captured):
            self._refuse("the list of calls is not always the same")
        else:
            after, graph = [gradient.copy() for gradient in gradients], table.Graph(state.captured)
            _restore(gradients, before)
            replayed = _replay(graph, arrays, performing=False)
            if _same_bits([*results, *after], [*replayed, *gradients]):
                state.captured, state.graph = None, graph
            else:
                self._refuse("it gave other numbers")
                _restore(gradients, after)
        captured.perform()
        return results

    def _refuse(self, why: str) -> None:
        self.refused = True
        self.states.clear()
        print(f"note     nothing is replayed, which is slower and gives the same result: {why}", file=sys.stderr)


def _replay(graph: Any, arrays: Sequence[Any], performing: bool = True) -> list[Any]:
    for place, array in zip(graph.inputs, (array for array in arrays if array is not None), strict=True):
        place[...] = array
    graph.replay(performing)
    return [output.copy() for output in graph.outputs]


@contextmanager
def _traced(table: backend.Backend, weights: Sequence[Tensor]) -> Iterator[None]:
    """Let what is computed of weights alone be captured as well."""
    own = [weight.data for weight in weights]
    for weight in weights:
        weight.data = table.traced(weight.data)
    try:
        yield
    finally:
        for weight, data in zip(weights, own):
            weight.data = data


def _restore(arrays: Sequence[Any], values: Sequence[Any]) -> None:
    for array, value in zip(arrays, values):
        array[...] = value


def _same_bits(a: Sequence[Any], b: Sequence[Any]) -> bool:
    numbers = lambda array: backend.to_numpy(array).tobytes()
    return all(numbers(one) == numbers(other) for one, other in zip(a, b, strict=True))
