"""Self-attention: every position of an image can use the features of every other position.

Idea: a 3×3 convolution sees only neighbouring pixels.  Attention relates distant positions, such as the two eyes of a
face.  Each position computes a query q, a key k and a value v; its result is the mean of all values, weighted by how
well their keys match its query.
Leaves out attention to the words of a caption: cross_attention.py.
"""

from minidiff import ops
from minidiff.autograd import Tensor
from minidiff.nn.layers import GroupNorm, Linear
from minidiff.nn.module import Module


class SelfAttention(Module):
    """x + out(attention(q, k, v)) with q, k and v from the normalised x: (N, H, W, C) to the same shape.

    The last projection starts at zero, so that the layer starts as the identity.
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
        positions = ops.reshape(self.norm(x), (n, h * w, c))
        y = ops.attention(self.q(positions), self.k(positions), self.v(positions), self.heads)  # (N, H*W, C)
        return x + ops.reshape(self.out(y), x.shape)
