"""Exercise 9: latents without a network, what they lose, and what noise does to them.

The simplest autoencoder is linear.  It encodes the d pixels of a patch as k numbers, and decodes these,

    z = x E,     x_hat = z D

for patches x (n, d) from which the mean patch was subtracted.  Find E and D with two properties:

1. Each of the k channels of z has variance 1 over all patches, as noise has.
2. No k numbers that are linear in the pixels lose less: the mean of (x_hat - x)^2 is as small as possible.

Then noise is added to latents, z + sigma n with n ~ N(0, 1), and the sum is decoded.  How large is the mean squared
error now?  Compute the value to expect, without drawing noise.

Hint: np.linalg.eigh(x.T @ x / n) returns two arrays.  The columns of the second are directions at right angles to each
other, along which x is uncorrelated; the first holds the variances of x along them, the smallest first.  Which
directions are worth keeping?  For the noise: what does one channel of it add to each pixel?
"""

import sys

import numpy as np
from checking import expect, report

from minidiff.images.files import to_float
from minidiff.scenes import Scenes


def code(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """x: (n, d), patches whose mean is 0.  Returns E (d, k) and D (k, d)."""
    raise NotImplementedError


def noisy_error(x: np.ndarray, E: np.ndarray, D: np.ndarray, sigma: float) -> float:
    """Return the mean squared error of (x E + sigma n) D over patches, pixels and all noise n, by a formula."""
    raise NotImplementedError


def check() -> None:
    """Raise an error that says what is missing, unless both functions are right."""
    images = to_float(Scenes(size=64, split="test").batch(np.arange(8))[0]).astype(np.float64)
    x = images.reshape(8, 16, 4, 16, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 48)  # 2,048 patches of 4 x 4 pixels
    x -= x.mean(axis=0)
    variances = np.linalg.eigvalsh(x.T @ x / len(x))
    for k in (1, 3, 12):
        E, D = code(x, k)
        expect(E.shape == (48, k) and D.shape == (k, 48), f"expected (48, {k}) and ({k}, 48), got {E.shape}, {D.shape}")
        apart = np.abs((x @ E).std(axis=0) - 1).max()
        expect(apart < 1e-6, f"the standard deviation of a channel differs from 1 by {apart:.2g}")
        lost, least = ((x @ E @ D - x) ** 2).mean(), variances[:-k].sum() / 48
        expect(lost < (1 + 1e-6) * least, f"{k} numbers lose {lost:.4g}, and need not lose more than {least:.4g}")
        for sigma in (0.3, 1.0):
            n = np.random.default_rng(0).standard_normal((20, len(x), k))
            drawn, found = (((x @ E + sigma * n) @ D - x) ** 2).mean(), noisy_error(x, E, D, sigma)
            # with one channel, `drawn` is a mean of 40,960 squares, good to 0.7%
            expect(abs(found / drawn - 1) < 0.03, f"with noise of {sigma:g} on {k} channels the error is {drawn:.3g}, "
                                                  f"found {found:.3g}")  # fmt: skip


if __name__ == "__main__":
    sys.exit(report(check))
