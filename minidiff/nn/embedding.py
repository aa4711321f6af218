"""Telling the network what time it is, and which class is asked for.

Idea: a single number t is hard for a network to use; sines and cosines of it at many frequencies, from fast to slow,
are easy.  A class is a learnt vector.  Both are added up and mixed by a small network.
Leaves out how the result enters the denoiser: unet.py.
"""

import math
from typing import Any

from minidiff import backend, ops
from minidiff.autograd import Tensor
from minidiff.nn.layers import Embedding, Linear
from minidiff.nn.module import Module


def sinusoidal(t: Any, width: int, short_of: float = 1, cosines_first: bool = False) -> Any:
    """Write each time as `width` waves: [sin(t f_i), cos(t f_i)] with f_i = 10000^(-i / (width/2 - short_of)).

    t: (N,) float32, 0 … T.  width: even, at least 4.  Returns (N, width) float32.
    short_of: 1 lets the slowest frequency be 1/10000; with 0, as in the paper, it stays a step short of that.
    cosines_first: [cos, sin], which some networks of others were trained with.
    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5, sines first as in Ho et al. 2020, arXiv:2006.11239.
    """
    xp = backend.current().xp
    half = width // 2
    frequency = xp.exp(xp.arange(half, dtype=t.dtype) * (-math.log(10000.0) / (half - short_of)))
    angle = t[:, None] * frequency[None, :]
    waves = [xp.sin(angle), xp.cos(angle)]
    return xp.concatenate(waves[::-1] if cosines_first else waves, axis=1)


class TimeEmbedding(Module):
    """From timesteps (N,) to one vector an image (N, 4 channels), which every residual block receives.

    classes: how many there are; row `classes` of the table, one past the last, stands for "no class" and is what
    classifier-free guidance calls unconditional (Ho and Salimans 2022, arXiv:2207.12598, algorithm 1).
    """

    def __init__(self, channels: int, classes: int) -> None:
        self.channels, self.classes = channels, classes
        self.width = 4 * channels
        self.linear1 = Linear(channels, self.width)
        self.linear2 = Linear(self.width, self.width)
        if classes:
            self.class_embedding = Embedding(classes + 1, self.width)

    def forward(self, t: Any, added: Tensor | None = None) -> Tensor:
        """added: (N, 4 channels), of a class or a caption."""
        waves = Tensor(sinusoidal(backend.to_device(t.astype(self.linear1.w.dtype)), self.channels))
        out = self.linear2(ops.silu(self.linear1(waves)))
        return ops.silu(out if added is None else out + added)
