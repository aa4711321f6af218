"""Attention over the tokens of 16x16 and 8x8 feature maps, forward and backward."""

import pytest
from conftest import float32, float64

from minidiff.kernels.attention import reference

SHAPES = [(32, 256, 64, 1), (32, 256, 128, 4), (32, 64, 128, 4), (1, 256, 128, 4)]  # (N, L, D, heads)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention(table, measure, shape):
    N, L, D, heads = shape
    q, k, v = (float32(N, L, D, seed=seed) for seed in range(3))
    exact = reference.attention(*float64(q, k, v), heads)
    measure(f"attention {shape}", lambda: table.attention(q, k, v, heads), exact, 4 * N * L * L * D)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention_grad(table, measure, shape):
    N, L, D, heads = shape
    q, k, v, gy = (float32(N, L, D, seed=seed) for seed in range(4))
    p = reference.attention(q, k, v, heads)[1]
    exact = reference.attention_grad(*float64(gy, q, k, v, p), heads)
    measure(f"attention_grad {shape}", lambda: table.attention_grad(gy, q, k, v, p, heads), exact, 8 * N * L * L * D)
