"""From gradients to better weights: AdamW over one flat array, a learning rate that rises and falls, clipping.

Idea: the optimiser treats every number of the network alike, so the network is laid out as one array of all its
numbers, in which each layer's weights are views.  Gradients, moments and the averaged weights lie the same way, and
the whole update is one pass over five arrays (kernels/optimizer, read it beside this page).
In training/ after the settings.  Leaves out other optimisers.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minidiff import backend
from minidiff.checkpoint.config import OptimizerConfig
from minidiff.nn import Module

EPS = 1e-8  # keeps AdamW from dividing by zero; Kingma and Ba's value


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


def learning_rate(optimizer: OptimizerConfig, step: int, steps: int | None) -> float:
    """Return the learning rate of step 1 … steps: a straight rise to `lr`, then half a cosine down towards 0.

        lr step / warmup                                                     up to step = warmup
        lr (1 + cos(pi (step - warmup) / (steps + 1 - warmup))) / 2          after it

    steps: the last step; None as long as it is not known, which is only allowed during the rise.  Divided by
    steps + 1, so that the last step still moves.
    Source: Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5, one cycle; the rise: Goyal et al. 2017,
    arXiv:1706.02677, section 2.2.
    """
    if step <= optimizer.warmup:
        return optimizer.lr * step / optimizer.warmup
    if steps is None:
        raise ValueError(f"learning_rate: after the {optimizer.warmup} steps of warm-up the last step must be known")
    progress = (step - optimizer.warmup) / (steps + 1 - optimizer.warmup)
    return optimizer.lr * (1 + math.cos(math.pi * progress)) / 2


def gradient_norm(parameters: FlatParameters, losses: Sequence[Any]) -> tuple[float, list[float]]:
    """Return the Euclidean norm of all gradients together, and the losses that they are gradients of.

    losses: of the parts of a batch, each an array with one number; the gradients, which are their sum, are averaged.
    That is all that a step brings to the host, in one copy: for it the host waits until the device has got so far.
    """
    square_sum, *numbers = backend.to_floats(backend.current().square_sum(parameters.g), *losses)
    return math.sqrt(square_sum) / len(losses), numbers


def update(
    parameters: FlatParameters,
    optimizer: OptimizerConfig,
    step: int,
    lr: float,
    norm: float,
    ema_decay: float,
    parts: int = 1,
) -> None:
    """Take AdamW's step number 1, 2, … with the gradients in `g`, and move the average of the weights after it.

    Gradients that were added up over `parts` parts of a batch are divided by their number, and scaled down if their
    norm is above `clip`; both happen inside the kernel, as one factor.
    Source: Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2; clipping: Pascanu et al. 2013, arXiv:1211.5063,
    algorithm 1.
    """
    clipping = min(1.0, optimizer.clip / norm) if norm > 0 else 1.0
    hyper = np.array(
        [
            lr,
            optimizer.beta1,
            optimizer.beta2,
            EPS,
            optimizer.weight_decay,
            1 - optimizer.beta1**step,
            1 - optimizer.beta2**step,
            clipping / parts,
            ema_decay,
        ]
    )
    p = parameters
    backend.current().adamw_ema(p.w, p.g, p.m, p.v, p.ema, p.n_decay, hyper)
