"""All parameters of a network as one array, with the arrays of the optimiser laid out beside it.

Idea: the optimiser treats every number of the network alike, so the network is laid out as one array of all its
numbers, in which each layer's weights are views.  Gradients, moments and the averaged weights lie the same way, so that
an update is one pass over five arrays, and a checkpoint is four of them.
Leaves out the update itself: training/optimizer.py.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minidiff import backend
from minidiff.nn.module import Module


class FlatParameters:
    """A network's numbers side by side: weights w, gradients g, moments m and v, averaged weights ema, (n,) float32.

    Weights of two dimensions and more come first, w[:n_decay]: those that weight decay pulls at.  Gains and biases
    come after them; decaying those would only move what the layers are centred on.
    The network's parameters become views: an update of `w` changes the network, `backward` adds into `g`.
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
        """Cut one of the flat arrays into views by parameter: name to an array of the parameter's shape."""
        views, start = {}, 0
        for name, parameter in self.parameters.items():
            stop = start + math.prod(parameter.shape)
            views[name] = flat[start:stop].reshape(parameter.shape)
            start = stop
        return views

    def finite(self) -> bool:
        """Whether all weights, their average and the moments are numbers."""
        return all(bool(backend.current().xp.isfinite(flat).all()) for flat in (self.w, self.ema, self.m, self.v))


@contextmanager
def averaged(parameters: FlatParameters) -> Iterator[None]:
    """Let the network carry the averaged weights inside a `with` block; afterwards it has its own, to the bit."""
    own = parameters.w.copy()
    parameters.w[:] = parameters.ema
    try:
        yield
    finally:
        parameters.w[:] = own
