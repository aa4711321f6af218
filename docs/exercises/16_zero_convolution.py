"""Exercise 16: a zero convolution.

Two 1x1 convolutions in sequence, at a single position, are two matrix products: h = x a, y = h z, and a loss L(y). z
starts at zero, as in a ControlNet. Compute the gradients of a and z from gy = dL/dy. They show which of the two
learns in the first step, and which only in the second.

Hint: dL/dz = h^T gy and dL/dh = gy z^T.
"""

import sys

import numpy as np
from checking import expect, report


def gradients(x: np.ndarray, a: np.ndarray, z: np.ndarray, gy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x: (N, C). a: (C, D). z: (D, E). gy: (N, E). Returns dL/da (C, D) and dL/dz (D, E)."""
    raise NotImplementedError


def check() -> None:
    """Raise an error that says what is missing, unless `gradients` is right."""
    rng = np.random.default_rng(0)
    x, a, wanted = rng.normal(size=(5, 3)), rng.normal(size=(3, 4)), rng.normal(size=(5, 2))
    z = np.zeros((4, 2))

    def loss(a: np.ndarray, z: np.ndarray) -> float:
        return float(((x @ a @ z - wanted) ** 2).sum() / 2)

    for step in range(2):
        ga, gz = gradients(x, a, z, x @ a @ z - wanted)
        expect(ga.shape == a.shape and gz.shape == z.shape, "a gradient has the shape of what it is the gradient of")
        nudge = 1e-6 * rng.normal(size=z.shape)
        slope = (loss(a, z + nudge) - loss(a, z - nudge)) / 2
        expect(abs(slope - (gz * nudge).sum()) < 1e-9, "dL/dz does not say how the loss changes with z")
        nudge = 1e-6 * rng.normal(size=a.shape)
        slope = (loss(a + nudge, z) - loss(a - nudge, z)) / 2
        expect(abs(slope - (ga * nudge).sum()) < 1e-9, "dL/da does not say how the loss changes with a")
        if step == 0:
            expect(not ga.any() and gz.any(), "in the first step only z learns")
        a, z = a - 0.01 * ga, z - 0.01 * gz
    expect(ga.any(), "in the second step a learns, too")


if __name__ == "__main__":
    sys.exit(report(check))
