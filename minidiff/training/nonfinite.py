"""Finding the layer in which a NaN or an infinite number arose.

Idea: a NaN spreads to the results of all later layers, so a loss of NaN does not tell where it arose.  A step can be
computed again, to the bit.  This time the result of every layer is checked, and the first layer whose result is not
finite is named.  If only a gradient is not finite, the gradients of the parameters are checked in the order of the
backward pass, from the last parameter to the first.
Leaves out raising the error: trainer.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from minidiff import backend
from minidiff.autograd import Tensor, no_grad
from minidiff.nn import Module, on_forward


def first_layer(model: Module, forward: Callable[[], Any], base: Module | None = None) -> str:
    """Return the name of the first layer whose result is not finite when `forward` runs `model`.

    A layer reports before the layers that contain it, so the innermost one is named.
    base: the base model, if `model` is an adapter; the names of its layers begin with "the base's".
    """
    names = {} if base is None else {id(module): f"the base's {name}" for name, module in base.named_modules()}
    names |= {id(module): name for name, module in model.named_modules()}
    found: list[str] = []

    def check(module: Module, output: Any) -> None:
        if not found and not all(map(_finite, tensors(output))):
            found.append(f"{names.get(id(module)) or 'the network'} ({type(module).__name__})")

    with on_forward(check), no_grad(), np.errstate(all="ignore"):
        forward()
    return found[0] if found else "the loss itself: what every layer returns is finite"


def tensors(output: Any) -> Iterator[Any]:
    """Yield the arrays in the result of a layer: a Tensor, or several in a list, a tuple or a dataclass."""
    if isinstance(output, Tensor):
        yield output.data
    elif isinstance(output, list | tuple):
        for part in output:
            yield from tensors(part)
    elif is_dataclass(output):
        for field in fields(output):
            yield from tensors(getattr(output, field.name))


def first_gradient(model: Module) -> str:
    """Return the name of the last parameter whose gradient is not finite: `backward` computes it first."""
    for name, parameter in reversed(model.named_parameters().items()):
        if not _finite(parameter.grad):
            return name
    return "their sum: each by itself is finite"


def _finite(array: Any) -> bool:
    return bool(np.isfinite(backend.to_numpy(array)).all())
