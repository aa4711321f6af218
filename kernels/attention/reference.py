"""Attention, defined: every query takes a weighted average of the values, weighted by how well the keys match it.

D channels are split into `heads` heads of d = D / heads channels; each head attends by itself. Keys and values may
come from another sequence than the queries (M tokens instead of L).

Reading order: with `minidiff/nn/attention.py`, which makes q, k and v. Left out: masks and dropout. The weights p
(N, heads, L, M) are kept for the gradient; pictures attend at low resolutions, where they are small.
"""

import math

import numpy as np


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """Scaled dot-product attention with several heads.

        p = softmax(q k^T / sqrt(d)),   y = p v          for each picture and head, d = D / heads

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


def _split_heads(a, heads):
    N, L, D = a.shape
    return a.reshape(N, L, heads, D // heads).swapaxes(1, 2)  # (N, heads, L, d)


def _merge_heads(a):
    N, heads, L, d = a.shape
    return a.swapaxes(1, 2).reshape(N, L, heads * d)


def check_attention(name, q_shape, k_shape, v_shape, heads, gy_shape=None, p_shape=None):
    """Raise ValueError in one line unless the shapes fit each other."""
    if len(q_shape) != 3:
        raise ValueError(f"{name}: q must be (N, L, D), got shape {tuple(q_shape)}")
    N, L, D = q_shape
    if len(k_shape) != 3 or (k_shape[0], k_shape[2]) != (N, D):
        raise ValueError(f"{name}: k must be ({N}, M, {D}), got shape {tuple(k_shape)}")
    if tuple(v_shape) != tuple(k_shape):
        raise ValueError(f"{name}: v must be {tuple(k_shape)} like k, got shape {tuple(v_shape)}")
    if D == 0 or k_shape[1] == 0:
        raise ValueError(f"{name}: a query needs channels and at least one key, k has shape {tuple(k_shape)}")
    if heads < 1 or D % heads:
        raise ValueError(f"{name}: {heads} heads do not divide {D} channels")
    if gy_shape is not None and tuple(gy_shape) != tuple(q_shape):
        raise ValueError(f"{name}: gy must be {tuple(q_shape)}, got shape {tuple(gy_shape)}")
    if p_shape is not None and tuple(p_shape) != (N, heads, L, k_shape[1]):
        raise ValueError(f"{name}: p must be {(N, heads, L, k_shape[1])}, got shape {tuple(p_shape)}")
