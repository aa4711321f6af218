"""Exercise 2: a layer of your own.

In a depthwise convolution each channel has its own filter of 3 x 3 numbers, and channels do not mix:

    y[n, i, j, c] = sum over k, l of x[n, i + k - 1, j + l - 1, c] w[k, l, c]

Beyond the borders of the image there are zeros, as in `Conv` of docs/chapter2/mini.py. Write it, and its backward
pass: from gy, the gradient of the loss with respect to y, the gradients with respect to x and to w.

Hint: no matrix product is needed. The gradient of x is again a depthwise convolution, of gy.
"""

import sys

import numpy as np
from checking import expect, report

from minidiff.kernels.conv2d import reference


def forward(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """x: (N, H, W, C). w: (3, 3, C). Returns y: (N, H, W, C)."""
    raise NotImplementedError


def backward(x: np.ndarray, w: np.ndarray, gy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x, gy: (N, H, W, C). w: (3, 3, C). Returns gx, shaped like x, and gw, shaped like w."""
    raise NotImplementedError


def check() -> None:
    """Raise an error that says what is missing, unless both are right."""
    rng = np.random.default_rng(0)
    for shape in ((2, 5, 4, 3), (1, 1, 6, 2)):
        x, w, gy = rng.normal(size=shape), rng.normal(size=(3, 3, shape[3])), rng.normal(size=shape)
        full = w[..., None] * np.eye(shape[3])  # (3, 3, C, C): the same as a convolution that could mix channels
        y = forward(x.copy(), w.copy())
        expect(np.shape(y) == shape, f"y has shape {np.shape(y)}, expected {shape}")
        # float64, sums of nine products
        expect(np.allclose(y, reference.conv2d(x, full), atol=1e-12), "y differs from kernels/conv2d/reference.py")

        gx, gw = backward(x.copy(), w.copy(), gy.copy())
        for name, found, array in (("x", gx, x), ("w", gw, w)):
            expect(np.shape(found) == array.shape, f"g{name} has shape {np.shape(found)}, expected {array.shape}")
            direction = rng.choice((-1.0, 1.0), array.shape)
            one, other = (
                (forward(x + h * direction, w) if name == "x" else forward(x, w + h * direction)) for h in (1e-5, -1e-5)
            )
            change = ((one - other) * gy).sum() / 2e-5
            # y is linear in x and in w, so that only rounding is left: about 1e-16 / 1e-5 of numbers up to a hundred
            expect(
                np.isclose((found * direction).sum(), change, atol=1e-7),
                f"a step of {name} changes the loss by {change:.4f} for each unit, and g{name} predicts "
                f"{(found * direction).sum():.4f}",
            )


if __name__ == "__main__":
    sys.exit(report(check))
