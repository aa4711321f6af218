"""The base class of all layers and networks: it finds its parameters and inner modules, and runs `forward`.

Idea: a network is a tree of modules with parameters.  `named_parameters` walks the tree and lists all parameters: those
of a module itself, then those of its inner modules, each in the order in which the attributes were assigned.  The list
is the whole state of the network.  `initialize` draws the initial values in this order.
Leaves out training: a module knows nothing of optimisers or checkpoints.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minidiff import backend, random
from minidiff.autograd import Tensor
from minidiff.random import Key, Stream

_forward_hook: Callable[["Module", Any], None] | None = None
_watchers = 0


class Parameter(Tensor):
    """A tensor that training changes.

    It is made with a shape only; `Module.initialize` then draws its values from a normal distribution with the given
    mean and standard deviation.
    """

    __slots__ = ("initial_mean", "planned_shape", "std")

    def __init__(self, shape: tuple[int, ...], std: float = 0.0, mean: float = 0.0) -> None:
        super().__init__(np.zeros(0, np.float32), requires_grad=True)
        self.planned_shape, self.std, self.initial_mean = shape, std, mean


class Module:
    """A layer or a network: sub-classes define `forward`, and assign their parameters and inner modules to attributes.

    An attribute may also be a list of modules.
    """

    def forward(self, *inputs: Any) -> Any:
        raise NotImplementedError

    def __call__(self, *inputs: Any) -> Any:
        out = self.forward(*inputs)
        if _forward_hook is not None:
            _forward_hook(self, out)
        return out

    def named_modules(self, name: str = "") -> Iterator[tuple[str, "Module"]]:
        """Yield this module and all modules inside it with their dotted names: a module before those inside it."""
        yield name, self
        for key, child in self._children():
            if isinstance(child, Module):
                yield from child.named_modules(f"{name}.{key}" if name else key)

    def named_parameters(self) -> dict[str, Parameter]:
        """Return all parameters by dotted name: those of a module before those of its inner modules."""
        return {
            f"{name}.{key}" if name else key: child
            for name, module in self.named_modules()
            for key, child in module._children()
            if isinstance(child, Parameter)
        }

    def initialize(self, seed: int, dtype: Any = np.float32) -> "Module":
        """Draw the values of all parameters, number i with the key (seed, INIT, 0, i), and return self."""
        xp = backend.current().xp
        for number, parameter in enumerate(self.named_parameters().values()):
            shape = parameter.planned_shape
            parameter.data = xp.full(shape, parameter.initial_mean, dtype=dtype)
            if parameter.std:
                parameter.data += (parameter.std * random.normal(Key(seed, Stream.INIT, 0, number), shape)).astype(
                    dtype
                )
            parameter.grad = None
        return self

    def count_parameters(self) -> int:
        """Return the number of trainable values."""
        return sum(int(np.prod(parameter.planned_shape)) for parameter in self.named_parameters().values())

    def _children(self) -> Iterator[tuple[str, Any]]:
        for key, value in vars(self).items():
            if isinstance(value, Module | Parameter):
                yield key, value
            elif isinstance(value, list):
                for index, item in enumerate(value):
                    if isinstance(item, Module):
                        yield f"{key}.{index}", item


def has_forward_hook() -> bool:
    """Whether a hook is set: then every layer must run by itself, and none may be fused with another."""
    return _forward_hook is not None


@contextmanager
def watching() -> Iterator[None]:
    """Inside the `with` block, somebody watches what layers compute: every layer must run in Python, see graphed.py."""
    global _watchers
    _watchers += 1
    try:
        yield
    finally:
        _watchers -= 1


def watched() -> bool:
    """Whether somebody watches what layers compute."""
    return _watchers > 0


@contextmanager
def on_forward(hook: Callable[[Module, Any], None]) -> Iterator[None]:
    """Call `hook(module, output)` after the forward pass of every module inside the `with` block.

    It shows, for example, which layer first returned NaN.  An inner module is reported before the module around it.
    """
    global _forward_hook
    before, _forward_hook = _forward_hook, hook
    try:
        with watching():
            yield
    finally:
        _forward_hook = before
