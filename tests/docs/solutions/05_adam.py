"""Solution of exercise 5, and Adam without its bias correction."""

import numpy as np

BETA1, BETA2, EPS = 0.9, 0.99, 1e-8


def adam(w, g, m, v, step, lr):
    m = BETA1 * m + (1 - BETA1) * g
    v = BETA2 * v + (1 - BETA2) * g**2
    return w - lr * (m / (1 - BETA1**step)) / (np.sqrt(v / (1 - BETA2**step)) + EPS), m, v


def wrong_adam(w, g, m, v, step, lr):
    m = BETA1 * m + (1 - BETA1) * g
    v = BETA2 * v + (1 - BETA2) * g**2
    return w - lr * m / (np.sqrt(v) + EPS), m, v
