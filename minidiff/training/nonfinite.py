"""Where did the first NaN come from?

Idea: by the time the loss is NaN, so is everything after the layer that went wrong.  A step can be run again, to the
bit, this time looking at what every layer returns; the first result that is not finite is the place.
In training/ before trainer.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from minidiff import backend
from minidiff.autograd import Tensor, no_grad
from minidiff.nn import Module, on_forward


def first_layer(model: Module, forward: Callable[[], Any], base: Module | None = None) -> str:
    """Run `forward`, which calls `model`, and name the first layer whose result is not finite.

    A layer reports before the layers that contain it, so what is named is the innermost one.
    base: the network that `model` is added to, if it is; its layers are named after it.
    """
    names = {} if base is None else {id(module): f"the base's {name}" for name, module in base.named_modules()}
    names |= {id(module): name for name, module in model.named_modules()}
    found: list[str] = []

    def look(module: Module, output: Any) -> None:
        if not found and not all(map(_finite, tensors(output))):
            found.append(f"{names.get(id(module)) or 'the network'} ({type(module).__name__})")

    with on_forward(look), no_grad(), np.errstate(all="ignore"):
        forward()
    return found[0] if found else "the loss itself: what every layer returns is finite"


def tensors(output: Any) -> Iterator[Any]:
    """Return the arrays in what a layer returns: a Tensor, or several in a list, a tuple or a dataclass."""
    if isinstance(output, Tensor):
        yield output.data
    elif isinstance(output, list | tuple):
        for part in output:
            yield from tensors(part)
    elif is_dataclass(output):
        for field in fields(output):
            yield from tensors(getattr(output, field.name))


def first_gradient(model: Module) -> str:
    """Name the parameter whose gradient stopped being finite first: the network's last, as gradients flow backwards."""
    for name, parameter in reversed(model.named_parameters().items()):
        if not _finite(parameter.grad):
            return name
    return "their sum: each by itself is finite"


def _finite(array: Any) -> bool:
    return bool(np.isfinite(backend.to_numpy(array)).all())
