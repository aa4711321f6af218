"""Attention: every place of an image may look at every other, and at the words of a caption.

Idea: a 3×3 convolution sees its neighbourhood; attention lets far places agree (two eyes, a car's two wheels).
Each pixel asks a question q, and takes a mean of all values v, weighted by how well their keys k answer.
Leaves out where the words come from: text.py.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from minidiff import ops
from minidiff.autograd import Tensor
from minidiff.nn.layers import GroupNorm, Linear
from minidiff.nn.module import Module


class SelfAttention(Module):
    """x + out(attention(q, k, v)) with q, k, v from the normalised x: (N, H, W, C) to the same.

    The last projection starts at zero, so the block begins as the identity.
    Source: Ho et al. 2020, arXiv:2006.11239, appendix B; heads: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2.
    """

    def __init__(self, channels: int, heads: int, groups: int, eps: float = 1e-5) -> None:
        if channels % heads:
            raise ValueError(f"SelfAttention: {heads} heads do not divide {channels} channels")
        self.heads = heads
        self.norm: Module = GroupNorm(groups, channels, eps=eps)
        self.q = Linear(channels, channels)
        self.k = Linear(channels, channels)
        self.v = Linear(channels, channels)
        self.out = Linear(channels, channels, zero=True)

    def forward(self, x: Tensor) -> Tensor:
        n, h, w, c = x.shape
        tokens = ops.reshape(self.norm(x), (n, h * w, c))
        mixed = ops.attention(self.q(tokens), self.k(tokens), self.v(tokens), self.heads)  # (N, H*W, C)
        return x + ops.reshape(self.out(mixed), x.shape)


@dataclass(frozen=True)
class Conditioning:
    """What every part of the denoiser is told beside its image.

    embedding: (N, E), time and class, or the sentence as a whole.  words: (N, M, D), or None without.
    looks: what a cross-attention adds to its answer, from its questions (N, L, C) to (N, L, C): a reference image's.
    """

    embedding: Tensor
    words: Tensor | None = None
    looks: Mapping["CrossAttention", Callable[[Tensor], Tensor]] = field(default_factory=dict)


AttentionHook = Callable[
    [Any], object
]  # is told weights (N, heads, H, W, M), of M words at H × W places; they sum to 1


class CrossAttention(Module):
    """x + out(attention(q, k, v)) with q from the normalised x, k and v from the words: (N, H, W, C) to the same.

    width: of the words.  The last projection starts at zero, so that the block begins as the identity.
    tell: who wants to see where is looked, see `on_attention`.
    Source: Rombach et al. 2021, arXiv:2112.10752, section 3.3.
    """

    def __init__(self, channels: int, width: int, heads: int, groups: int) -> None:
        if channels % heads:
            raise ValueError(f"CrossAttention: {heads} heads do not divide {channels} channels")
        self.heads = heads
        self.tell: AttentionHook | None = None
        self.norm = GroupNorm(groups, channels)
        self.q = Linear(channels, channels)
        self.k = Linear(width, channels)
        self.v = Linear(width, channels)
        self.out = Linear(channels, channels, zero=True)

    def forward(self, x: Tensor, told: Conditioning) -> Tensor:
        n, h, w, c = x.shape
        q, words = self.q(ops.reshape(self.norm(x), (n, h * w, c))), told.words
        tell = self.tell
        look = None if tell is None else lambda p: tell(p.reshape(n, self.heads, h, w, -1))
        mixed = ops.attention(q, self.k(words), self.v(words), self.heads, look)  # (N, H*W, C)
        if self in told.looks:
            mixed = mixed + told.looks[self](q)
        return x + ops.reshape(self.out(mixed), x.shape)


@contextmanager
def on_attention(network: Module, tell: AttentionHook) -> Iterator[None]:
    """Show `tell` where every cross-attention of the network looks, in the order computed, inside the `with` block."""
    watched = [module for _, module in network.named_modules() if isinstance(module, CrossAttention)]
    before = [module.tell for module in watched]
    for module in watched:
        module.tell = tell
    try:
        yield
    finally:
        for module, was in zip(watched, before):
            module.tell = was
