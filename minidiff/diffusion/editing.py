"""Editing: from an image that is there, not from noise.

Idea: a noisy image is a clean one with noise on it, and a sampler takes noise away, from whatever level it is
started at.  Put some noise on an image, and what comes out is that image, drawn anew where the noise has covered
it (`redraw`).  Leave out the putting on, and it removes the noise that an image already has (`clean`).  Keep putting
the known part back, and only the rest is drawn (`inpaint`).  Go the sampler's way backwards, and you find the noise
that an image would have come from: mixed with other noise it gives variations, mixed with another image's what lies
between both (`invert`, `vary`, `between`).
Last file of diffusion/.  All of it takes any sampler: `sample` is a function of x, levels and noise, see `Sample`.
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

Sample = Callable[[np.ndarray, Sequence[Level], Noise], Iterator[Step]]  # a sampler, all but these three settled


def add_noise_at(x0: np.ndarray, level: Level, noise: Noise, draw: int = 0) -> np.ndarray:
    """Return known images with noise on them, a x0 + s eps: (N, H, W, C).  draw: which of the noises of a run."""
    eps = random.normal(Key(noise.seed, Stream.KNOWN, draw, noise.samples), x0.shape[1:]).astype(x0.dtype)
    return level.a * x0 + level.s * eps


def redraw(sample: Sample, levels: Sequence[Level], x0: np.ndarray, noise: Noise) -> Iterator[Step]:
    """Image to image: put noise on the images x0 (N, H, W, C), and take it away again.

    levels: from how noisy the images are made on, see `tail`.
    Source: Meng et al. 2021, arXiv:2108.01073, section 3.
    """
    return sample(add_noise_at(x0, levels[0], noise), levels, noise)


def tail(levels: Sequence[Level], strength: float, schedule: Schedule) -> Sequence[Level]:
    """Return the last levels, so that a share `strength` of all steps is taken.

    strength: from 0 to 1.  Less than one step begins within the last one, with so much less noise; 0 leaves no step.
    """
    if not 0 <= strength <= 1:
        raise MinidiffError(f"strength must be from 0 to 1, got {strength:g}")
    share = strength * (len(levels) - 1)
    if share >= 1:
        return levels[-round(share) - 1 :]
    # Of the angle whose tangent sigma is, as sigma may be infinite; of a small sigma it is the same share.
    start = math.tan(share * math.atan(levels[-2].sigma))
    return [*([schedule.at_sigma(start)] if start else []), levels[-1]]


def untouched(x0: np.ndarray) -> Iterator[Step]:
    """Return the one step of changing nothing in images x0 (N, H, W, C)."""
    yield Step(0, CLEAN, CLEAN, x0, x0, 0 * x0, x0, steps=1, evaluations=0)


def clean(
    sample: Sample, levels: Sequence[Level], y: np.ndarray, sigma: float, schedule: Schedule, noise: Noise
) -> Iterator[Step]:
    """Remove noise that the images y = x0 + sigma n have, n ~ N(0, 1): (N, H, W, C).

    Times a, y is an x_t of the level with this sigma; from there the sampler goes as ever.
    Source: Kawar et al. 2021, arXiv:2101.09552, section 3, for a stochastic one.
    """
    if not 0 < sigma < math.inf:
        raise MinidiffError(f"sigma, the noise on the image, must be above 0, got {sigma:g}")
    start = schedule.at_sigma(sigma)
    return sample(start.a * y, [start, *(level for level in levels if level.sigma < 0.98 * sigma)], noise)


def estimate_sigma(y: np.ndarray) -> float:
    """Return about how much noise images have, the sigma of y = x0 + sigma n: (N, H, W, C) to one number.

        detail = (y[i, j] - y[i, j + 1] - y[i + 1, j] + y[i + 1, j + 1]) / 2
        sigma = median |detail| / 0.6745          0.6745 is the median of |N(0, 1)|

    Such a difference keeps the noise's spread, and has nearly nothing of smooth areas; edges are few, so the median
    does not see them.

    Fine texture looks like noise to it.  Source: Donoho and Johnstone 1994, doi:10.1093/biomet/81.3.425, section 4.1.
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
) -> Iterator[Step]:
    """Draw anew where the mask is 1, and keep the image x0 (N, H, W, C) where it is 0.

        x_prev <- mask x_prev + (1 - mask) (a' x0 + s' eps)         after every step, with fresh eps

    mask: (H, W, 1) or (N, H, W, 1) from 0 to 1.
    levels: if only the last ones, what is drawn anew starts from x0 under noise, as in `redraw`.
    resample: more than 1 goes over every `jump` steps so many times, with noise put back on in between, so that the
        drawn part gets to know the kept one, and edges fit.
    Sources: Song et al. 2020, arXiv:2011.13456, appendix I.2; resampling: Lugmayr et al. 2022, arXiv:2201.09865,
    algorithm 1 (RePaint).
    """
    if resample < 1 or jump < 1:
        raise MinidiffError(f"resample and jump must be 1 or more, got {resample} and {jump}")
    steps = len(levels) - 1
    jump = jump if resample > 1 else steps

    def loop() -> Iterator[Step]:
        index, evaluations = 0, 0
        x = add_noise_at(x0, levels[0], noise)
        for first in range(0, steps, jump):
            part = levels[first : first + jump + 1]
            for again in range(resample):
                if again:
                    x = noisier(x, part[-1], part[0], noise, index)
                before = evaluations
                run = sample(x, part, replace(noise, first=noise.first + index))
                answer: Any = None
                while (step := _next(run, answer)) is not None:
                    index, evaluations = index + 1, before + step.evaluations
                    answer = mask * step.x_prev + (1 - mask) * add_noise_at(x0, step.prev, noise, index)
                    count = steps * resample
                    yield replace(step, index=index - 1, x_prev=answer, mix=None, steps=count, evaluations=evaluations)
                x = answer

    return loop()


def _next(run: Any, answer: Any) -> Step | None:
    """Return the next step of a sampler that is sent an answer, or None at its end."""
    try:
        return run.send(answer)
    except StopIteration:
        return None


def noisier(x: np.ndarray, level: Level, towards: Level, noise: Noise, draw: int) -> np.ndarray:
    """Put noise on x at one level, so that it is at another: one step of noising, over several levels at once.

    alpha = a' / a,   x' = alpha x + sqrt(s'^2 - alpha^2 s^2) z
    """
    alpha = towards.a / level.a
    z = random.normal(Key(noise.seed, Stream.AGAIN, draw, noise.samples), x.shape[1:]).astype(x.dtype)
    return alpha * x + math.sqrt(towards.s**2 - (alpha * level.s) ** 2) * z


def invert(
    denoise: Denoise, process: Process, x0: np.ndarray, levels: Sequence[Level], iterations: int = 4
) -> np.ndarray:
    """Return the noise x_T from which DDIM, without clipping, draws the images x0 (N, H, W, C).

    Each step of DDIM is solved for where it came from, in one of two ways of writing it,

        x_t = a / a' x_prev + (s - a / a' s') eps_hat(x_t, t)
        x_t = s / s' x_prev + (a - s / s' a') x0_hat(x_t, t)

    by putting a guess of x_t in on the right, and what comes out again: `iterations` times, each bringing it closer.
    What moves with x_t is x0_hat where there is little noise, eps_hat where there is much; the other one is held on to.
    Sources: Song et al. 2020, arXiv:2010.02502, section 4.3; the iteration: Pan et al. 2023, arXiv:2309.04907,
    section 3.
    """
    x = x0
    for prev, level in pairwise(reversed(levels)):
        # At sigma sigma' = sigma_data^2 both come closer equally fast; not written by sigma, as a and s' may be 0.
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
    """Return x_T with a share of fresh noise in it, as spread as before: sqrt(1 - amount^2) x_T + amount z."""
    if not 0 <= amount <= 1:
        raise MinidiffError(f"vary must be from 0, the image itself, to 1, any image, got {amount:g}")
    return math.sqrt(1 - amount**2) * x_T + amount * noise.start(x_T.shape[1:]).astype(x_T.dtype)


def between(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return what lies between two noises, along the arc from x to y: (N, H, W, C), and weight (N,) from 0 to 1.

        sin((1 - w) theta) / sin(theta) x + sin(w theta) / sin(theta) y,     theta the angle between x and y

    Along the straight line the mean of two noises would be too small for noise, and its image grey.
    Sources: Shoemake 1985, doi:10.1145/325165.325242; Song et al. 2020, arXiv:2010.02502, appendix D.5.
    """
    x, y = backend.to_numpy(x), backend.to_numpy(y)
    flat_x, flat_y = (part.reshape(len(part), -1).astype(np.float64) for part in (x, y))
    cosine = (flat_x * flat_y).sum(1) / np.linalg.norm(flat_x, axis=1) / np.linalg.norm(flat_y, axis=1)
    theta = np.maximum(np.arccos(np.clip(cosine, -1, 1)), 1e-6)  # of two equal noises, 0 / 0 otherwise
    each = (-1,) + (1,) * (x.ndim - 1)
    on_x, on_y = ((np.sin(part * theta) / np.sin(theta)).astype(x.dtype).reshape(each) for part in (1 - weight, weight))
    return backend.to_device(on_x * x + on_y * y)
