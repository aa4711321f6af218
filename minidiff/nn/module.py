"""What every layer shares: it owns parameters and other layers, and it can be called.

Idea: a network is a tree of modules; its parameters, in the order in which they were written down, are its whole state.
First of the network's files.  Leaves out training: a module knows nothing of optimisers or checkpoints.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minidiff import backend, random
from minidiff.autograd import Tensor
from minidiff.random import Key, Stream

_watcher: Callable[["Module", Any], None] | None = None


class Parameter(Tensor):
    """A tensor that training changes.

    shape is known at once, the numbers come with `Module.initialize`: normal with standard deviation `std` around
    `around`.
    """

    __slots__ = ("around", "planned_shape", "std")

    def __init__(self, shape: tuple[int, ...], std: float = 0.0, around: float = 0.0) -> None:
        super().__init__(np.zeros(0, np.float32), requires_grad=True)
        self.planned_shape, self.std, self.around = shape, std, around


class Module:
    """A part of a network.  Sub-classes write `forward`; attributes that are parameters or modules are found."""

    def forward(self, *inputs: Any) -> Any:
        raise NotImplementedError

    def __call__(self, *inputs: Any) -> Any:
        out = self.forward(*inputs)
        if _watcher is not None:
            _watcher(self, out)
        return out

    def named_modules(self, name: str = "") -> Iterator[tuple[str, "Module"]]:
        """This module and all below it, with their dotted names, in the order in which they were written down."""
        yield name, self
        for key, child in self._children():
            if isinstance(child, Module):
                yield from child.named_modules(f"{name}.{key}" if name else key)

    def named_parameters(self) -> dict[str, Parameter]:
        """All parameters by dotted name, in a fixed order: that of a checkpoint."""
        return {
            f"{name}.{key}" if name else key: child
            for name, module in self.named_modules()
            for key, child in module._children()
            if isinstance(child, Parameter)
        }

    def initialize(self, seed: int, dtype: Any = np.float32) -> "Module":
        """Fill every parameter from its own key (seed, INIT, 0, its number) and return self."""
        xp = backend.current().xp
        for number, parameter in enumerate(self.named_parameters().values()):
            shape = parameter.planned_shape
            parameter.data = xp.full(shape, parameter.around, dtype=dtype)
            if parameter.std:
                parameter.data += (parameter.std * random.normal(Key(seed, Stream.INIT, 0, number), shape)).astype(
                    dtype
                )
            parameter.grad = None
        return self

    def count_parameters(self) -> int:
        """How many numbers training may change."""
        return sum(int(np.prod(parameter.planned_shape)) for parameter in self.named_parameters().values())

    def _children(self) -> Iterator[tuple[str, Any]]:
        for key, value in vars(self).items():
            if isinstance(value, Module | Parameter):
                yield key, value
            elif isinstance(value, list):
                for index, item in enumerate(value):
                    if isinstance(item, Module):
                        yield f"{key}.{index}", item


def watched() -> bool:
    """Whether somebody wants every layer's result: then none may be skipped."""
    return _watcher is not None


@contextmanager
def watch(callback: Callable[[Module, Any], None]) -> Iterator[None]:
    """Call `callback(module, output)` after every module's forward pass inside the `with` block.

    For finding where a number went wrong; modules finish inside out, so the first report is the innermost.
    """
    global _watcher
    before, _watcher = _watcher, callback
    try:
        yield
    finally:
        _watcher = before
