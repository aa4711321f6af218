"""Attention on the CPU: each thread computes one head of one image at a time, in its cache.

`reference.py` computes the scores of the whole batch and passes over them six times. Here a thread takes one head
through all steps while its numbers are in the cache:

    copy the head's q, k^T and v into buffers whose sizes suit the micro-kernel, `multiply` of numba_product.py
    scores = q k^T / sqrt(d);  p = softmax(scores);  y = p v

The gradients are computed in the same way. In the code, a name with a trailing underscore, such as q_, is one head's
part of an array.

Reading order: after `reference.py`.
"""

import numpy as np
from numba import prange

from minidiff.kernels.attention import reference
from minidiff.kernels.attention.checks import check_attention
from minidiff.kernels.numba_compile import kernel, njit
from minidiff.kernels.numba_lanes import largest_of_lanes, sum_of_lanes
from minidiff.kernels.numba_memory import empty
from minidiff.kernels.numba_product import ROWS, WIDE, multiply
from minidiff.kernels.numba_threads import float32, reference_if_empty, workers_for
from minidiff.kernels.numba_vector import (
    LANES,
    exp,
    fma,
    load,
    masked_load,
    masked_store,
    maximum,
    offset,
    pointer,
    splat,
    store,
)


@reference_if_empty(reference.attention)
def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """`reference.attention` for float32; the same bits for any number of threads."""
    check_attention("attention", q.shape, k.shape, v.shape, heads)
    q, k, v = float32("attention", q=q, k=k, v=v)
    y, p = empty(q.shape), empty((len(q), heads, q.shape[1], k.shape[1]))
    attend(q, k, v, y, p, _workers(q, k, heads))
    return y, p


@reference_if_empty(reference.attention_grad)
def attention_grad(
    gy: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, p: np.ndarray, heads: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`reference.attention_grad` for float32; the same bits for any number of threads."""
    check_attention("attention_grad", q.shape, k.shape, v.shape, heads, gy.shape, p.shape)
    gy, q, k, v, p = float32("attention_grad", gy=gy, q=q, k=k, v=v, p=p)
    gq, gk, gv = empty(q.shape), empty(k.shape), empty(v.shape)
    attend_grad(gy, q, k, v, p, gq, gk, gv, _workers(q, k, heads))
    return gq, gk, gv


def _workers(q, k, heads):
    return max(1, min(workers_for(q.size * k.shape[1]), len(q) * heads))


@kernel
def attend(q, k, v, y, p, workers):
    """Fill y (N, L, D) and p (N, heads, L, M) for q (N, L, D), k and v (N, M, D)."""
    units = p.shape[0] * p.shape[1]
    for worker in prange(workers):
        attend_heads(q, k, v, y, p, worker * units // workers, (worker + 1) * units // workers)


@njit
def attend_heads(q, k, v, y, p, first, last):
    """One worker's part of `attend`: heads first to last - 1, counted through the batch."""
    _, heads, L, M = p.shape
    d = q.shape[2] // heads
    q_, k_transposed, v_, y_, scores = buffer(L, d), buffer(d, M), buffer(M, d), buffer(L, d), buffer(L, M)
    key, beyond = tail(M)
    scale = np.float32(1 / np.sqrt(d))
    for unit in range(first, last):
        n, head = unit // heads, unit % heads
        gather_head(q, n, head, d, scale, q_)
        gather_head_transposed(k, n, head, d, k_transposed)
        gather_head(v, n, head, d, np.float32(1), v_)
        product(q_, k_transposed, scores, q_.shape[1], np.int64(1))
        softmax_rows(scores, key, beyond, p, unit)
        product(scores, v_, y_, scores.shape[1], np.int64(1))
        scatter_head(y_, n, head, d, y)


@kernel
def attend_grad(gy, q, k, v, p, gq, gk, gv, workers):
    """Fill gq (N, L, D), gk and gv (N, M, D)."""
    units = p.shape[0] * p.shape[1]
    for worker in prange(workers):
        attend_grad_heads(gy, q, k, v, p, gq, gk, gv, worker * units // workers, (worker + 1) * units // workers)


@njit
def attend_grad_heads(gy, q, k, v, p, gq, gk, gv, first, last):
    """One worker's part of `attend_grad`: heads first to last - 1, counted through the batch."""
    _, heads, L, M = p.shape
    d = q.shape[2] // heads
    gy_, q_, k_, v_transposed = buffer(L, d), buffer(L, d), buffer(M, d), buffer(d, M)
    gq_, gk_, gv_ = buffer(L, d), buffer(M, d), buffer(M, d)
    weights, gs = buffer(L, M), buffer(L, M)
    scale = np.float32(1 / np.sqrt(d))
    for unit in range(first, last):
        n, head = unit // heads, unit % heads
        gather_head(gy, n, head, d, np.float32(1), gy_)
        gather_head(q, n, head, d, np.float32(1), q_)
        gather_head(k, n, head, d, np.float32(1), k_)
        gather_head_transposed(v, n, head, d, v_transposed)
        gather_weights(p, unit, weights)
        product(weights, gy_, gv_, np.int64(1), weights.shape[1])  # weights^T, by its strides
        product(gy_, v_transposed, gs, gy_.shape[1], np.int64(1))
        softmax_rows_grad(weights, scale, gs, L)
        product(gs, k_, gq_, gs.shape[1], np.int64(1))
        product(gs, q_, gk_, np.int64(1), gs.shape[1])
        scatter_head(gq_, n, head, d, gq)
        scatter_head(gk_, n, head, d, gk)
        scatter_head(gv_, n, head, d, gv)


@njit
def buffer(rows, columns):
    """Return zeros, with rows and columns rounded up to what a product takes."""
    return np.zeros((-(-rows // LANES) * LANES, -(-columns // LANES) * LANES), np.float32)


@njit
def product(a, b, c, a_row, a_column):
    """c = A b with A[r, k] at a[r a_row + k a_column]; all from `buffer`."""
    (rows, columns), K = c.shape, b.shape[0]
    left, right, into = pointer(a), pointer(b), pointer(c)
    for i in range(0, rows, ROWS):
        for j in range(0, columns, WIDE):
            to = offset(into, i * columns + j)
            rows_of_a, columns_of_b = offset(left, i * a_row), offset(right, j)
            multiply(min(WIDE, columns - j), rows_of_a, a_row, a_column, columns_of_b, columns, to, columns, K, False)


@njit
def tail(M):
    """Return two rows of a buffer's columns: 1 for each of M keys and 0 behind them, and 0 and minus infinity."""
    columns = -(-M // LANES) * LANES
    key, beyond = np.zeros(columns, np.float32), np.zeros(columns, np.float32)
    for j in range(columns):
        if j < M:
            key[j] = 1
        else:
            beyond[j] = -np.inf
    return key, beyond


@njit
def softmax_rows(s, key, beyond, p, unit):
    """Turn each row of s, from `buffer`, into exp(s) / sum(exp(s)) of its keys; p (N, heads, L, M) gets the same.

    key, beyond: from `tail`. unit: which head of which image, counted through the batch.
    """
    (_, _, L, M), columns = p.shape, s.shape[1]
    numbers, keys, outside, into = pointer(s), pointer(key), pointer(beyond), pointer(p)
    for i in range(L):
        row, largest, sums = i * columns, splat(np.float32(-np.inf)), splat(np.float32(0))
        for j in range(0, columns, LANES):
            largest = maximum(largest, load(numbers, row + j) + load(outside, j))
        most = largest_of_lanes(largest)
        for j in range(0, columns, LANES):
            power = load(keys, j) * exp(load(numbers, row + j) - most)
            sums = sums + power
            store(numbers, row + j, power)
        total = sum_of_lanes(sums)
        for j in range(0, columns, LANES):
            weight = load(numbers, row + j) / total
            store(numbers, row + j, weight)
            masked_store(into, (unit * L + i) * M + j, weight, M - j)


@njit
def softmax_rows_grad(p, scale, g, L):
    """Replace each of the L rows of g, the gradient of the weights p, by that of the scores before their scale.

    Both are from `buffer`, with zeros behind a row's keys in p.
    """
    columns, weights, gradients = p.shape[1], pointer(p), pointer(g)
    for i in range(L):
        row, sums = i * columns, splat(np.float32(0))
        for j in range(0, columns, LANES):
            sums = fma(load(gradients, row + j), load(weights, row + j), sums)
        total = sum_of_lanes(sums)
        for j in range(0, columns, LANES):
            change = load(gradients, row + j) - total
            store(gradients, row + j, scale * load(weights, row + j) * change)


@njit
def gather_head(a, n, head, d, factor, out):
    """out[:tokens, :d] = factor times one head's columns of a (N, tokens, D)."""
    (_, tokens, D), columns, source, into = a.shape, out.shape[1], pointer(a), pointer(out)
    for i in range(tokens):
        for j in range(0, d, LANES):
            store(into, i * columns + j, factor * masked_load(source, (n * tokens + i) * D + head * d + j, d - j))


@njit
def gather_head_transposed(a, n, head, d, out):
    """out[:d, :tokens] = one head's columns of a (N, tokens, D), transposed."""
    (_, tokens, D), columns, source, into = a.shape, out.shape[1], pointer(a), pointer(out)
    for i in range(tokens):
        for j in range(d):
            into[j * columns + i] = source[(n * tokens + i) * D + head * d + j]


@njit
def scatter_head(a, n, head, d, out):
    """Write a[:tokens, :d] into one head's columns of out (N, tokens, D)."""
    (_, tokens, D), columns, source, into = out.shape, a.shape[1], pointer(a), pointer(out)
    for i in range(tokens):
        for j in range(0, d, LANES):
            masked_store(into, (n * tokens + i) * D + head * d + j, load(source, i * columns + j), d - j)


@njit
def gather_weights(p, unit, out):
    """out[:L, :M] = the weights of head number `unit`, counted through the batch; zeros behind them."""
    (_, _, L, M), columns, source, into = p.shape, out.shape[1], pointer(p), pointer(out)
    for i in range(L):
        for j in range(0, M, LANES):
            store(into, i * columns + j, masked_load(source, (unit * L + i) * M + j, M - j))
