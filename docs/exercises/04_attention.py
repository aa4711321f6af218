"""Exercise 4: attention.

Write attention with one head for one image, in NumPy, loops allowed:

    y_l = sum_m p_lm v_m,      p_lm = exp(s_lm) / sum_j exp(s_lj),      s_lm = (q_l . k_m) / sqrt(d)

Hint: exp of a large score overflows. Subtract each row's largest score first: this does not change p.
"""

import sys

import numpy as np
from checking import expect, report

from minidiff.kernels.attention import reference


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """q: (L, d), the queries. k, v: (M, d), keys and values. Returns (L, d)."""
    raise NotImplementedError


def check() -> None:
    """Raise an error that says what is missing, unless `attention` is right."""
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(5, 8)), rng.normal(size=(7, 8)), rng.normal(size=(7, 8))
    y = attention(q, k, v)
    expect(np.shape(y) == (5, 8), f"the result has shape {np.shape(y)}, expected (5, 8)")
    same = attention(q, np.ones((7, 8)), v)
    expect(np.allclose(same, v.mean(axis=0)), "where all keys are alike, the answer is the mean of the values")
    expected, _ = reference.attention(q[None], k[None], v[None], heads=1)
    expect(np.allclose(y, expected[0]), "the values differ from kernels/attention/reference.py; is 1 / sqrt(d) there?")
    other = rng.permutation(7)
    expect(np.allclose(y, attention(q, k[other], v[other])), "the order of keys and values must not matter")
    with np.errstate(over="ignore", invalid="ignore"):
        sharp = attention(1000 * k, k, v)
    expect(np.isfinite(sharp).all(), "large scores overflow: subtract each row's largest before exp")
    best = v[(k @ k.T).argmax(axis=1)]
    expect(np.allclose(sharp, best), "where one key answers far better than all others, its value is the answer")


if __name__ == "__main__":
    sys.exit(report(check))
