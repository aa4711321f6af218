"""Exercise 6: DDIM in disguise.

Divide a noisy image by sqrt(alpha_bar): the result is the clean image plus noise of size sigma,

    y = x_t / sqrt(alpha_bar) = x0 + sigma eps,      sigma = sqrt((1 - alpha_bar) / alpha_bar)

so as sigma shrinks, y moves with the velocity dy / dsigma = eps_hat. Take one Euler step from sigma to sigma_prev, that
is, y_prev = y + (sigma_prev - sigma) eps_hat, and convert y_prev back to x_prev. The check says whether that is DDIM.
"""

import sys

import numpy as np
from checking import expect, report

from minidiff import backend
from minidiff.diffusion import Noise, Process, Run, ddim, make_schedule


def euler_step(x_t: np.ndarray, eps_hat: np.ndarray, alpha_bar: float, alpha_bar_prev: float) -> np.ndarray:
    """One Euler step from alpha_bar to alpha_bar_prev, which is larger and may be 1. Returns x_prev, like x_t."""
    raise NotImplementedError


def check() -> None:
    """Raise an error that says what is missing, unless `euler_step` is right."""
    rng = np.random.default_rng(0)
    x0, eps = rng.normal(size=(2, 4, 4, 3)), rng.normal(size=(2, 4, 4, 3))
    x_t = np.sqrt(0.3) * x0 + np.sqrt(0.7) * eps
    expect(np.allclose(euler_step(x_t, eps, 0.3, 1.0), x0), "told the true noise, a step to alpha_bar = 1 gives x0")
    expect(np.allclose(euler_step(x_t, eps, 0.3, 0.3), x_t), "a step to the same alpha_bar changes nothing")

    process, noise = Process(make_schedule("cosine"), "eps"), Noise(0, np.arange(2))
    w = rng.normal(size=(3, 3))

    def denoise(x_t, t):  # any function will do
        return np.tanh(x_t @ w + t / 1000)

    x_T = noise.start((4, 4, 3)).astype(np.float64)
    alpha_bars = [*process.schedule.alpha_bar, 1.0]
    with backend.using("numpy"):  # float64
        steps = list(ddim(Run(denoise, process, 20, noise, clip="none"), x_T))
    for step in steps:
        mine = euler_step(step.x_t, step.eps_hat, alpha_bars[step.t], alpha_bars[step.t_prev])
        expect(np.allclose(mine, step.x_prev), f"at t = {step.t} the step differs from DDIM's")


if __name__ == "__main__":
    sys.exit(report(check))
