"""Exercise 1: a denoiser without a network.

The clean points p_i are known. Given noisy points x_t = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps, return the best
estimate of x0: the mean of the p_i, each weighted by

    w_i = exp(-d_i) / sum_j exp(-d_j),      d_i = |x_t - sqrt(alpha_bar) p_i|^2 / (2 (1 - alpha_bar))

Hint: exp(-d) of a large d is 0, and 0 / 0 is not a number. Subtract the smallest d_i from all of them first: this does
not change the weights.
"""

import sys

import numpy as np
from checking import expect, report


def ideal_x0_hat(x_t: np.ndarray, points: np.ndarray, alpha_bar: float) -> np.ndarray:
    """x_t: (n, D). points: (k, D), the clean ones. alpha_bar: in (0, 1). Returns x0_hat, (n, D)."""
    raise NotImplementedError


def check() -> None:
    """Raise an error that says what is missing, unless `ideal_x0_hat` is right."""
    rng = np.random.default_rng(0)
    points = np.array([[2.0, 0.0], [-1.0, 1.5], [-1.0, -1.5]])
    x_t = rng.normal(size=(400, 2))

    alone = ideal_x0_hat(x_t, points[:1], 0.5)
    expect(np.shape(alone) == (400, 2), f"x0_hat has shape {np.shape(alone)}, expected (400, 2)")
    expect(np.allclose(alone, points[0]), "if there is only one clean point, it is the answer")
    expect(np.allclose(ideal_x0_hat(x_t, points, 1e-9), points.mean(axis=0), atol=1e-3), "noise alone says: the mean")
    seen = points + 0.01 * rng.normal(size=(3, 2))
    with np.errstate(invalid="raise", divide="raise"):
        expect(np.allclose(ideal_x0_hat(seen, points, 0.9999), points), "almost without noise the nearest point wins")
    between = ideal_x0_hat(np.array([[0.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 2.0]]), 0.5)
    w = 1 / (1 + np.exp(-1.5))  # d is 0.5 and 2
    expect(np.allclose(between, [[w, 2 - 2 * w]]), f"(0, 0) may be (1, 0) or (0, 2): expected {w:.3f}, {2 - 2 * w:.3f}")

    alpha_bar = 1 / (1 + np.exp(np.linspace(-8, 7, 100)))  # now flow: DDIM, from noise to the points
    for a, a_prev in zip(alpha_bar[::-1], [*alpha_bar[-2::-1], 1.0]):
        x0_hat = ideal_x0_hat(x_t, points, a)
        x_t = np.sqrt(a_prev) * x0_hat + np.sqrt((1 - a_prev) / (1 - a)) * (x_t - np.sqrt(a) * x0_hat)
    distance = np.linalg.norm(x_t[:, None] - points, axis=2)
    expect(distance.min(axis=1).max() < 0.05, "a point that flowed out of noise did not arrive at a clean one")
    share = np.bincount(distance.argmin(axis=1), minlength=3) / 400
    expect(share.min() > 0.2, f"each of three points should get about a third of the noise, got {share.round(2)}")


if __name__ == "__main__":
    sys.exit(report(check))
