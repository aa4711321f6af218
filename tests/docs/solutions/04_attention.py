"""Solution of exercise 4, and attention that forgets to divide by sqrt(d)."""

import numpy as np


def attention(q, k, v, scale=None):
    scores = q @ k.T * (scale or q.shape[1] ** -0.5)
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True) @ v


def wrong_attention(q, k, v):
    return attention(q, k, v, scale=1.0)
