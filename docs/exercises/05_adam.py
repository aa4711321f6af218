"""Exercise 5: Adam.

Write one step of Adam for one array of weights:

    m <- beta1 m + (1 - beta1) g,        v <- beta2 v + (1 - beta2) g^2
    w <- w - lr (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps)

Change nothing in place: return the new w, m and v.
"""

import sys

import numpy as np
from checking import expect, report

from minidiff.kernels.optimizer import reference

BETA1, BETA2, EPS = 0.9, 0.99, 1e-8


def adam(w: np.ndarray, g: np.ndarray, m: np.ndarray, v: np.ndarray, step: int, lr: float) -> tuple:
    """w, g, m, v: arrays of one shape. step: 1, 2, 3, ... Returns the new (w, m, v)."""
    raise NotImplementedError


def check() -> None:
    """Raise an error that says what is missing, unless `adam` is right."""
    rng = np.random.default_rng(0)
    w, g = rng.normal(size=6), np.array([1e-6, -1e-3, 0.5, 2.0, -300.0, 1e4])
    before = w.copy(), g.copy()
    first, *_ = adam(w, g, np.zeros(6), np.zeros(6), 1, 0.1)
    expect(np.array_equal(w, before[0]) and np.array_equal(g, before[1]), "w or g was changed in place")
    size = np.abs(first - w)
    # eps = 1e-8 shortens the step of the smallest gradient, 1e-6, by a hundredth
    expect(np.allclose(size, 0.1, rtol=0.02), f"the first step is lr = 0.1 for every weight, got {size.round(3)}")
    expect((np.sign(w - first) == np.sign(g)).all(), "the step must go against the gradient")

    m, v = np.zeros(6), np.zeros(6)
    theirs, m_, v_, ema = w.copy(), m.copy(), v.copy(), w.copy()
    for step in range(1, 21):
        g = rng.normal(size=6)
        w, m, v = adam(w, g, m, v, step, 0.1)
        hyper = np.array([0.1, BETA1, BETA2, EPS, 0.0, 1 - BETA1**step, 1 - BETA2**step, 1.0, 0.0])
        reference.adamw_ema(theirs, g, m_, v_, ema, 0, hyper)
    expect(np.allclose(w, theirs), "after 20 steps the weights differ from kernels/optimizer/reference.py")

    # a valley a thousand times as steep in one direction as in the other: plain descent crawls, Adam does not
    w, m, v, steep = np.array([1.0, 1.0]), np.zeros(2), np.zeros(2), np.array([1000.0, 1.0])
    for step in range(1, 301):
        w, m, v = adam(w, steep * w, m, v, step, 0.1 * (1 - step / 300))
    expect(np.abs(w).max() < 1e-2, f"300 steps should reach the bottom of the valley at (0, 0), got {w.round(4)}")


if __name__ == "__main__":
    sys.exit(report(check))
