"""All parameters of a network in one flat array, and beside it the arrays of the optimiser.

Idea: the optimiser applies the same update to every weight.  So all weights are stored in one flat array, and the
parameters of the network become views of parts of it.  The gradients, the two moments of Adam and the averaged weights
are flat arrays with the same layout.  An update is then one pass over five arrays, and a checkpoint stores all of them
except the gradients.
Leaves out the update itself: training/optimizer.py.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minidiff import backend
from minidiff.nn.module import Module


class FlatParameters:
    """Weights w, gradients g, moments m and v, averaged weights ema: each (n,) float32, for n weights in all.

    Parameters of two or more dimensions come first, in w[:n_decay]: weight decay applies to them.  Gains and biases
    follow; weight decay does not apply to them.
    The parameters of the network become views: an update of `w` changes the network, and `backward` adds into `g`.
    """

    def __init__(self, model: Module) -> None:
        named = model.named_parameters()
        self.parameters = dict(sorted(named.items(), key=lambda item: len(item[1].shape) < 2))  # stable
        self.n_decay = sum(p.data.size for p in self.parameters.values() if len(p.shape) >= 2)
        xp = backend.current().xp
        self.w = xp.concatenate([p.data.reshape(-1) for p in self.parameters.values()])
        self.g, self.m, self.v = (xp.zeros_like(self.w) for _ in range(3))
        self.ema = self.w.copy()
        views = zip(self.parameters.values(), self.split(self.w).values(), self.split(self.g).values())
        for parameter, weights, gradients in views:
            parameter.data, parameter.grad = weights, gradients

    def split(self, flat: Any) -> dict[str, Any]:
        """Return views of one of the flat arrays by parameter: name to an array of the shape of the parameter."""
        views, start = {}, 0
        for name, parameter in self.parameters.items():
            stop = start + math.prod(parameter.shape)
            views[name] = flat[start:stop].reshape(parameter.shape)
            start = stop
        return views

    def finite(self) -> bool:
        """Whether all weights, averaged weights and moments are finite."""
        return all(bool(backend.current().xp.isfinite(flat).all()) for flat in (self.w, self.ema, self.m, self.v))


@contextmanager
def averaged(parameters: FlatParameters) -> Iterator[None]:
    """Use the averaged weights inside a `with` block; afterwards the network has its own weights again, bit for bit."""
    own = parameters.w.copy()
    parameters.w[:] = parameters.ema
    try:
        yield
    finally:
        parameters.w[:] = own
