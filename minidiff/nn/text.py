"""A sentence as the network sees it: a vector for every word, and one for the whole.

Idea: a word is a learnt vector, its place in the sentence another, and both are added up.  Words may then look at each
other, layer by layer, so that "autumn" knows whether it speaks of a tree or of a forest.  The denoiser's places look at
the words by cross-attention (attention.py); what the sentence says as a whole enters with the time.
After attention.py.  Leaves out where the numbers come from: nn/tokenizer.py.
Source: Vaswani et al. 2017, arXiv:1706.03762; normalised before each part as in Xiong et al. 2020, arXiv:2002.04745.
"""

from typing import Any

import numpy as np

from minidiff import backend, ops
from minidiff.autograd import Tensor
from minidiff.nn.layers import Embedding, GroupNorm, Linear
from minidiff.nn.module import Module, Parameter
from minidiff.nn.tokenizer import PADDING


class LayerNorm(Module):
    """Normalise every vector by itself: (N, L, D) to the same; one group, of images one pixel large."""

    def __init__(self, width: int) -> None:
        self.norm = GroupNorm(1, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        return ops.reshape(self.norm(ops.reshape(x, (n * length, 1, 1, width))), x.shape)


class TransformerBlock(Module):
    """Let the words look at each other, then think: (N, L, D) to the same; at first the identity."""

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
    """Captions as numbers of words (N, L), PADDING behind the last, to words (N, L, D) and sentences (N, D).

    words: how many numbers there are, with PADDING.  length: L.  width: D.  layers: in which words look at each other.
    A sentence is the mean over its words, zero if there are none.
    """

    def __init__(self, words: int, length: int, width: int, layers: int, heads: int) -> None:
        self.token_embedding = Embedding(words, width)
        self.position_embedding = Parameter((length, width), std=0.3)
        self.layers: list[Module] = [TransformerBlock(width, heads) for _ in range(layers)]
        self.norm = LayerNorm(width)

    def forward(self, tokens: Any) -> tuple[Tensor, Tensor]:
        n, length = tokens.shape
        words = ops.reshape(self.token_embedding(tokens.reshape(-1)), (n, length, -1)) + self.position_embedding
        for layer in self.layers:
            words = layer(words)
        words = self.norm(words)
        there = (tokens != PADDING)[..., None]
        share = there / np.maximum(there.sum(axis=1, keepdims=True), 1)  # (N, L, 1)
        weight = Tensor(backend.to_device(share.astype(words.dtype)))
        return words, (words * weight).sum(axis=1)
