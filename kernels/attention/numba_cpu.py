"""Attention on the CPU: one head of one picture at a time, in a thread's cache, with BLAS for the products.

`reference.py` builds the scores of the whole batch and passes over them five times. Here a thread copies one head out
of q, k and v (so that its rows lie together), lets BLAS write the scores straight into p, turns them into weights
while they are still in cache, and multiplies on.
"""

import numpy as np
from numba import njit, prange

from minidiff.kernels.attention.reference import check_attention
from minidiff.kernels.numba_math import exp
from minidiff.kernels.numba_threads import float32, workers_for

FAST = {"reassoc", "contract", "nsz", "arcp"}  # sums may run in SIMD lanes; NaN and infinity stay what they are


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """`reference.attention` for float32; the same bits for any number of threads."""
    check_attention("attention", q.shape, k.shape, v.shape, heads)
    q, k, v = float32("attention", q=q, k=k, v=v)
    y, p = np.empty_like(q), np.empty((len(q), heads, q.shape[1], k.shape[1]), np.float32)
    attend(q, k, v, y, p, _workers(q, k, heads))
    return y, p


def attention_grad(
    gy: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, p: np.ndarray, heads: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`reference.attention_grad` for float32; the same bits for any number of threads."""
    check_attention("attention_grad", q.shape, k.shape, v.shape, heads, gy.shape, p.shape)
    gy, q, k, v, p = float32("attention_grad", gy=gy, q=q, k=k, v=v, p=p)
    gq, gk, gv = np.empty_like(q), np.empty_like(k), np.empty_like(v)
    attend_grad(gy, q, k, v, p, gq, gk, gv, _workers(q, k, heads))
    return gq, gk, gv


def _workers(q, k, heads):
    return max(1, min(workers_for(q.size * k.shape[1]), len(q) * heads))


@njit(parallel=True, cache=True)
def attend(q, k, v, y, p, workers):
    """Fill y (N, L, D) and p (N, heads, L, M) for q (N, L, D), k and v (N, M, D)."""
    units = p.shape[0] * p.shape[1]
    for worker in prange(workers):
        attend_heads(q, k, v, y, p, worker * units // workers, (worker + 1) * units // workers)


@njit(cache=True, nogil=True)
def attend_heads(q, k, v, y, p, first, last):
    """One worker's part of `attend`: heads first to last - 1, counted through the batch."""
    _, heads, L, M = p.shape
    d = q.shape[2] // heads
    q_, k_, v_, y_ = head_buffer(L, d), head_buffer(M, d), head_buffer(M, d), head_buffer(L, d)
    scale = np.float32(1 / np.sqrt(d))
    for unit in range(first, last):
        n, head = unit // heads, unit % heads
        take_head(q, n, head, scale, q_)
        take_head(k, n, head, np.float32(1), k_)
        take_head(v, n, head, np.float32(1), v_)
        weights = p[n, head]
        np.dot(q_, k_.T, weights)
        softmax_rows(weights)
        np.dot(weights, v_, y_)
        put_head(y_, n, head, y)


@njit(parallel=True, cache=True)
def attend_grad(gy, q, k, v, p, gq, gk, gv, workers):
    """Fill gq (N, L, D), gk and gv (N, M, D)."""
    units = p.shape[0] * p.shape[1]
    for worker in prange(workers):
        attend_grad_heads(gy, q, k, v, p, gq, gk, gv, worker * units // workers, (worker + 1) * units // workers)


@njit(cache=True, nogil=True)
def attend_grad_heads(gy, q, k, v, p, gq, gk, gv, first, last):
    """One worker's part of `attend_grad`: heads first to last - 1, counted through the batch."""
    _, heads, L, M = p.shape
    d = q.shape[2] // heads
    gy_, q_, k_, v_ = head_buffer(L, d), head_buffer(L, d), head_buffer(M, d), head_buffer(M, d)
    gq_, gk_, gv_ = head_buffer(L, d), head_buffer(M, d), head_buffer(M, d)
    gs = np.empty((L, M), np.float32)
    scale = np.float32(1 / np.sqrt(d))
    for unit in range(first, last):
        n, head = unit // heads, unit % heads
        take_head(gy, n, head, np.float32(1), gy_)
        take_head(q, n, head, np.float32(1), q_)
        take_head(k, n, head, np.float32(1), k_)
        take_head(v, n, head, np.float32(1), v_)
        weights = p[n, head]
        np.dot(weights.T, gy_, gv_)
        np.dot(gy_, v_.T, gs)
        softmax_rows_grad(weights, scale, gs)
        np.dot(gs, k_, gq_)
        np.dot(gs.T, q_, gk_)
        put_head(gq_, n, head, gq)
        put_head(gk_, n, head, gk)
        put_head(gv_, n, head, gv)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def softmax_rows(s):
    """Turn each row of s (L, M) into exp(s) / sum(exp(s)), in place."""
    L, M = s.shape
    for i in range(L):
        largest = np.float32(-np.inf)
        for j in range(M):
            largest = s[i, j] if s[i, j] > largest else largest
        total = np.float32(0)
        for j in range(M):
            s[i, j] = exp(s[i, j] - largest)
            total += s[i, j]
        inverse = np.float32(1) / total
        for j in range(M):
            s[i, j] *= inverse


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def softmax_rows_grad(p, scale, g):
    """Replace each row of g (L, M), the gradient of the weights p, by that of the scores before their scale."""
    L, M = p.shape
    for i in range(L):
        total = np.float32(0)
        for j in range(M):
            total += g[i, j] * p[i, j]
        for j in range(M):
            g[i, j] = scale * p[i, j] * (g[i, j] - total)


@njit(cache=True, nogil=True)
def head_buffer(tokens, d):
    return np.empty((tokens, d), np.float32)


@njit(cache=True, nogil=True)
def take_head(a, n, head, factor, out):
    """out (tokens, d) = factor times one head's columns of a (N, tokens, D)."""
    tokens, d = out.shape
    for i in range(tokens):
        for j in range(d):
            out[i, j] = factor * a[n, i, head * d + j]


@njit(cache=True, nogil=True)
def put_head(a, n, head, out):
    """Write a (tokens, d) into one head's columns of out (N, tokens, D)."""
    tokens, d = a.shape
    for i in range(tokens):
        for j in range(d):
            out[n, i, head * d + j] = a[i, j]
