"""Exercise 8: estimating noise.

A noisy image is y = x0 + sigma n, with normal noise n and unknown x0 and sigma. Estimate sigma.

Hint: where x0 is smooth, the difference d of two neighbours is nearly noise alone. What is the variance of a
difference of two independent numbers? Some neighbours lie across an edge and differ by a lot: a median is hardly
affected, a mean is. Half of all normal numbers N(0, 1) lie between -0.6745 and 0.6745.
"""

import sys

import numpy as np
from checking import expect, report

from minidiff.images.files import to_float
from minidiff.scenes import Scenes


def noise_level(y: np.ndarray) -> float:
    """y: (H, W, 3) float, a noisy image. Returns about sigma."""
    raise NotImplementedError


def check() -> None:
    """Raise an error that says what is missing, unless `noise_level` is right."""
    rng = np.random.default_rng(0)
    n = rng.standard_normal((64, 64, 3))
    for sigma in (0.05, 1.0):
        found = noise_level(sigma * n)
        expect(abs(found / sigma - 1) < 0.05, f"noise of {sigma:g} on nothing: found {found:.3g}")
    ramp = np.broadcast_to(np.linspace(-1, 1, 64)[:, None, None], (64, 64, 3))
    expect(abs(noise_level(ramp + 0.3 * n) / 0.3 - 1) < 0.1, "a sky that slowly changes its colour is not noise")

    for number in (5, 21, 32):
        x0 = to_float(Scenes(size=64, split="test").batch(np.array([number]))[0][0])
        for sigma in (0.2, 0.5):
            found = noise_level(x0 + sigma * n)
            expect(abs(found / sigma - 1) < 0.15, f"noise of {sigma:g} on scene {number}: found {found:.3g}")


if __name__ == "__main__":
    sys.exit(report(check))
