"""The smallest networks that training code can be tested with."""

from types import SimpleNamespace

import numpy as np

from minidiff import backend
from minidiff.autograd import Tensor


class Scaled:
    """A network of one weight, w x_t, that remembers what it was asked."""

    config = SimpleNamespace(classes=10, null_cond=10)

    def __init__(self, w=0.5):
        self.w = Tensor(backend.to_device(np.array(w, dtype=np.float32)), requires_grad=True)

    def condition(self, n, labels=None, with_cond=None):
        return labels

    def __call__(self, x, t, labels):
        self.x, self.t = backend.to_numpy(x), backend.to_numpy(t)
        self.labels = None if labels is None else backend.to_numpy(labels)
        return self.w * Tensor(x)


def images(n, seed=0, shape=(4, 4, 1)):
    """n images (n, *shape) float32 in [-1, 1], on the host."""
    return np.random.default_rng(seed).uniform(-1, 1, (n, *shape)).astype(np.float32)
