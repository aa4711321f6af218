"""Exercise 3: a schedule of your own.

The schedules of papers are defined by straight lines and cosines of t. Write the one in which the signal-to-noise ratio

    snr = alpha_bar / (1 - alpha_bar)

falls by the same factor from each t to the next, from `first` at t = 0 to `last` at t = T - 1. (Chapter 1 uses it.)

Hint: "by the same factor" is a straight line in the logarithm; solve the equation above for alpha_bar.
"""

import sys

import numpy as np
from checking import expect, report

from minidiff.diffusion import Noise, Process, Run, Schedule, ddim


def alpha_bar_of(T: int, first: float, last: float) -> np.ndarray:
    """Returns alpha_bar, (T,) float64, strictly falling inside (0, 1)."""
    raise NotImplementedError


def schedule_of(alpha_bar: np.ndarray) -> Schedule:
    """Returns the schedule with x_t = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps."""
    return Schedule("mine", np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar))


def check() -> None:
    """Raise an error that says what is missing, unless `alpha_bar_of` is right."""
    for T, first, last in ((1000, 3000.0, 1e-3), (7, 100.0, 0.25)):
        alpha_bar = alpha_bar_of(T, first, last)
        expect(np.shape(alpha_bar) == (T,), f"alpha_bar has shape {np.shape(alpha_bar)}, expected ({T},)")
        expect(0 < np.min(alpha_bar) <= np.max(alpha_bar) < 1, "alpha_bar must lie inside (0, 1)")
        expect((np.diff(alpha_bar) < 0).all(), "alpha_bar must fall: larger t is noisier")
        snr = schedule_of(alpha_bar).all.snr
        expect(np.isclose(snr[0], first), f"at t = 0 the snr should be {first:g}, got {snr[0]:g}")
        expect(np.isclose(snr[-1], last), f"at t = {T - 1} the snr should be {last:g}, got {snr[-1]:g}")
        factors = snr[1:] / snr[:-1]
        expect(np.allclose(factors, factors[0]), "the factor from one t to the next is not always the same")

    # and it draws: for data that is the number 0.5 alone, the ideal answer x0_hat is always 0.5
    process = Process(schedule_of(alpha_bar_of(1000, 3000.0, 1e-3)), "x0")
    noise = Noise(0, np.arange(4))

    def answer(x_t, t):
        return np.full_like(x_t, 0.5)

    *_, step = ddim(Run(answer, process, 50, noise), noise.start((1, 1, 1)))
    expect(np.allclose(step.x_prev, 0.5), "a sampler that is told the answer should arrive at it")


if __name__ == "__main__":
    sys.exit(report(check))
