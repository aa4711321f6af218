"""AdamW over one flat array, with a learning rate schedule, gradient clipping and a moving average of the weights.

Idea: all parameters of the network lie in one array (nn/flat_parameters.py), so the whole update is one pass over five
arrays: weights, gradients, two moments and averaged weights (kernels/optimizer, to be read beside this file).  The
averaged weights are an exponential moving average,

    w_ema <- w_ema + (1 - decay) (w - w_ema)

Images drawn with them are visibly better: the weights fluctuate around a minimum of the loss, and their average is
closer to it.
Leaves out other optimisers.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minidiff import backend
from minidiff.checkpoint.config import OptimizerConfig
from minidiff.nn.flat_parameters import FlatParameters

EPS = 1e-8  # keeps AdamW from dividing by zero; Kingma and Ba's value


def learning_rate(optimizer: OptimizerConfig, step: int, steps: int | None) -> float:
    """Return the learning rate of step 1 … steps: a linear rise to `lr`, then half a cosine down towards 0.

        lr step / warmup                                                     up to step = warmup
        lr (1 + cos(pi (step - warmup) / (steps + 1 - warmup))) / 2          after it

    steps: the last step; None while it is not known, which is only allowed during the warm-up.  The cosine reaches 0 at
    steps + 1, so that the last step still moves the weights.
    Source: Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5, one cycle; the rise: Goyal et al. 2017,
    arXiv:1706.02677, section 2.2.
    """
    if step <= optimizer.warmup:
        return optimizer.lr * step / optimizer.warmup
    if steps is None:
        raise ValueError(f"learning_rate: after the {optimizer.warmup} steps of warm-up the last step must be known")
    progress = (step - optimizer.warmup) / (steps + 1 - optimizer.warmup)
    return optimizer.lr * (1 + math.cos(math.pi * progress)) / 2


def ema_decay(step: int, decay: float) -> float:
    """Return the decay of the average at step 1, 2, …: small at first, so that the random start is forgotten at once.

        min(decay, (1 + step) / (10 + step))

    Source: TensorFlow's `ExponentialMovingAverage` with `num_updates`; Song et al. 2020, arXiv:2006.09011, section 3.5,
    for the average in score-based models, Ho et al. 2020, arXiv:2006.11239, appendix B, in diffusion models.
    """
    return min(decay, (1 + step) / (10 + step))


def gradient_norm(parameters: FlatParameters, losses: Sequence[Any], parts: int = 1) -> tuple[float, list[float]]:
    """Return the Euclidean norm of all gradients together, and the losses as floats.

    losses: arrays of one number each.  parts: over how many parts of a batch the gradients were summed; the norm is
    that of their mean.  A step of one process copies nothing else to the host: here the host waits for the device.
    """
    square_sum, *numbers = backend.to_floats(backend.current().square_sum(parameters.g), *losses)
    return math.sqrt(square_sum) / parts, numbers


def update(
    parameters: FlatParameters,
    optimizer: OptimizerConfig,
    step: int,
    lr: float,
    norm: float,
    ema_decay: float,
    parts: int = 1,
) -> None:
    """Make AdamW's step number 1, 2, … with the gradients in `g`, then update the average of the weights.

    parts: over how many parts of a batch the gradients were summed; they are divided by it, and scaled down if their
    norm is above `clip`.  Both happen inside the kernel, as one factor.
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
