"""Fewer steps to the same image: samplers that look ahead or remember.

Idea: without fresh noise, x_t / a moves along a curve, and its slope in sigma is the noise that the network sees,

    d(x_t / a) / d sigma = eps_hat

so sampling is the solving of a differential equation.  Euler follows the slope at the start of each step; Heun asks
again at the step's end and takes the mean; DPM-Solver++ and UniPC remember what the network said before and bend their
steps accordingly, at no cost.  An order of p means: half the step, 2^-p of the error.
After samplers.py, whose notation it shares.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from minidiff.diffusion.clipping import Clipping
from minidiff.diffusion.guidance import Denoise
from minidiff.diffusion.process import Process, eps_from_x0
from minidiff.diffusion.samplers import Coefficients, Noise, Run, Step, ddim, ddpm, euler_ancestral, from_eps
from minidiff.diffusion.schedule import Level
from minidiff.errors import MinidiffError


def euler(
    denoise: Denoise,
    process: Process,
    x_T: np.ndarray,
    steps: int | Sequence[Level],
    noise: Noise,
    clip: str | Clipping = "clip",
    churn: float = 0.0,
) -> Iterator[Step]:
    """Euler's method: follow the slope at the start of the step.  Order 1.

        x_prev / a' = x_t / a + (sigma' - sigma) eps_hat

    Without churn this is DDIM; and on the flow it is Euler's step along the flow's own velocity eps_hat - x0_hat,

        x_prev = x_t + (sigma_flow' - sigma_flow) (eps_hat - x0_hat)

    churn: see `churned`; the rest as in `samplers.ddpm`.
    Source: Karras et al. 2022, arXiv:2206.00364, algorithm 2 without its lines 6 to 8; Lipman et al. 2022,
    arXiv:2210.02747 (flow).
    """
    run = Run(denoise, process, steps, noise, clip)
    _check_churn(churn)

    def loop(x_t: np.ndarray) -> Iterator[Step]:
        for index, (level, prev) in enumerate(pairwise(run.levels)):
            x_t, level = churned(run, x_t, level, index, churn)
            x0_hat, eps_hat = run.guess(x_t, level)
            c = (*from_eps(prev.s, level, prev), 0.0, 0.0)
            x_prev = noise.mix(x_t, x0_hat, None, c, index)
            x_t = yield from run.tell(index, level, x_t, x0_hat, eps_hat, x_prev, c)

    return loop(x_T)


def heun(
    denoise: Denoise,
    process: Process,
    x_T: np.ndarray,
    steps: int | Sequence[Level],
    noise: Noise,
    clip: str | Clipping = "clip",
    churn: float = 0.0,
) -> Iterator[Step]:
    """Heun's method: Euler's step, ask again where it ends, and repeat it with the mean of both slopes.  Order 2.

        d = eps_hat(x_t, sigma),   d' = eps_hat(x_t / a + (sigma' - sigma) d, sigma')
        x_prev / a' = x_t / a + (sigma' - sigma) (d + d') / 2

    Two evaluations a step; one in the last, where sigma' is 0, and where sigma is infinite.
    churn: see `churned`; the rest as in `samplers.ddpm`.
    Source: Karras et al. 2022, arXiv:2206.00364, algorithm 2.
    """
    run = Run(denoise, process, steps, noise, clip)
    _check_churn(churn)

    def loop(x_t: np.ndarray) -> Iterator[Step]:
        for index, (level, prev) in enumerate(pairwise(run.levels)):
            x_t, level = churned(run, x_t, level, index, churn)
            x0_hat, eps_hat = run.guess(x_t, level)
            c = (*from_eps(prev.s, level, prev), 0.0, 0.0)
            x_prev = noise.mix(x_t, x0_hat, None, c, index)
            if prev.s and level.a:
                x0_hat_there, _ = run.guess(x_prev, prev)
                # d' = d + (x0_hat - x0_hat_there) / sigma', as both belong to x_prev; the mean adds half of the second
                half = (prev.sigma - level.sigma) / (2 * prev.sigma) * prev.a
                c = c[0], c[1] + half, -half, 0.0
                x_prev = noise.mix(x_t, x0_hat, x0_hat_there, c, index)
            x_t = yield from run.tell(index, level, x_t, x0_hat, eps_hat, x_prev, c)

    return loop(x_T)


def churned(run: Run, x_t: np.ndarray, level: Level, index: int, churn: float) -> tuple[np.ndarray, Level]:
    """Put a little noise back on before a step, which washes away the errors of the steps before.

        gamma = min(churn / steps, sqrt(2) - 1),   sigma_hat = (1 + gamma) sigma
        x_hat / a_hat = x_t / a + sqrt(sigma_hat^2 - sigma^2) z

    churn: 0 for none; EDM takes 40 for CIFAR-10, 80 for ImageNet.  Returns x_hat and its level.
    The network is told sigma_hat, which therefore does not exceed the largest sigma that it knows.
    Source: Karras et al. 2022, arXiv:2206.00364, algorithm 2, lines 4 to 6, with S_noise = 1 and S_tmin = 0, S_tmax =
    infinity.
    """
    if not churn or not level.a:
        return x_t, level
    known = run.process.schedule.all.sigma
    gamma = min(churn / (len(run.levels) - 1), math.sqrt(2) - 1)
    sigma_hat = min((1 + gamma) * level.sigma, known[np.isfinite(known)][-1])
    if sigma_hat <= level.sigma:
        return x_t, level
    hat = run.process.schedule.at_sigma(sigma_hat)
    on_z = hat.a * math.sqrt(sigma_hat**2 - level.sigma**2)
    return run.noise.mix(x_t, x_t, None, (hat.a / level.a, 0.0, 0.0, on_z), index), hat


def _check_churn(churn: float) -> None:
    if not 0 <= churn < math.inf:
        raise MinidiffError(f"churn must be 0 or more, got {churn:g}")


def dpm_solver(
    denoise: Denoise,
    process: Process,
    x_T: np.ndarray,
    steps: int | Sequence[Level],
    noise: Noise,
    clip: str | Clipping = "clip",
) -> Iterator[Step]:
    """DPM-Solver++ (2M): remember the guess before, and assume that x0_hat goes on changing as it did.  Order 2.

        lambda = ln(a / s),   h = lambda' - lambda,   r = (lambda - lambda before) / h
        D = x0_hat + (x0_hat - x0_hat before) / (2 r)
        x_prev = s' / s x_t - a' (e^-h - 1) D

    In lambda the equation's linear part is solved exactly, and only x0_hat has to be extrapolated.  The first step has
    nothing to remember, the last an infinite h: both take D = x0_hat, which is DDIM.  Arguments as in `samplers.ddpm`.
    Source: Lu et al. 2022, arXiv:2211.01095, algorithm 2.
    """

    def coefficients(before: Level | None, level: Level, prev: Level) -> Coefficients:
        h = prev.log_snr - level.log_snr
        on_D = -prev.a * math.expm1(-h)
        bend = _bend(before, level, prev)
        return prev.s / level.s, on_D * (1 + bend), -on_D * bend, 0.0

    return Run(denoise, process, steps, noise, clip).loop(x_T, coefficients)


def dpm_solver_sde(
    denoise: Denoise,
    process: Process,
    x_T: np.ndarray,
    steps: int | Sequence[Level],
    noise: Noise,
    clip: str | Clipping = "clip",
) -> Iterator[Step]:
    """SDE-DPM-Solver++ (2M): the same with fresh noise at every step, as in `samplers.ddpm` but bent.

        x_prev = s' / s e^-h x_t + a' (1 - e^-2h) D + s' sqrt(1 - e^-2h) z

    h and D as in `dpm_solver`.  With D = x0_hat it is DDPM's step.  Arguments as in `samplers.ddpm`.
    Source: Lu et al. 2022, arXiv:2211.01095, section 4.3 and appendix B.4.
    """

    def coefficients(before: Level | None, level: Level, prev: Level) -> Coefficients:
        h = prev.log_snr - level.log_snr
        fresh = -math.expm1(-2 * h)
        bend = _bend(before, level, prev)
        return (
            prev.s / level.s * math.exp(-h),
            prev.a * fresh * (1 + bend),
            -prev.a * fresh * bend,
            prev.s * math.sqrt(fresh),
        )

    return Run(denoise, process, steps, noise, clip).loop(x_T, coefficients)


def _bend(before: Level | None, level: Level, prev: Level) -> float:
    """Return 1 / (2 r), how much of x0_hat's last change is added; 0 where lambda comes from, or goes to, infinity."""
    if before is None or not before.a or not prev.s:
        return 0.0
    return (prev.log_snr - level.log_snr) / (2 * (level.log_snr - before.log_snr))


def unipc(
    denoise: Denoise,
    process: Process,
    x_T: np.ndarray,
    steps: int | Sequence[Level],
    noise: Noise,
    clip: str | Clipping = "clip",
) -> Iterator[Step]:
    """UniPC-2: predict as DPM-Solver++ does; where the network is asked next anyway, correct what led there.  Order 3.

        B = e^-h - 1,   D1 = (x0_hat before - x0_hat) / r,   r = (lambda before - lambda) / h
        predict:  x_prev = s' / s x_t - a' B (x0_hat + D1 / 2)
        correct:  x_prev = s' / s x_t - a' B (x0_hat + rho_1 D1 + rho_2 (x0_hat' - x0_hat))

    with x0_hat' the guess at the predicted x_prev, and rho such that the step is exact where x0_hat is a parabola in
    lambda (see `_rho`).  No evaluation more than Euler.  First and last step as in `dpm_solver`.  Each step shows the
    corrected x_t.  Arguments as in `samplers.ddpm`.
    Source: Zhao et al. 2023, arXiv:2302.04867, algorithms 1 and 2 with B_2, order 2, predicting x0.
    """
    run = Run(denoise, process, steps, noise, clip)

    def update(
        x: np.ndarray,
        x0_hat: np.ndarray,
        x0_hat_before: Any,
        before: Level | None,
        level: Level,
        prev: Level,
        x0_hat_there: Any,
        index: int,
    ) -> np.ndarray:
        """The step from x at `level` to `prev`; corrected, if the guess there is known."""
        h = prev.log_snr - level.log_snr
        B = math.expm1(-h)
        r, rho_1, rho_2 = 1.0, 0.0, 0.0 if x0_hat_there is None else 0.5
        if before is not None and before.a and prev.s:  # else lambda comes from, or goes to, infinity
            r = (before.log_snr - level.log_snr) / h
            rho_1, rho_2 = (0.5, 0.0) if x0_hat_there is None else _rho(h, r)
        on_before, on_there = -prev.a * B * rho_1 / r, -prev.a * B * rho_2
        on_x0_hat = -prev.a * B - on_before - on_there
        y = noise.mix(
            x, x0_hat, x0_hat_before if on_before else None, (prev.s / level.s, on_x0_hat, on_before, 0.0), index
        )
        return y if x0_hat_there is None else noise.mix(y, x0_hat_there, None, (1.0, on_there, 0.0, 0.0), index)

    def loop(x_t: np.ndarray) -> Iterator[Step]:
        taken: Callable | None = None  # the step before, to be taken again with the guess at its end
        before: Level | None = None
        x0_hat_before: Any = None
        for index, (level, prev) in enumerate(pairwise(run.levels)):
            x0_hat, eps_hat = run.guess(x_t, level)
            if taken is not None:
                x_t = taken(x0_hat, index)
                eps_hat = eps_from_x0(x_t, x0_hat, level)
            taken = functools.partial(update, x_t, x0_hat, x0_hat_before, before, level, prev)
            x_prev = taken(None, index)
            x_t = yield from run.tell(index, level, x_t, x0_hat, eps_hat, x_prev)
            if x_t is not x_prev:
                taken = None  # what was put in its place is not to be corrected
            before, x0_hat_before = level, x0_hat

    return loop(x_T)


def _rho(h: float, r: float) -> tuple[float, float]:
    """Solve for the corrector's two weights, those of the guesses at r h behind and at h ahead of the step's start.

        rho_1 + rho_2 = b_1,   r rho_1 + rho_2 = b_2
        b_1 = (phi / g - 1) / phi,   b_2 = 2 ((phi / g - 1) / g - 1/2) / phi,   g = -h,   phi = e^g - 1

    Source: Zhao et al. 2023, arXiv:2302.04867, theorem 3.1 with eq. 8 and 9.
    """
    g = -h
    phi = math.expm1(g)
    b_1 = (phi / g - 1) / phi
    b_2 = 2 * ((phi / g - 1) / g - 0.5) / phi
    rho_1 = (b_2 - b_1) / (r - 1)
    return rho_1, b_1 - rho_1


Sampler = Literal[
    "ddpm", "ddim", "euler", "euler-ancestral", "heun", "dpm-solver", "dpm-solver-sde", "unipc"
]  # the names, for who checks them before the code runs
SAMPLERS: dict[str, Callable[..., Iterator[Step]]] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "euler": euler,
    "euler-ancestral": euler_ancestral,
    "heun": heun,
    "dpm-solver": dpm_solver,
    "dpm-solver-sde": dpm_solver_sde,
    "unipc": unipc,
}
