"""AdamW, the average of the weights and the gradient's norm on a GPU, in Python: the kernels of `optimizer.cu`."""

import math

from numba import cuda, float32, float64

from minidiff.kernels.numba_cuda_launch import THREADS, Functions, sum_of_block
from minidiff.kernels.optimizer.cuda_host import Optimizer


@cuda.jit
def update(w, g, m, v, ema, n, n_decay, h):
    """`reference.adamw_ema`, one thread for each weight.

    h: beta1, 1 - beta1, beta2, 1 - beta2, lr weight_decay, lr / (1 - beta1^t), 1 / (1 - beta2^t), eps, grad_scale,
    1 - ema_decay.
    """
    i = cuda.grid(1)
    if i >= n:
        return
    gradient, weight = float32(h[8]) * g[i], w[i]
    m[i] = float32(h[0]) * m[i] + float32(h[1]) * gradient
    v[i] = float32(h[2]) * v[i] + float32(h[3]) * gradient * gradient
    if i < n_decay:
        weight -= float32(h[4]) * weight
    weight -= float32(h[5]) * m[i] / (math.sqrt(v[i] * float32(h[6])) + float32(h[7]))
    w[i] = weight
    ema[i] += float32(h[9]) * (weight - ema[i])


@cuda.jit
def square_sums(x, sums, n):
    """sums (blocks,): each block's sum of squares."""
    total = 0.0
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        total += float64(x[i]) * float64(x[i])
    total = sum_of_block(total)
    if cuda.threadIdx.x == 0:
        sums[cuda.blockIdx.x] = total


@cuda.jit
def add_sums(sums, total, count):
    """total (1,), one block."""
    part = 0.0
    for i in range(cuda.threadIdx.x, count, THREADS):
        part += sums[i]
    part = sum_of_block(part)
    if cuda.threadIdx.x == 0:
        total[0] = part


_optimizer = Optimizer(
    Functions(update=(THREADS, update), square_sums=(THREADS, square_sums), add_sums=(THREADS, add_sums)),
    THREADS,
)

square_sum, adamw_ema = _optimizer.square_sum, _optimizer.adamw_ema
