"""Exercise 24: the loss that is left.

Why does the loss not fall to 0? Because x_t does not determine the noise. How much is left for a perfect network? Find
out for the smallest data set: an image is one number, -1 or 1, each with probability one half, and

    x_t = a x0 + s eps,      eps ~ N(0, 1)

Write the best estimate of the noise, which is the mean of all noise that fits, and its mean squared error.

Hint: given x_t, Bayes' rule says how probable x0 = 1 is, with weights exp(-(x_t - a x0)^2 / (2 s^2)). The mean of x0
with these probabilities is a known function. Then eps_hat = (x_t - a x0_hat) / s. The error is a mean over eps: the
integral of its square times the density exp(-eps^2 / 2) / sqrt(2 pi). A sum over a fine grid from -8 to 8 is exact
enough, and x0 = -1 has the same error as x0 = 1.
"""

import sys

import numpy as np
from checking import expect, report


def eps_hat(x_t: np.ndarray, a: float, s: float) -> np.ndarray:
    """x_t: (n,). a, s: above 0. Returns the best estimate of the noise in each, (n,)."""
    raise NotImplementedError


def least_loss(a: float, s: float) -> float:
    """Returns the mean of (eps_hat - eps)^2 over images and noise."""
    raise NotImplementedError


def check() -> None:
    """Raise an error that says what is missing, unless both functions are right."""
    rng = np.random.default_rng(0)
    x0, eps = rng.choice([-1.0, 1.0], 100_000), rng.standard_normal(100_000)
    for a, s in ((0.95, 0.3), (0.8, 0.6), (0.6, 0.8), (0.3, 0.95)):
        x_t = a * x0 + s * eps
        found = eps_hat(x_t, a, s)
        expect(np.shape(found) == (100_000,), f"eps_hat has shape {np.shape(found)}, expected (100000,)")
        squares = (found - eps) ** 2
        others = {
            "the nearer of -1 and 1": np.where(x_t > 0, 1.0, -1.0),
            "a x_t, which is best for normal numbers": a * x_t / (a**2 + s**2),
            "0": 0 * x_t,
        }
        for name, guess in others.items():
            other = np.mean(((x_t - a * guess) / s - eps) ** 2)
            expect(
                squares.mean() < other,
                f"at a = {a}, s = {s} the error is {squares.mean():.4f}, and with x0_hat = {name} only {other:.4f}",
            )
        # a mean of 100,000 independent numbers is off by more than five standard errors once in two million cases
        most = 5 * squares.std() / np.sqrt(len(squares))
        least = least_loss(a, s)
        expect(
            abs(least - squares.mean()) < most,
            f"at a = {a}, s = {s} least_loss says {least:.4f}, and the error of eps_hat is {squares.mean():.4f}",
        )
    almost_clean, almost_noise = least_loss(0.9999, 0.0141), least_loss(0.0141, 0.9999)
    expect(almost_clean < 1e-6, f"with hardly any noise x0 is known, and so is eps: not {almost_clean:.4f}")
    expect(almost_noise < 1e-3, f"where x_t is nearly eps there is nothing to guess: not {almost_noise:.4f}")


if __name__ == "__main__":
    sys.exit(report(check))
