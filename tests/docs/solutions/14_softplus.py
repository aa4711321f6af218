"""Solution of exercise 14, and an operation that forgets its own derivative."""

import numpy as np

from minidiff.autograd import record


def softplus(x):
    value = np.maximum(x.data, 0) + np.log1p(np.exp(-np.abs(x.data)))
    sigmoid = 0.5 * (1 + np.tanh(0.5 * x.data))
    return record(value, (x,), lambda gy: (gy * sigmoid,))


def wrong_softplus(x):
    return record(np.logaddexp(0, x.data), (x,), lambda gy: (gy,))
