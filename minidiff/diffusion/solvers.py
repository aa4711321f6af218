"""Fewer steps to the same image: samplers that look ahead or remember.

Idea: without fresh noise, x_t / a moves along a curve whose slope in sigma is the predicted noise,

    d(x_t / a) / d sigma = eps_hat

so sampling solves a differential equation.  Euler follows the slope at the start of each step.  Heun evaluates the
network again at the end of the step and takes the mean of both slopes.  DPM-Solver++ and UniPC remember the prediction
of the step before and extrapolate it, without another evaluation; UniPC also corrects each step once the next
prediction is known.  Halving the step divides the error of a method of order p by about 2^p.  `churned` and
`dpm_solver_sde` add fresh noise again.
The notation is that of samplers.py.  `SAMPLERS` at the end lists the samplers of both files.
"""

import functools
import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from minidiff.diffusion.process import eps_from_x0
from minidiff.diffusion.run import EPS_HAT, X0_HAT, X0_HAT_LAST, X_T, Run, Step, Update, Z
from minidiff.diffusion.samplers import ddim, ddpm, euler_ancestral
from minidiff.diffusion.schedule import Level
from minidiff.errors import MinidiffError


def euler(run: Run, x_T: np.ndarray, churn: float = 0.0) -> Iterator[Step]:
    """Euler's method: follow the slope at the start of the step.  Order 1.

        x_prev / a' = x_t / a + (sigma' - sigma) eps_hat        or        x_prev = a' x0_hat + s' eps_hat

    Without churn this is DDIM; on the flow schedule it is Euler's step along the flow's own velocity eps_hat - x0_hat,

        x_prev = x_t + (sigma_flow' - sigma_flow) (eps_hat - x0_hat)

    x_T: (N, H, W, C) float32.  churn: see `churned`.
    Source: Karras et al. 2022, arXiv:2206.00364, algorithm 2 without its lines 6 to 8; Lipman et al. 2022,
    arXiv:2210.02747 (flow).
    """
    _check_churn(churn)

    def loop(x_t: np.ndarray) -> Iterator[Step]:
        for index, (level, prev) in enumerate(pairwise(run.levels)):
            x_t, level = churned(run, x_t, level, index, churn)
            x0_hat, eps_hat = run.predict(x_t, level)
            c = (prev.a * X0_HAT + prev.s * EPS_HAT).coefficients(level)
            x_prev = run.noise.mix(x_t, x0_hat, None, c, index)
            x_t = yield from run.emit(index, level, x_t, x0_hat, eps_hat, x_prev, c)

    return loop(x_T)


def heun(run: Run, x_T: np.ndarray, churn: float = 0.0) -> Iterator[Step]:
    """Heun's method: Euler's step, another prediction where it ends, and the step again with the mean of both slopes.
    Order 2.

        d = eps_hat(x_t, sigma),   d' = eps_hat(x_t / a + (sigma' - sigma) d, sigma')
        x_prev / a' = x_t / a + (sigma' - sigma) (d + d') / 2

    Two evaluations a step; one in the last, where sigma' is 0, and where sigma is infinite.
    x_T: (N, H, W, C) float32.  churn: see `churned`.
    Source: Karras et al. 2022, arXiv:2206.00364, algorithm 2.
    """
    _check_churn(churn)

    def loop(x_t: np.ndarray) -> Iterator[Step]:
        for index, (level, prev) in enumerate(pairwise(run.levels)):
            x_t, level = churned(run, x_t, level, index, churn)
            x0_hat, eps_hat = run.predict(x_t, level)
            update = (prev.a * X0_HAT + prev.s * EPS_HAT).in_x_t(level)  # Euler's
            x_prev = run.noise.mix(x_t, x0_hat, None, update.coefficients(level), index)
            if prev.s and level.a:
                x0_hat_end, _ = run.predict(x_prev, prev)
                # d' = d + (x0_hat - x0_hat_end) / sigma', as both belong to x_prev; the mean adds half of the second
                half = (prev.sigma - level.sigma) / (2 * prev.sigma) * prev.a
                update = update + half * (X0_HAT - X0_HAT_LAST)  # with x0_hat_end in the place of x0_hat_last
                x_prev = run.noise.mix(x_t, x0_hat, x0_hat_end, update.coefficients(level), index)
            x_t = yield from run.emit(index, level, x_t, x0_hat, eps_hat, x_prev, update.coefficients(level))

    return loop(x_T)


def churned(run: Run, x_t: np.ndarray, level: Level, index: int, churn: float) -> tuple[np.ndarray, Level]:
    """Add a little noise before a step, so that this step can correct errors of the steps before.

        gamma = min(churn / steps, sqrt(2) - 1),   sigma_hat = (1 + gamma) sigma
        x_hat / a_hat = x_t / a + sqrt(sigma_hat^2 - sigma^2) z

    churn: 0 for none; EDM takes from 30 to 80, depending on the network.  Returns x_hat and its level.
    The network is evaluated at sigma_hat, which therefore does not exceed the largest sigma of the schedule.
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
    update = hat.a / level.a * X_T + hat.a * math.sqrt(sigma_hat**2 - level.sigma**2) * Z
    return run.noise.mix(x_t, x_t, None, update.coefficients(level), index), hat


def _check_churn(churn: float) -> None:
    if not 0 <= churn < math.inf:
        raise MinidiffError(f"churn must be 0 or more, got {churn:g}")


def dpm_solver(run: Run, x_T: np.ndarray) -> Iterator[Step]:
    """DPM-Solver++ (2M): remember the last prediction, and assume that x0_hat goes on changing as it did.  Order 2.

        lambda = ln(a / s),   h = lambda' - lambda,   r = (lambda - lambda_last) / h
        D = x0_hat + (x0_hat - x0_hat_last) / (2 r)
        x_prev = s' / s x_t - a' (e^-h - 1) D

    In lambda the equation's linear part is solved exactly, and only x0_hat has to be extrapolated.  The first step has
    no prediction before it, the last an infinite h: both take D = x0_hat, which is DDIM.  x_T: (N, H, W, C) float32.
    Source: Lu et al. 2022, arXiv:2211.01095, algorithm 2.
    """

    def update(last: Level | None, level: Level, prev: Level) -> Update:
        h = prev.log_snr - level.log_snr
        return prev.s / level.s * X_T - prev.a * math.expm1(-h) * _extrapolated(last, level, prev)

    return run.loop(x_T, update)


def dpm_solver_sde(run: Run, x_T: np.ndarray) -> Iterator[Step]:
    """SDE-DPM-Solver++ (2M): `dpm_solver` with fresh noise at every step.

        x_prev = s' / s e^-h x_t + a' (1 - e^-2h) D + s' sqrt(1 - e^-2h) z

    h and D as in `dpm_solver`.  With D = x0_hat it is DDPM's step.  x_T: (N, H, W, C) float32.
    Source: Lu et al. 2022, arXiv:2211.01095, section 4.3 and appendix B.4.
    """

    def update(last: Level | None, level: Level, prev: Level) -> Update:
        h = prev.log_snr - level.log_snr
        fresh = -math.expm1(-2 * h)  # 1 - e^-2h
        D = _extrapolated(last, level, prev)
        return prev.s / level.s * math.exp(-h) * X_T + prev.a * fresh * D + prev.s * math.sqrt(fresh) * Z

    return run.loop(x_T, update)


def _extrapolated(last: Level | None, level: Level, prev: Level) -> Update:
    """Return D = x0_hat + (x0_hat - x0_hat_last) / (2 r); x0_hat where lambda comes from, or goes to, infinity."""
    if last is None or not last.a or not prev.s:
        return X0_HAT
    one_by_2r = (prev.log_snr - level.log_snr) / (2 * (level.log_snr - last.log_snr))
    return X0_HAT + one_by_2r * (X0_HAT - X0_HAT_LAST)


def unipc(run: Run, x_T: np.ndarray) -> Iterator[Step]:
    """UniPC-2: predict as DPM-Solver++ does; correct the step with the prediction that the next one needs anyway.
    Order 3: that of the first prediction, 2, and 1 for the correction.

        B = e^-h - 1,   D1 = (x0_hat_last - x0_hat) / r,   r = (lambda_last - lambda) / h
        predict:  x_prev = s' / s x_t - a' B (x0_hat + D1 / 2)
        correct:  x_prev = s' / s x_t - a' B (x0_hat + rho_1 D1 + rho_2 (x0_hat' - x0_hat))

    with x0_hat' the prediction at the predicted x_prev, and rho such that the step is exact where x0_hat is a parabola
    in lambda (see `_rho`).  This r is below 0: it is minus the r of `dpm_solver`.  As many evaluations as Euler.  First
    and last step as in `dpm_solver`.  Each step shows the corrected x_t.  x_T: (N, H, W, C) float32.
    Source: Zhao et al. 2023, arXiv:2302.04867, algorithms 1 and 2 with B_2, order 2, predicting x0.
    """

    def step(
        x: np.ndarray,
        x0_hat: np.ndarray,
        x0_hat_last: Any,
        last: Level | None,
        level: Level,
        prev: Level,
        x0_hat_end: Any,
        index: int,
    ) -> np.ndarray:
        """The step from x at `level` to `prev`; corrected, if the prediction at its end is given."""
        h = prev.log_snr - level.log_snr
        B = math.expm1(-h)
        r, rho_1, rho_2 = 1.0, 0.0, 0.0 if x0_hat_end is None else 0.5
        if last is not None and last.a and prev.s:  # else lambda comes from, or goes to, infinity
            r = (last.log_snr - level.log_snr) / h
            rho_1, rho_2 = (0.5, 0.0) if x0_hat_end is None else _rho(h, r)
        on_last, on_end = -prev.a * B * rho_1 / r, -prev.a * B * rho_2
        update = prev.s / level.s * X_T - prev.a * B * X0_HAT + on_last * (X0_HAT_LAST - X0_HAT) - on_end * X0_HAT
        y = run.noise.mix(x, x0_hat, x0_hat_last if on_last else None, update.coefficients(level), index)
        if x0_hat_end is None:
            return y
        return run.noise.mix(y, x0_hat_end, None, (1.0, on_end, 0.0, 0.0), index)  # + on_end x0_hat'

    def loop(x_t: np.ndarray) -> Iterator[Step]:
        repeat: Callable | None = None  # the step before, to be repeated with the prediction at its end
        last: Level | None = None
        x0_hat_last: Any = None
        for index, (level, prev) in enumerate(pairwise(run.levels)):
            x0_hat, eps_hat = run.predict(x_t, level)
            if repeat is not None:
                x_t = repeat(x0_hat, index)
                eps_hat = eps_from_x0(x_t, x0_hat, level)
            repeat = functools.partial(step, x_t, x0_hat, x0_hat_last, last, level, prev)
            x_prev = repeat(None, index)
            x_t = yield from run.emit(index, level, x_t, x0_hat, eps_hat, x_prev)
            if x_t is not x_prev:
                repeat = None  # what was sent in its place is not to be corrected
            last, x0_hat_last = level, x0_hat

    return loop(x_T)


def _rho(h: float, r: float) -> tuple[float, float]:
    """Solve for the corrector's two weights, those of the predictions at r h and at h from the start of the step.

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


SamplerName = Literal["ddpm", "ddim", "euler", "euler-ancestral", "heun", "dpm-solver", "dpm-solver-sde", "unipc"]
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
