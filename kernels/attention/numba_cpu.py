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
from minidiff.kernels.numba_compile import njit
from minidiff.kernels.numba_memory import empty
from minidiff.kernels.numba_product import ROWS, WIDE, multiply
from minidiff.kernels.numba_threads import float32, reference_if_empty, workers_for
from minidiff.kernels.numba_vector import LANES, alloca, exp, fma, load, maximum, offset, pointer, splat, store


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
    q_, k_transposed, v_, y_, scores = buffer(L, d), buffer(d, M), buffer(M, d), buffer(L, d), buffer(L, M)
    scale = np.float32(1 / np.sqrt(d))
    for unit in range(first, last):
        n, head = unit // heads, unit % heads
        gather_head(q, n, head, d, scale, q_)
        gather_head_transposed(k, n, head, d, k_transposed)
        gather_head(v, n, head, d, np.float32(1), v_)
        product(q_, k_transposed, scores, q_.shape[1], np.int64(1))
        softmax_rows(scores, L, M)
        scatter_weights(scores, n, head, p)
        product(scores, v_, y_, scores.shape[1], np.int64(1))
        scatter_head(y_, n, head, d, y)


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
        gather_weights(p, n, head, weights)
        product(weights, gy_, gv_, np.int64(1), weights.shape[1])  # weights^T, by its strides
        product(gy_, v_transposed, gs, gy_.shape[1], np.int64(1))
        softmax_rows_grad(weights, scale, gs, L, M)
        product(gs, k_, gq_, gs.shape[1], np.int64(1))
        product(gs, q_, gk_, np.int64(1), gs.shape[1])
        scatter_head(gq_, n, head, d, gq)
        scatter_head(gk_, n, head, d, gk)
        scatter_head(gv_, n, head, d, gv)


@njit(cache=True, nogil=True)
def buffer(rows, columns):
    """Return zeros, with rows and columns rounded up to what a product takes."""
    return np.zeros((-(-rows // LANES) * LANES, -(-columns // LANES) * LANES), np.float32)


@njit(cache=True, nogil=True)
def product(a, b, c, a_row, a_column):
    """c = A b with A[r, k] at a[r a_row + k a_column]; all from `buffer`."""
    (rows, columns), K = c.shape, b.shape[0]
    left, right, into = pointer(a), pointer(b), pointer(c)
    for i in range(0, rows, ROWS):
        for j in range(0, columns, WIDE):
            to = offset(into, i * columns + j)
            rows_of_a, columns_of_b = offset(left, i * a_row), offset(right, j)
            multiply(min(WIDE, columns - j), rows_of_a, a_row, a_column, columns_of_b, columns, to, columns, K, False)


@njit(cache=True, nogil=True, error_model="numpy")
def softmax_rows(s, L, M):
    """Turn each of the L rows of s, from `buffer`, into exp(s) / sum(exp(s)) of its first M numbers, in place."""
    columns, numbers, lanes = s.shape[1], pointer(s), alloca(1)
    for i in range(L):
        row, largest, sums = i * columns, splat(np.float32(-np.inf)), splat(np.float32(0))
        for j in range(M, columns):
            s[i, j] = -np.inf  # so that the vectors' last lanes are never the largest
        for j in range(0, columns, LANES):
            largest = maximum(largest, load(numbers, row + j))
        store(lanes, 0, largest)
        most = lanes[0]
        for lane in range(1, LANES):
            most = lanes[lane] if lanes[lane] > most else most
        for j in range(0, columns, LANES):
            store(numbers, row + j, exp(load(numbers, row + j) - splat(most)))
        for j in range(M, columns):
            s[i, j] = 0
        for j in range(0, columns, LANES):
            sums = sums + load(numbers, row + j)
        inverse = np.float32(1) / sum_of_lanes(sums, lanes)
        for j in range(0, columns, LANES):
            store(numbers, row + j, inverse * load(numbers, row + j))


@njit(cache=True, nogil=True)
def softmax_rows_grad(p, scale, g, L, M):
    """Replace each of the L rows of g, the gradient of the weights p, by that of the scores before their scale.

    Both are from `buffer`, with zeros behind the first M numbers of a row.
    """
    columns, weights, gradients, lanes = p.shape[1], pointer(p), pointer(g), alloca(1)
    for i in range(L):
        row, sums = i * columns, splat(np.float32(0))
        for j in range(0, columns, LANES):
            sums = fma(load(gradients, row + j), load(weights, row + j), sums)
        total = splat(sum_of_lanes(sums, lanes))
        for j in range(0, columns, LANES):
            change = load(gradients, row + j) - total
            store(gradients, row + j, scale * load(weights, row + j) * change)


@njit(cache=True, nogil=True)
def sum_of_lanes(sums, lanes):
    """The sum of the numbers of a vector, one after the other; lanes: memory for them."""
    store(lanes, 0, sums)
    total = lanes[0]
    for lane in range(1, LANES):
        total += lanes[lane]
    return total


@njit(cache=True, nogil=True)
def gather_head(a, n, head, d, factor, out):
    """out[:tokens, :d] = factor times one head's columns of a (N, tokens, D)."""
    for i in range(a.shape[1]):
        for j in range(d):
            out[i, j] = factor * a[n, i, head * d + j]


@njit(cache=True, nogil=True)
def gather_head_transposed(a, n, head, d, out):
    """out[:d, :tokens] = one head's columns of a (N, tokens, D), transposed."""
    for i in range(a.shape[1]):
        for j in range(d):
            out[j, i] = a[n, i, head * d + j]


@njit(cache=True, nogil=True)
def scatter_head(a, n, head, d, out):
    """Write a[:tokens, :d] into one head's columns of out (N, tokens, D)."""
    for i in range(out.shape[1]):
        for j in range(d):
            out[n, i, head * d + j] = a[i, j]


@njit(cache=True, nogil=True)
def gather_weights(p, n, head, out):
    """out[:L, :M] = the weights of one head.  An assignment of slices would take seconds to compile."""
    for i in range(p.shape[2]):
        for j in range(p.shape[3]):
            out[i, j] = p[n, head, i, j]


@njit(cache=True, nogil=True)
def scatter_weights(scores, n, head, p):
    """Write scores[:L, :M] to the weights of one head."""
    for i in range(p.shape[2]):
        for j in range(p.shape[3]):
            p[n, head, i, j] = scores[i, j]
