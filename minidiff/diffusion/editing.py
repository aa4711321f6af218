"""Editing: sampling that starts from an image instead of pure noise.

Idea: a noisy image is a clean image plus noise, and a sampler removes noise from whatever level it starts at.
`img2img` adds some noise to an image and samples from there: what the noise has covered is drawn anew.
`denoise` adds none: the sampler removes the noise that the image already has.
`inpaint` puts the known part of an image back after every step, so that only the rest is drawn.
`invert` runs DDIM backwards and finds the noise from which DDIM draws an image.  Mixed with other noise, it gives
variations (`vary`); mixed with the noise of another image, it gives an interpolation (`slerp`).
The first three take any sampler, as a function of x, levels and noise (`Sample`).
Leaves out how one of them is chosen: edit.py.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from minidiff import backend, random
from minidiff.diffusion.guidance import Denoise
from minidiff.diffusion.process import SIGMA_DATA, Process
from minidiff.diffusion.run import Noise, Step
from minidiff.diffusion.schedule import CLEAN, Level, Schedule
from minidiff.errors import MinidiffError
from minidiff.random import Key, Stream

Sample = Callable[
    [np.ndarray, Sequence[Level], Noise], Iterator[Step]
]  # a sampler as a function of x, levels and noise; its other arguments are fixed


def add_noise_at(x0: np.ndarray, level: Level, noise: Noise, draw: int = 0) -> np.ndarray:
    """Return x_t = a x0 + s eps, images x0 with noise added: (N, H, W, C).  draw: a number for each draw of a run."""
    eps = random.normal(Key(noise.seed, Stream.KNOWN, draw, noise.samples), x0.shape[1:]).astype(x0.dtype)
    return level.a * x0 + level.s * eps


def img2img(sample: Sample, levels: Sequence[Level], x0: np.ndarray, noise: Noise) -> Iterator[Step]:
    """Image to image (SDEdit): add noise to the images x0 (N, H, W, C), and sample from there.

    levels: the first one says how much noise, see `last_levels`.
    Source: Meng et al. 2021, arXiv:2108.01073, section 3.
    """
    return sample(add_noise_at(x0, levels[0], noise), levels, noise)


def last_levels(levels: Sequence[Level], strength: float, schedule: Schedule) -> Sequence[Level]:
    """Return the last of the levels, for a share `strength` of all steps.

    strength: from 0 to 1.  A strength of less than one step starts within the last step, with
    proportionally less noise; 0 leaves no step.
    """
    if not 0 <= strength <= 1:
        raise MinidiffError(f"strength must be from 0 to 1, got {strength:g}")
    share = strength * (len(levels) - 1)
    if share >= 1:
        return levels[-round(share) - 1 :]
    # A share of the angle arctan(sigma), as sigma may be infinite; for a small sigma it is a share of sigma.
    start = math.tan(share * math.atan(levels[-2].sigma))
    return [*([schedule.at_sigma(start)] if start else []), levels[-1]]


def unchanged(x0: np.ndarray) -> Iterator[Step]:
    """Yield one step that changes nothing in the images x0 (N, H, W, C)."""
    yield Step(0, CLEAN, CLEAN, x0, x0, 0 * x0, x0, steps=1, evaluations=0)


def denoise(
    sample: Sample, levels: Sequence[Level], y: np.ndarray, sigma: float, schedule: Schedule, noise: Noise
) -> Iterator[Step]:
    """Remove noise that the images y = x0 + sigma n have, n ~ N(0, 1): (N, H, W, C).

    x_t = a y belongs to the level with this sigma; the sampler starts from there.
    Source: Kawar et al. 2021, arXiv:2101.09552, section 3, for a stochastic sampler.
    """
    if not 0 < sigma < math.inf:
        raise MinidiffError(f"sigma, the noise on the image, must be above 0, got {sigma:g}")
    start = schedule.at_sigma(sigma)
    return sample(start.a * y, [start, *(level for level in levels if level.sigma < 0.98 * sigma)], noise)


def estimate_sigma(y: np.ndarray) -> float:
    """Estimate how much noise images have, the sigma of y = x0 + sigma n: (N, H, W, C) to one number.

        detail = (y[i, j] - y[i, j + 1] - y[i + 1, j] + y[i + 1, j + 1]) / 2
        sigma = median |detail| / 0.6745          0.6745 is the median of |N(0, 1)|

    Such a difference has the standard deviation of the noise, and is nearly 0 in smooth areas without noise; edges are
    few, so they do not move the median.

    Fine texture is counted as noise.  Source: Donoho and Johnstone 1994, doi:10.1093/biomet/81.3.425, section 4.1.
    """
    y = backend.to_numpy(y)
    detail = (y[:, :-1, :-1] - y[:, :-1, 1:] - y[:, 1:, :-1] + y[:, 1:, 1:]) / 2
    return float(np.median(np.abs(detail)) / 0.6745)


def inpaint(
    sample: Sample,
    levels: Sequence[Level],
    x0: np.ndarray,
    mask: np.ndarray,
    noise: Noise,
    resample: int = 1,
    jump: int = 10,
    x: np.ndarray | None = None,
) -> Iterator[Step]:
    """Draw anew where the mask is 1, and keep the image x0 (N, H, W, C) where it is 0.

        x_prev <- mask x_prev + (1 - mask) (a' x0 + s' eps)         after every step, with fresh eps

    mask: (H, W, 1) or (N, H, W, 1) from 0 to 1.
    levels: with only the last ones, what is drawn anew starts from x0 plus noise, as in `img2img`.
    resample: every `jump` steps are repeated so many times, with noise added again in between, so that the drawn part
        adapts to the kept one, and edges fit.
    Sources: Song et al. 2020, arXiv:2011.13456, appendix I.2; resampling: Lugmayr et al. 2022, arXiv:2201.09865,
    algorithm 1 (RePaint).
    """
    if resample < 1 or jump < 1:
        raise MinidiffError(f"resample and jump must be 1 or more, got {resample} and {jump}")
    steps = len(levels) - 1
    jump = jump if resample > 1 else steps

    def loop(x: np.ndarray) -> Iterator[Step]:
        index, evaluations = 0, 0
        for first in range(0, steps, jump):
            part = levels[first : first + jump + 1]
            for again in range(resample):
                if again:
                    x = noisier(x, part[-1], part[0], noise, index)
                so_far = evaluations
                run = sample(x, part, replace(noise, first=noise.first + index))
                x_prev: Any = None
                while (step := _next(run, x_prev)) is not None:
                    index, evaluations = index + 1, so_far + step.evaluations
                    x_prev = mask * step.x_prev + (1 - mask) * add_noise_at(x0, step.prev, noise, noise.first + index)
                    count = steps * resample
                    yield replace(step, index=index - 1, x_prev=x_prev, mix=None, steps=count, evaluations=evaluations)
                x = x_prev

    return loop(add_noise_at(x0, levels[0], noise) if x is None else x)


def _next(run: Any, x: Any) -> Step | None:
    """Send a sampler its next x, and return its next step, or None at its end."""
    try:
        return run.send(x)
    except StopIteration:
        return None


def noisier(x: np.ndarray, level: Level, towards: Level, noise: Noise, draw: int) -> np.ndarray:
    """Add noise to x at one level, so that it is at a noisier one, `towards`.

    alpha = a' / a,   x' = alpha x + sqrt(s'^2 - alpha^2 s^2) z
    """
    alpha = towards.a / level.a
    z = random.normal(Key(noise.seed, Stream.AGAIN, draw, noise.samples), x.shape[1:]).astype(x.dtype)
    return alpha * x + math.sqrt(towards.s**2 - (alpha * level.s) ** 2) * z


def invert(
    denoise: Denoise, process: Process, x0: np.ndarray, levels: Sequence[Level], iterations: int = 4
) -> np.ndarray:
    """DDIM inversion: return the noise x_T from which DDIM, without clipping, draws the images x0 (N, H, W, C).

    Each step of DDIM is solved for x_t, in one of two forms,

        x_t = a / a' x_prev + (s - a / a' s') eps_hat(x_t, t)
        x_t = s / s' x_prev + (a - s / s' a') x0_hat(x_t, t)

    by fixed-point iteration, `iterations` times: x_t on the right is the last estimate of x_t on the left.
    With little noise x0_hat depends strongly on x_t, with much noise eps_hat does; each form uses the other one.
    Sources: Song et al. 2020, arXiv:2010.02502, section 4.3; the iteration: Pan et al. 2023, arXiv:2309.04907,
    section 3.
    """
    x = x0
    for prev, level in pairwise(reversed(levels)):
        # At sigma sigma' = sigma_data^2 both converge equally fast; not written with sigma, as a and s' may be 0.
        little = level.s * prev.s <= SIGMA_DATA**2 * level.a * prev.a
        ratio, x_prev = level.a / prev.a if little else level.s / prev.s, x
        x = ratio * x_prev
        for _ in range(iterations):
            x0_hat, eps_hat = process.to_x0_eps(process.predict(denoise, x, level), x, level)
            if little:
                x = ratio * x_prev + (level.s - ratio * prev.s) * eps_hat
            else:
                x = ratio * x_prev + (level.a - ratio * prev.a) * x0_hat
    return x


def vary(x_T: np.ndarray, amount: float, noise: Noise) -> np.ndarray:
    """Return x_T with a share of fresh noise, of the same variance: sqrt(1 - amount^2) x_T + amount z."""
    if not 0 <= amount <= 1:
        raise MinidiffError(f"vary must be from 0, the image itself, to 1, any image, got {amount:g}")
    return math.sqrt(1 - amount**2) * x_T + amount * noise.start(x_T.shape[1:]).astype(x_T.dtype)


def slerp(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Spherical linear interpolation (slerp) from noise x to noise y: (N, H, W, C), and weight (N,) from 0 to 1.

        sin((1 - w) theta) / sin(theta) x + sin(w theta) / sin(theta) y,     theta the angle between x and y

    Linear interpolation would give noise of too small a variance, and a grey image.
    Sources: Shoemake 1985, doi:10.1145/325165.325242; Song et al. 2020, arXiv:2010.02502, appendix D.5.
    """
    x, y = backend.to_numpy(x), backend.to_numpy(y)
    flat_x, flat_y = (part.reshape(len(part), -1).astype(np.float64) for part in (x, y))
    cosine = (flat_x * flat_y).sum(1) / np.linalg.norm(flat_x, axis=1) / np.linalg.norm(flat_y, axis=1)
    theta = np.maximum(np.arccos(np.clip(cosine, -1, 1)), 1e-6)  # else 0 / 0 for two equal noises
    each = (-1,) + (1,) * (x.ndim - 1)
    on_x, on_y = ((np.sin(part * theta) / np.sin(theta)).astype(x.dtype).reshape(each) for part in (1 - weight, weight))
    return backend.to_device(on_x * x + on_y * y)
