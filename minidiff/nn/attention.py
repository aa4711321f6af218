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
    """What the denoiser is conditioned on beside x_t and t.  It is the same at all timesteps, so it is encoded once.

    embedding: (N, E), added to the time embedding: of class labels, or of captions as wholes; None without either.
    tokens: (N, M, D), the encoded captions that cross-attention reads; None without.
    image_attention: of each cross-attention, what reference images add: a function of its queries (N, L, C).
    control: what a ControlNet adds to the encoder's features: a function of x (N, H, W, C) and the time embedding.
    """

    embedding: Tensor | None = None
    tokens: Tensor | None = None
    image_attention: Mapping["CrossAttention", Callable[[Tensor], Tensor]] = field(default_factory=dict)
    control: Callable[[Tensor, Tensor], list[Tensor]] | None = None


# Receives attention weights (N, heads, H, W, M): for each of H × W positions, a distribution over M tokens.
AttentionHook = Callable[[Any], object]


class CrossAttention(Module):
    """x + out(attention(q, k, v)) with q from the normalised x, k and v from the tokens: (N, H, W, C) to the same.

    width: of the tokens.  The last projection starts at zero, so that the block begins as the identity.
    hook: receives the attention weights, see `on_attention`.
    Source: Rombach et al. 2021, arXiv:2112.10752, section 3.3.
    """

    def __init__(self, channels: int, width: int, heads: int, groups: int) -> None:
        if channels % heads:
            raise ValueError(f"CrossAttention: {heads} heads do not divide {channels} channels")
        self.heads = heads
        self.hook: AttentionHook | None = None
        self.norm = GroupNorm(groups, channels)
        self.q = Linear(channels, channels)
        self.k = Linear(width, channels)
        self.v = Linear(width, channels)
        self.out = Linear(channels, channels, zero=True)

    def forward(self, x: Tensor, cond: Conditioning) -> Tensor:
        n, h, w, c = x.shape
        q = self.q(ops.reshape(self.norm(x), (n, h * w, c)))
        hook = self.hook
        receive = None if hook is None else lambda p: hook(p.reshape(n, self.heads, h, w, -1))
        mixed = ops.attention(q, self.k(cond.tokens), self.v(cond.tokens), self.heads, receive)  # (N, H*W, C)
        if self in cond.image_attention:
            mixed = mixed + cond.image_attention[self](q)
        return x + ops.reshape(self.out(mixed), x.shape)


@contextmanager
def on_attention(network: Module, hook: AttentionHook) -> Iterator[None]:
    """Call `hook` with the weights of every cross-attention of the network, in the order computed, inside the block."""
    modules = [module for _, module in network.named_modules() if isinstance(module, CrossAttention)]
    before = [module.hook for module in modules]
    for module in modules:
        module.hook = hook
    try:
        yield
    finally:
        for module, was in zip(modules, before):
            module.hook = was
