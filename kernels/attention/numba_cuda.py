"""Attention on a GPU, written in Python: the kernels of `attention.cu`, to be read beside them.

`attend` and `attend_grad_queries` have one block for each query of a head, whose threads share out the keys and
exchange numbers through shared memory. `attend_grad_keys` has one block for each key, whose threads share out the
channels.
"""

import math

from numba import cuda, float32

from minidiff.kernels.attention.cuda_host import Attention
from minidiff.kernels.numba_cuda_launch import THREADS, Functions, larger, largest_of_block, sum_of_block

MOST_KEYS = 4096


@cuda.jit(device=True)
def weigh(weight, rows, n, first, d, total):
    """total (d channels from the first) = the weighted sum of the rows of image n; each thread has a channel."""
    for c in range(first + cuda.threadIdx.x, first + d, THREADS):
        value = float32(0)
        for m in range(rows.shape[1]):
            value += weight[m] * rows[n, m, c]
        total[c] = value


@cuda.jit
def attend(q, k, v, y, p, L, M, D, heads):
    """y (N, L, D), p (N, heads, L, M), of q (N, L, D), k and v (N, M, D). grid: N heads L, in this order."""
    weight = cuda.shared.array(MOST_KEYS, float32)
    block, thread = cuda.blockIdx.x, cuda.threadIdx.x
    i, head, n = block % L, block // L % heads, block // L // heads
    d = D // heads
    first = head * d  # this head's first channel
    largest = -math.inf
    for m in range(thread, M, THREADS):
        score = float32(0)
        for c in range(first, first + d):
            score += q[n, i, c] * k[n, m, c]
        weight[m] = score / math.sqrt(float32(d))
        largest = larger(largest, weight[m])
    largest = float32(largest_of_block(largest))
    total = 0.0
    for m in range(thread, M, THREADS):
        weight[m] = math.exp(weight[m] - largest)
        total += weight[m]
    total = float32(sum_of_block(total))
    for m in range(thread, M, THREADS):
        weight[m] /= total
        p[n, head, i, m] = weight[m]
    cuda.syncthreads()  # every weight is there
    weigh(weight, v, n, first, d, y[n, i])


@cuda.jit
def attend_grad_queries(gy, k, v, p, gs, gq, L, M, D, heads):
    """gs = p (gp - sum gp p) / sqrt(d) with gp = gy v', and gq = gs k. grid: N heads L, one block for each query."""
    slope = cuda.shared.array(MOST_KEYS, float32)
    block, thread = cuda.blockIdx.x, cuda.threadIdx.x
    i, head, n = block % L, block // L % heads, block // L // heads
    d = D // heads
    first = head * d
    total = 0.0
    for m in range(thread, M, THREADS):
        gp = float32(0)
        for c in range(first, first + d):
            gp += gy[n, i, c] * v[n, m, c]
        slope[m] = gp
        total += gp * p[n, head, i, m]
    total = float32(sum_of_block(total))
    for m in range(thread, M, THREADS):
        slope[m] = p[n, head, i, m] * (slope[m] - total) / math.sqrt(float32(d))
        gs[n, head, i, m] = slope[m]
    cuda.syncthreads()
    weigh(slope, k, n, first, d, gq[n, i])


@cuda.jit
def attend_grad_keys(gy, q, p, gs, gk, gv, L, M, D, heads):
    """gk = gs' q and gv = p' gy. grid: N heads M, one block for each key."""
    block = cuda.blockIdx.x
    m, head, n = block % M, block // M % heads, block // M // heads
    d = D // heads
    first = head * d
    for c in range(first + cuda.threadIdx.x, first + d, THREADS):
        for_key = for_value = float32(0)
        for i in range(L):
            for_key += gs[n, head, i, m] * q[n, i, c]
            for_value += p[n, head, i, m] * gy[n, i, c]
        gk[n, m, c], gv[n, m, c] = for_key, for_value


_attention = Attention(
    Functions(
        attend=(THREADS, attend),
        attend_grad_queries=(THREADS, attend_grad_queries),
        attend_grad_keys=(THREADS, attend_grad_keys),
    ),
    MOST_KEYS,
)

attention, attention_grad = _attention.attention, _attention.attention_grad
