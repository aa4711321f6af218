"""Cross-attention: every position of an image can use the words of a caption.

Idea: as in self-attention, each position of the image computes a query; the keys and values come from the encoded words
instead.  The attention weights say how much each position uses each word; `on_attention` hands them to a callback, for
plotting.
Leaves out how captions are encoded: text.py.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from minidiff import ops
from minidiff.autograd import Tensor
from minidiff.nn.conditioning import Conditioning
from minidiff.nn.layers import GroupNorm, Linear
from minidiff.nn.module import Module, watching

# Receives attention weights (N, heads, H, W, M): for each of the H × W positions, a distribution over the M tokens.
AttentionHook = Callable[[Any], object]


class CrossAttention(Module):
    """x + out(attention(q, k, v)) with q from the normalised x, k and v from the tokens; shape (N, H, W, C).

    text_width: length of a token's vector.  The last projection starts at zero, so that the layer starts as the
    identity.
    hook: a callback that receives the attention weights; see `on_attention`.
    Source: Rombach et al. 2021, arXiv:2112.10752, section 3.3.
    """

    def __init__(self, channels: int, text_width: int, heads: int, groups: int) -> None:
        if channels % heads:
            raise ValueError(f"CrossAttention: {heads} heads do not divide {channels} channels")
        self.heads = heads
        self.hook: AttentionHook | None = None
        self.norm = GroupNorm(groups, channels)
        self.q = Linear(channels, channels)
        self.k = Linear(text_width, channels)
        self.v = Linear(text_width, channels)
        self.out = Linear(channels, channels, zero=True)

    def forward(self, x: Tensor, cond: Conditioning) -> Tensor:
        n, h, w, c = x.shape
        q = self.q(ops.reshape(self.norm(x), (n, h * w, c)))
        hook = self.hook
        on_weights = None if hook is None else lambda p: hook(p.reshape(n, self.heads, h, w, -1))
        y = ops.attention(q, self.k(cond.tokens), self.v(cond.tokens), self.heads, on_weights)  # (N, H*W, C)
        if self in cond.image_attention:  # chapter 12
            y = y + cond.image_attention[self](q)
        return x + ops.reshape(self.out(y), x.shape)


@contextmanager
def on_attention(network: Module, hook: AttentionHook) -> Iterator[None]:
    """Call `hook` with the weights of every cross-attention layer as it runs, inside the `with` block."""
    layers = [module for _, module in network.named_modules() if isinstance(module, CrossAttention)]
    before = [layer.hook for layer in layers]
    for layer in layers:
        layer.hook = hook
    try:
        with watching():
            yield
    finally:
        for layer, own in zip(layers, before):
            layer.hook = own
