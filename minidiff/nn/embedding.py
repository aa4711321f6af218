"""Timesteps and classes as vectors that the network can use.

Idea: the network cannot easily use a single number t.  It gets sines and cosines of t at many frequencies: the high
ones tell close timesteps apart, the low ones distant timesteps.  Two linear layers turn them into the embedding of the
timestep.  A class has a learnt vector, which is added to that embedding.
Leaves out where the embedding enters the denoiser: unet.py, dit.py.
"""

import math
from typing import Any

from minidiff import backend, ops
from minidiff.autograd import Tensor
from minidiff.nn.layers import Embedding, Linear
from minidiff.nn.module import Module


def sinusoidal(t: Any, width: int, freq_shift: float = 1, flip_sin_to_cos: bool = False) -> Any:
    """Return sines and cosines of each t: [sin(t f_i), cos(t f_i)] with f_i = 10000^(-i / (width/2 - freq_shift)).

    t: (N,) float32: discrete timesteps 0 … T - 1, or any other number that grows with the noise level, such as
    250 ln(sigma), which may be negative.  width: even, at least 4.  Returns (N, width) float32.
    freq_shift: with 1 the lowest frequency is 1/10000 exactly; with 0, as in the paper, it is a little higher.
    flip_sin_to_cos: put the cosines first, as some networks of the diffusers library do.
    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5; sines first as in Ho et al. 2020, arXiv:2006.11239.
    """
    xp = backend.current().xp
    half = width // 2
    frequency = xp.exp(xp.arange(half, dtype=t.dtype) * (-math.log(10000.0) / (half - freq_shift)))
    angle = t[:, None] * frequency[None, :]
    waves = [xp.sin(angle), xp.cos(angle)]
    return xp.concatenate(waves[::-1] if flip_sin_to_cos else waves, axis=1)


class TimeEmbedding(Module):
    """From timesteps (N,) to the vectors (N, 4 channels) that every residual block receives.

    classes: number of classes.  The table of class vectors has one more row: index `classes` means "no class", which
    classifier-free guidance calls unconditional (Ho and Salimans 2022, arXiv:2207.12598, algorithm 1).
    """

    def __init__(self, channels: int, classes: int) -> None:
        self.channels, self.classes = channels, classes
        self.width = 4 * channels
        self.linear1 = Linear(channels, self.width)
        self.linear2 = Linear(self.width, self.width)
        if classes:
            self.class_embedding = Embedding(classes + 1, self.width)

    def forward(self, t: Any, cond_embedding: Tensor | None = None) -> Tensor:
        """cond_embedding: (N, 4 channels), of classes or captions; it is added."""
        waves = Tensor(sinusoidal(backend.to_device(t.astype(self.linear1.w.dtype)), self.channels))
        out = self.linear2(ops.silu(self.linear1(waves)))
        return ops.silu(out if cond_embedding is None else out + cond_embedding)
