"""Exercise 12: DPM-Solver++.

DDIM does not use the estimate of the previous step. DPM-Solver++ (2M) compares the two estimates x0_hat, and assumes
that x0_hat continues to change in the same way, in lambda = ln(a / s):

    h = lambda' - lambda,      r = (lambda - lambda before) / h
    D = x0_hat + (x0_hat - x0_hat before) / (2 r)
    x_prev = s' / s x_t - a' (e^-h - 1) D

The check compares one step with minidiff's, and then follows a path whose end is known with your step, 20 times and
40 times: the error must become about four times smaller, not two.
"""

import math
import sys

import numpy as np
from checking import expect, report

from minidiff import backend
from minidiff.diffusion import CLEAN, Level, Noise, Process, Run, ddim, dpm_solver, make_schedule


def step(
    x_t: np.ndarray, x0_hat: np.ndarray, x0_hat_before: np.ndarray, before: Level, level: Level, prev: Level
) -> np.ndarray:
    """One step from `level` to `prev`, less noisy; `before` was the level before. Each has a, s. Returns x_prev."""
    raise NotImplementedError


SCHEDULE = make_schedule("exponential")


def denoise(x_t, t):
    """The exact x0_hat for numbers that are normally distributed, N(0.5, 0.3^2)."""
    level = SCHEDULE.level(int(t))
    return 0.5 + 0.09 * level.a * (x_t - level.a * 0.5) / (0.09 * level.a**2 + level.s**2)


def check() -> None:
    """Raise an error that says what is missing, unless `step` is right."""
    one, two, three = (SCHEDULE.level(t) for t in (700, 600, 450))
    x0, eps = np.random.default_rng(0).normal(size=(2, 5, 1, 1, 1))
    found = step(two.a * x0 + two.s * eps, x0, x0, one, two, three)
    expect(np.allclose(found, three.a * x0 + three.s * eps), "if x0_hat does not change, the step is DDIM's")

    noise = Noise(0, np.arange(5))
    x_T = noise.start((1, 1, 1)).astype(np.float64)
    process, path = Process(SCHEDULE, "x0"), [one, two, three, CLEAN]
    with backend.using("numpy"):  # float64
        steps = list(dpm_solver(Run(denoise, process, path, noise, clip="none"), x_T))
    found = step(steps[1].x_t, steps[1].x0_hat, steps[0].x0_hat, one, two, three)
    expect(np.allclose(found, steps[1].x_prev), f"a step is off by up to {np.abs(found - steps[1].x_prev).max():.2g}")

    errors = []
    for n in (20, 40):
        path = [SCHEDULE.level(t) for t in range(900, 99, -800 // n)]
        with backend.using("numpy"):
            *_, first = ddim(Run(denoise, process, [*path[:2], CLEAN], noise, clip="none"), x_T)
        x, guess_before, here = first.x_t, denoise(x_T, path[0].t), path[1]
        for k in range(1, n):
            guess = denoise(x, path[k].t)
            x, guess_before, here = step(x, guess, guess_before, path[k - 1], path[k], path[k + 1]), guess, path[k + 1]
        begin = path[0]
        true = here.a * 0.5 + (x_T - begin.a * 0.5) * math.hypot(0.3 * here.a, here.s) / math.hypot(
            0.3 * begin.a, begin.s
        )
        errors.append(np.abs(x - true).max())
    expect(
        errors[0] > 3 * errors[1], f"twice the steps made the error {errors[0] / errors[1]:.1f} times smaller, not 4"
    )


if __name__ == "__main__":
    sys.exit(report(check))
