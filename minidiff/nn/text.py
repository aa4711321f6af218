"""The text encoder: a caption becomes one vector per word, and one vector for the whole.

Idea: each word is a learnt vector, each position in the caption another, and the two are added.  Self-attention then
lets each word use the other words, so that "autumn" can depend on whether a tree or a forest follows.  The denoiser
reads the words by cross-attention (cross_attention.py); the vector of the whole caption is added to the embedding of
the timestep.
Source: Vaswani et al. 2017, arXiv:1706.03762; normalisation before each part as in Xiong et al. 2020, arXiv:2002.04745.
"""

from typing import Any

from minidiff import backend, ops
from minidiff.autograd import Tensor
from minidiff.nn.layers import Embedding, GroupNorm, Linear
from minidiff.nn.module import Module, Parameter
from minidiff.nn.tokenizer import PADDING


class LayerNorm(Module):
    """Normalise each vector by itself: (…, D) to the same shape.

    It is group normalisation with one group, of images of one pixel.
    """

    def __init__(self, width: int) -> None:
        self.norm = GroupNorm(1, width)

    def forward(self, x: Tensor) -> Tensor:
        return ops.reshape(self.norm(ops.reshape(x, (-1, 1, 1, x.shape[-1]))), x.shape)


class TransformerBlock(Module):
    """Self-attention between the words, then a two-layer network for each word: (N, L, D) to the same shape.

    Both are added to their input.  Their last layers start at zero, so that the block starts as the identity.
    """

    def __init__(self, width: int, heads: int) -> None:
        self.heads = heads
        self.norm1 = LayerNorm(width)
        self.q, self.k, self.v = (Linear(width, width) for _ in range(3))
        self.out = Linear(width, width, zero=True)
        self.norm2 = LayerNorm(width)
        self.linear1 = Linear(width, 2 * width)
        self.linear2 = Linear(2 * width, width, zero=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.out(ops.attention(self.q(h), self.k(h), self.v(h), self.heads))
        return x + self.linear2(ops.silu(self.linear1(self.norm2(x))))


class TextEncoder(Module):
    """From token ids (N, L), filled up with PADDING, to a vector per token (N, L, D) and one per caption (N, D).

    vocab_size: number of token ids, PADDING included.  max_tokens: L.  width: D.  layers: number of transformer blocks.
    The vector of a caption is the mean over its tokens without PADDING, and zero for an empty caption.
    """

    def __init__(self, vocab_size: int, max_tokens: int, width: int, layers: int, heads: int) -> None:
        self.token_embedding = Embedding(vocab_size, width)
        self.position_embedding = Parameter((max_tokens, width), std=0.3)
        self.layers: list[Module] = [TransformerBlock(width, heads) for _ in range(layers)]
        self.norm = LayerNorm(width)

    def forward(self, ids: Any) -> tuple[Tensor, Tensor]:
        n, length = ids.shape
        h = ops.reshape(self.token_embedding(ids.reshape(-1)), (n, length, -1)) + self.position_embedding
        for layer in self.layers:
            h = layer(h)
        tokens = self.norm(h)
        is_word = (ids != PADDING)[..., None]
        share = is_word / is_word.sum(axis=1, keepdims=True).clip(1)  # (N, L, 1)
        weight = Tensor(backend.to_device(share.astype(tokens.dtype)))
        return tokens, (tokens * weight).sum(axis=1)
