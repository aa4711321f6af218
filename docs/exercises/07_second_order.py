"""Exercise 7: a second-order step, from what it must do.

DDIM's step uses x_t and x0_hat.  Find a step that also uses the estimate of the step before,

    x_prev = c_x x_t + c_x0 x0_hat + c_last x0_hat_last

Three properties determine its coefficients, which depend on three levels alone: the one before, the one from which the
step starts, and the one to which it goes.

1. If both estimates are 0, only noise is left, and the step scales it: x_t = s eps becomes s' eps.
2. If both estimates are x0, the step is exact: x_t = a x0 becomes a' x0.
3. If the estimate is a linear function of lambda = ln(a / s), the step is exact, however long it is.

Hint: let the estimate be lambda itself.  In lambda, the equation of the chapter is dy / d lambda = x0_hat - y, with
y = x_t / a.  One of its solutions is lambda plus a constant.  Where does it start, and where must the step arrive?

The check also follows a path whose end is known, 20 times and 40 times: the error must become about four times smaller.
"""

import math
import sys

import numpy as np
from checking import expect, report

from minidiff.diffusion import Level, make_schedule


def coefficients(before: Level, level: Level, prev: Level) -> tuple[float, float, float]:
    """Return c_x, c_x0 and c_last of the step from `level` to `prev`, less noisy; `before` was the level before.

    Each level has a, s and log_snr, which is lambda.
    """
    raise NotImplementedError


SCHEDULE = make_schedule("exponential")
ROUNDING = 1e-9  # numbers are below 20 in float64, and a difference of nearly equal ones loses some of its 16 digits


def step(x_t: np.ndarray, x0_hat: np.ndarray, x0_hat_last: np.ndarray, *levels: Level) -> np.ndarray:
    """The step with your coefficients."""
    c_x, c_x0, c_last = coefficients(*levels)
    return c_x * x_t + c_x0 * x0_hat + c_last * x0_hat_last


def ideal(x_t: np.ndarray, level: Level) -> np.ndarray:
    """The exact x0_hat for numbers that are normally distributed, N(0.5, 0.3^2)."""
    return 0.5 + 0.09 * level.a * (x_t - level.a * 0.5) / (0.09 * level.a**2 + level.s**2)


def error(n: int) -> float:
    """How far n steps, of which the first is DDIM's, end from where the path of these numbers ends."""
    path = [SCHEDULE.level(t) for t in range(900, 99, -800 // n)]
    start = x = np.linspace(-2, 2, 9)
    x0_hat_last = np.zeros(9)
    for before, level, prev in zip([None, *path], path, path[1:]):
        x0_hat = ideal(x, level)
        if before is None:
            x = prev.a * x0_hat + prev.s / level.s * (x - level.a * x0_hat)
        else:
            x = step(x, x0_hat, x0_hat_last, before, level, prev)
        x0_hat_last = x0_hat
    spread = [math.hypot(0.3 * level.a, level.s) for level in (path[0], path[-1])]
    end = path[-1].a * 0.5 + (start - path[0].a * 0.5) * spread[1] / spread[0]
    return float(np.abs(x - end).max())


def check() -> None:
    """Raise an error that says what is missing, unless `coefficients` has the three properties."""
    eps, x0, slope = np.random.default_rng(0).normal(size=(3, 5))
    for times in ((700, 600, 450), (700, 650, 640), (400, 200, 100)):
        _, level, prev = levels = [SCHEDULE.level(t) for t in times]
        off = np.abs(step(level.s * eps, 0 * x0, 0 * x0, *levels) - prev.s * eps).max()
        expect(off < ROUNDING, f"property 1: noise alone is off by up to {off:.2g}")
        off = np.abs(step(level.a * x0, x0, x0, *levels) - prev.a * x0).max()
        expect(off < ROUNDING, f"property 2: an image that stays the same is off by up to {off:.2g}")
        line = [x0 + slope * each.log_snr for each in levels]
        path = [each.a * (x0 + slope * (each.log_snr - 1)) + each.s * eps for each in levels]
        off = np.abs(step(path[1], line[1], line[0], *levels) - path[2]).max()
        expect(off < ROUNDING, f"property 3: with an estimate that is linear in lambda, the step is off by up to "
                               f"{off:.2g} (so is DPM-Solver++'s)")  # fmt: skip
    ratio = error(20) / error(40)  # 4 for order 2, 2 for order 1
    expect(ratio > 3, f"twice the steps made the error {ratio:.1f} times smaller, not 4")


if __name__ == "__main__":
    sys.exit(report(check))
