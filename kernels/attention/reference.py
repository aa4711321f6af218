"""Attention, defined: every query gets an average of the values, weighted by how well their keys match it.

D channels are split into `heads` heads of d = D / heads channels, and each head attends on its own. Keys and values may
come from another sequence than the queries, with M tokens instead of L (cross-attention).

Reading order: with `minidiff/nn/attention.py`, which makes q, k and v. Leaves out masks and dropout. The weights p
(N, heads, L, M) are kept for the gradient; a U-Net attends at low resolutions, where this array is small.
"""

import math

import numpy as np

from minidiff.kernels.attention.checks import check_attention


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """Scaled dot-product attention with several heads.

        p = softmax(q k^T / sqrt(d)),   y = p v          for each image and head, d = D / heads

    q: (N, L, D). k, v: (N, M, D). Any float dtype.
    Returns y (N, L, D) and p (N, heads, L, M), whose last axis sums to 1.
    Raises ValueError if the heads do not divide D, there is no key, or a shape does not fit.
    Source: Vaswani et al. 2017, arXiv:1706.03762, eq. 1 and section 3.2.2.
    """
    check_attention("attention", q.shape, k.shape, v.shape, heads)
    q_, k_, v_ = (_split_heads(a, heads) for a in (q, k, v))
    scores = q_ @ k_.swapaxes(-1, -2) / math.sqrt(q_.shape[-1])  # (N, heads, L, M)
    p = np.exp(scores - scores.max(-1, keepdims=True))  # the largest becomes exp(0): no overflow
    p /= p.sum(-1, keepdims=True)
    return _merge_heads(p @ v_), p


def attention_grad(
    gy: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, p: np.ndarray, heads: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of `attention`'s q, k and v.

        gv = p^T gy,   gp = gy v^T
        gs = p (gp - sum over keys of (gp p))                           the gradient of softmax
        gq = gs k / sqrt(d),   gk = gs^T q / sqrt(d)

    gy, q: (N, L, D). k, v: (N, M, D). p: (N, heads, L, M), from the forward pass.
    Returns gq (N, L, D), gk (N, M, D) and gv (N, M, D).
    """
    check_attention("attention_grad", q.shape, k.shape, v.shape, heads, gy.shape, p.shape)
    gy_, q_, k_, v_ = (_split_heads(a, heads) for a in (gy, q, k, v))
    gv = p.swapaxes(-1, -2) @ gy_
    gp = gy_ @ v_.swapaxes(-1, -2)
    gs = p * (gp - (gp * p).sum(-1, keepdims=True)) / math.sqrt(q_.shape[-1])
    return _merge_heads(gs @ k_), _merge_heads(gs.swapaxes(-1, -2) @ q_), _merge_heads(gv)


def _split_heads(a: np.ndarray, heads: int) -> np.ndarray:
    N, L, D = a.shape
    return a.reshape(N, L, heads, D // heads).swapaxes(1, 2)  # (N, heads, L, d)


def _merge_heads(a: np.ndarray) -> np.ndarray:
    N, heads, L, d = a.shape
    return a.swapaxes(1, 2).reshape(N, L, heads * d)
