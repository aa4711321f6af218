"""Exercise 16: fewer multiplications, from any points.

A filter of three weights w, moved along n numbers d, gives m = n - 2 outputs y. Compute the matrices with which that
takes n multiplications:

    y = A' [ (G w) * (B' d) ]                             *: elementwise product

from n - 1 different points and, as the last one, infinity. Chapter 16 does it for five points; this is for any.

Hint: the rows of A and of G hold the powers of each point, as many as there are outputs and weights; infinity's row is
0, ..., 0, 1. B' is the inverse of such a matrix with n powers, transposed. Its rows need not be scaled.
"""

import sys

import numpy as np
from checking import expect, report

from minidiff.kernels.conv2d import reference


def matrices(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """points: (n - 1,) float64, all different. Returns A' (n - 2, n), G (n, 3) and B' (n, n)."""
    raise NotImplementedError


def check() -> None:
    """Raise an error that says what is missing, unless `matrices` is right."""
    rng = np.random.default_rng(0)
    for points in ([0, 1, -1], [0, 1, -1, 2, -2], [0, 1, -1, 2, -2, 0.5, -0.5], [3, 0.25, -7]):
        n = len(points) + 1
        A_t, G, B_t = matrices(np.array(points, np.float64))
        for name, found, shape in (("A'", A_t, (n - 2, n)), ("G", G, (n, 3)), ("B'", B_t, (n, n))):
            expect(np.shape(found) == shape, f"for {n - 1} points {name} has shape {np.shape(found)}, expected {shape}")
        d, w = rng.normal(size=n), rng.normal(size=3)
        y = A_t @ ((G @ w) * (B_t @ d))
        # float64 and points up to 7, whose third power is 343: twelve digits are left of sixteen
        expect(np.allclose(y, np.correlate(d, w), atol=1e-9), f"the outputs are wrong for the points {points}")

        d, w = rng.normal(size=(n, n)), rng.normal(size=(3, 3))
        y = A_t @ ((G @ w @ G.T) * (B_t @ d @ B_t.T)) @ A_t.T
        exact = reference.conv2d(d[None, :, :, None], w[:, :, None, None])[0, 1:-1, 1:-1, 0]
        expect(np.allclose(y, exact, atol=1e-6), f"in two dimensions the outputs are wrong for the points {points}")


if __name__ == "__main__":
    sys.exit(report(check))
