"""Self-attention over the pixels of a picture: every place may look at every other.

Idea: a 3×3 convolution sees its neighbourhood; attention lets far places agree (two eyes, a car's two wheels).
Each pixel asks a question q, and takes a mean of all values v, weighted by how well their keys k answer.
Leaves out attention to anything but the picture itself.
"""

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
