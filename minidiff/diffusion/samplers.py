"""From noise to image: predict the noise, take some of it away, predict again.

Idea: x_t is pure noise at first.  At each noise level the network predicts the image x0_hat and the noise eps_hat in
x_t.  The sampler mixes the two again, with less noise than before, which gives x_prev at the next level.  Every sampler
is a generator of `Step`s, so viewers, recorders and tests run the same loop:

    noise = Noise(seed, samples)
    for step in ddim(Run(denoise, process, 50, noise), noise.start((H, W, C))):
        show(step.x0_hat)

`level` is where a step comes from, with a, s and sigma = s / a in the equations; `prev` is where it goes, with a', s'
and sigma'.
A formula is written with symbols such as X0_HAT; `Update.coefficients` in run.py turns it into the four numbers that
the kernel takes.
Here are DDPM, DDIM and Euler's ancestral sampler.  Leaves out the samplers that are derived from a differential
equation (solvers.py), and the table of all samplers, `SAMPLERS` at the end of solvers.py, to which a new one is added.
"""

from collections.abc import Iterator

import numpy as np

from minidiff.diffusion.run import EPS_HAT, X0_HAT, X_T, Run, Step, Update, Z
from minidiff.diffusion.schedule import Level
from minidiff.errors import MinidiffError

VARIANCES = ("small", "large")


def ddpm(run: Run, x_T: np.ndarray, variance: str = "small", noisy_end: bool = False) -> Iterator[Step]:
    """Ancestral sampling: draw x_prev from the posterior q(x_prev | x_t, x0_hat).

        alpha = a / a',  beta = s^2 - alpha^2 s'^2        x_t = alpha x_prev + sqrt(beta) z is one step of noising
        mean = a' beta / s^2 x0_hat + alpha s'^2 / s^2 x_t
        variance = s'^2 / s^2 beta ("small"; exact if x0 is known) or beta ("large"; exact if x0 is N(0, 1) noise)
        x_prev = mean + sqrt(variance) z

    x_T: (N, H, W, C) float32, see `Noise.start`.
    noisy_end: with variance "large", let the image itself have some noise, unless the last step comes from t = 0, as
    the `diffusers` library does.
    With fewer steps than T, alpha and beta are those of the leap between two levels.
    Source: Ho et al. 2020, arXiv:2006.11239, algorithm 2 with eq. 7 and section 3.2, for a^2 = alpha_bar.
    """
    if variance not in VARIANCES:
        raise MinidiffError(f"variance must be one of {', '.join(VARIANCES)}, got {variance!r}")

    def update(last: Level | None, level: Level, prev: Level) -> Update:
        alpha = level.a / prev.a
        beta = level.s**2 - alpha**2 * prev.s**2
        mean = prev.a * beta / level.s**2 * X0_HAT + alpha * prev.s**2 / level.s**2 * X_T
        if not prev.s and not (noisy_end and level.t):
            return mean  # the image itself gets no noise
        return mean + np.sqrt(beta if variance == "large" else prev.s**2 / level.s**2 * beta) * Z

    return run.loop(x_T, update)


def ddim(run: Run, x_T: np.ndarray, eta: float = 0.0) -> Iterator[Step]:
    """Denoising diffusion implicit model: keep eps_hat, shrink it; with eta above 0 part of it is drawn anew.

        sigma_step = eta s' / s sqrt(s^2 - (a / a')^2 s'^2)
        x_prev = a' x0_hat + sqrt(s'^2 - sigma_step^2) eps_hat + sigma_step z

    x_T: (N, H, W, C) float32.  eta: from 0, a fixed path from noise to image, to 1, which is `ddpm`.
    Source: Song et al. 2020, arXiv:2010.02502, eq. 12 and 16, for a^2 = alpha_bar.
    """
    if not 0 <= eta <= 1:
        raise MinidiffError(f"eta must be in [0, 1], got {eta:g}")

    def update(last: Level | None, level: Level, prev: Level) -> Update:
        beta = max(0.0, level.s**2 - (level.a / prev.a) ** 2 * prev.s**2)  # below 0 only by rounding
        sigma_step = eta * prev.s / level.s * np.sqrt(beta)
        return prev.a * X0_HAT + np.sqrt(max(0.0, prev.s**2 - sigma_step**2)) * EPS_HAT + sigma_step * Z

    return run.loop(x_T, update)


def euler_ancestral(run: Run, x_T: np.ndarray) -> Iterator[Step]:
    """Euler's step to less noise than is wanted, and fresh noise on top: DDPM in the coordinates of sigma.

        sigma_up = sigma' sqrt(1 - (sigma' / sigma)^2),   sigma_down = sigma'^2 / sigma
        x_prev = a' (x0_hat + sigma_down eps_hat + sigma_up z)

    so that sigma_down^2 + sigma_up^2 = sigma'^2.  x_T: (N, H, W, C) float32.
    Source: Song et al. 2020, arXiv:2011.13456, appendix F (ancestral sampling for SMLD); its name,
    and the update by Euler's step, are from Crowson's k-diffusion.
    """

    def update(last: Level | None, level: Level, prev: Level) -> Update:
        ratio = prev.s * level.a / (prev.a * level.s)  # sigma' / sigma, also where sigma is infinite
        return prev.a * X0_HAT + prev.s * ratio * EPS_HAT + prev.s * np.sqrt(1 - ratio**2) * Z  # a' sigma' = s'

    return run.loop(x_T, update)
