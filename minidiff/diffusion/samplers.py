"""From noise to picture: ask what the noise is, take some of it away, ask again.

Idea: x_t is noise at first.  At each listed time t the network guesses the picture x0_hat and the noise eps_hat in
x_t; the sampler goes to the next listed time, where both guesses are mixed with less noise.  Every sampler is a
generator of `Step`s, so whoever draws, watches, records or tests runs the same loop:

    for step in ddim(denoise, process, start_noise(seed, samples, (H, W, C)), 50, seed, samples):
        show(step.x0_hat)

Both updates below are linear, x_prev = c0 x_t + c1 x0_hat + c3 z with fresh noise z, so one kernel does them, and a
sampler is its list of coefficients.
Last file of diffusion/.  Leaves out solvers of higher order; the kernel's c2, for the guess before, waits for them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np

from minidiff import backend, random
from minidiff.diffusion.guidance import Denoise
from minidiff.diffusion.process import Process, eps_from_x0
from minidiff.errors import MinidiffError
from minidiff.random import Key, Stream

Clip = Literal["none", "clip", "dynamic"]
CLIPS: tuple[str, ...] = get_args(Clip)


@dataclass(frozen=True)
class Step:
    """One step from x_t to x_prev, with everything that a viewer may want.

    index: 0, 1, … in the order drawn.  t: its time.  t_prev: the time of x_prev, -1 after the last step.
    x_t, x0_hat, eps_hat, x_prev: (N, H, W, C) float32, with x_t = a x0_hat + s eps_hat also where x0_hat is clipped.
    """

    index: int
    t: int
    t_prev: int
    x_t: np.ndarray
    x0_hat: np.ndarray
    eps_hat: np.ndarray
    x_prev: np.ndarray


def ddpm(
    denoise: Denoise,
    process: Process,
    x_T: np.ndarray,
    steps: int | Sequence[int],
    seed: int,
    samples: np.ndarray,
    clip: str = "clip",
) -> Iterator[Step]:
    """Ancestral sampling: draw x_prev from the posterior q(x_prev | x_t, x0_hat).

        alpha = alpha_bar / alpha_bar_prev,  beta = 1 - alpha
        mean = sqrt(alpha_bar_prev) beta / (1 - alpha_bar) x0_hat
             + sqrt(alpha) (1 - alpha_bar_prev) / (1 - alpha_bar) x_t
        variance = (1 - alpha_bar_prev) / (1 - alpha_bar) beta

    denoise: (x_t, t) to the network's output.  x_T: (N, H, W, C) float32, see `start_noise`.
    steps: how many of the schedule's T times to visit, see `trailing`, or the times themselves, falling.
    seed, samples: name the noise z of picture samples[n], (N,) int64.  clip: see `clip_x0`.
    With fewer steps than T, alpha and beta are those of the leap between two listed times.
    Source: Ho et al. 2020, arXiv:2006.11239, algorithm 2 with eq. 7, the smaller of its two variances.
    """

    def coefficients(alpha_bar: float, alpha_bar_prev: float) -> tuple[float, float, float]:
        alpha = alpha_bar / alpha_bar_prev
        beta = 1 - alpha
        on_x_t = np.sqrt(alpha) * (1 - alpha_bar_prev) / (1 - alpha_bar)
        on_x0_hat = np.sqrt(alpha_bar_prev) * beta / (1 - alpha_bar)
        on_z = np.sqrt((1 - alpha_bar_prev) / (1 - alpha_bar) * beta)
        return on_x_t, on_x0_hat, on_z

    return _run(coefficients, denoise, process, x_T, steps, seed, samples, clip)


def ddim(
    denoise: Denoise,
    process: Process,
    x_T: np.ndarray,
    steps: int | Sequence[int],
    seed: int,
    samples: np.ndarray,
    clip: str = "clip",
    eta: float = 0.0,
) -> Iterator[Step]:
    """Denoising diffusion implicit model: keep eps_hat, shrink it; with eta above 0 part of it is drawn anew.

        sigma_step = eta sqrt((1 - alpha_bar_prev) / (1 - alpha_bar)) sqrt(1 - alpha_bar / alpha_bar_prev)
        x_prev = sqrt(alpha_bar_prev) x0_hat + sqrt(1 - alpha_bar_prev - sigma_step^2) eps_hat + sigma_step z

    eta: from 0, a fixed path from noise to picture, to 1, which is `ddpm`.  The rest as in `ddpm`.
    Source: Song et al. 2020, arXiv:2010.02502, eq. 12 and 16.
    """
    if not 0 <= eta <= 1:
        raise MinidiffError(f"eta must be in [0, 1], got {eta:g}")

    def coefficients(alpha_bar: float, alpha_bar_prev: float) -> tuple[float, float, float]:
        sigma_step = eta * np.sqrt((1 - alpha_bar_prev) / (1 - alpha_bar)) * np.sqrt(1 - alpha_bar / alpha_bar_prev)
        on_eps_hat = np.sqrt(max(0.0, 1 - alpha_bar_prev - sigma_step**2))  # never below 0, but for rounding
        # eps_hat = (x_t - sqrt(alpha_bar) x0_hat) / sqrt(1 - alpha_bar), written out
        on_x_t = on_eps_hat / np.sqrt(1 - alpha_bar)
        on_x0_hat = np.sqrt(alpha_bar_prev) - np.sqrt(alpha_bar) * on_x_t
        return on_x_t, on_x0_hat, sigma_step

    return _run(coefficients, denoise, process, x_T, steps, seed, samples, clip)


SAMPLERS = {"ddpm": ddpm, "ddim": ddim}


def _run(coefficients, denoise, process, x_T, steps, seed, samples, clip) -> Iterator[Step]:
    """Check what a user can get wrong, at once and not at the first `next`; then loop."""
    times = _times(process.schedule.T, steps)
    if clip not in CLIPS:
        raise MinidiffError(f"clip must be one of {', '.join(CLIPS)}, got {clip!r}")
    return _loop(coefficients, denoise, process, x_T, times, seed, samples, clip)


def _loop(coefficients, denoise, process, x_T, times, seed, samples, clip) -> Iterator[Step]:
    """Ask, clip, step; `coefficients` says how x_t, x0_hat and z are mixed on the way from alpha_bar to its next."""
    x_t = x_T
    for index, (t, t_prev) in enumerate(zip(times, [*times[1:], -1])):
        alpha_bar = float(process.schedule.alpha_bar[t])
        alpha_bar_prev = float(process.schedule.alpha_bar[t_prev]) if t_prev >= 0 else 1.0  # no noise left at the end
        x0_hat, eps_hat = process.to_x0_eps(denoise(x_t, t), x_t, alpha_bar)
        if clip != "none":
            x0_hat = clip_x0(x0_hat, clip)
            eps_hat = eps_from_x0(x_t, x0_hat, alpha_bar)
        on_x_t, on_x0_hat, on_z = coefficients(alpha_bar, alpha_bar_prev)
        c = np.array([on_x_t, on_x0_hat, 0.0, on_z], dtype=x_t.dtype)
        key = (seed, Stream.SAMPLER, index)
        x_prev = backend.current().sampler_update(x_t, x0_hat, None, c, key, samples)
        yield Step(index, t, t_prev, x_t, x0_hat, eps_hat, x_prev)
        x_t = x_prev


def clip_x0(x0_hat: np.ndarray, clip: str) -> np.ndarray:
    """Bring a guessed picture back to where pictures are, [-1, 1].

    "none": leave it.  "clip": cut at -1 and 1.  "dynamic": where more than 0.5% of a picture's values lie outside,
    cut only the outermost 0.5% and shrink the picture into the range, so that bright parts keep their shading,

        c = max(1, the 99.5% quantile of |x0_hat|),   x0_hat <- clip(x0_hat, -c, c) / c

    The samplers then recompute eps_hat from x_t and the clipped x0_hat, so that the two still add up to x_t.  The
    early guess of a network that predicts eps is its error times sqrt(1 - alpha_bar) / sqrt(alpha_bar), 100 and more;
    with the raw eps_hat kept, what clipping takes from x0_hat would be missing from the picture altogether.
    x0_hat: (N, H, W, C) float.  Returns the same.
    Source: Saharia et al. 2022, arXiv:2205.11487, section 2.3.
    """
    if clip == "none":
        return x0_hat
    if clip == "clip":
        return x0_hat.clip(-1, 1)
    xp = backend.current().xp
    largest = xp.quantile(abs(x0_hat).reshape(len(x0_hat), -1), 0.995, axis=1)
    c = xp.maximum(1, largest).astype(x0_hat.dtype).reshape(-1, *[1] * (x0_hat.ndim - 1))
    return x0_hat.clip(-c, c) / c


def trailing(T: int, steps: int) -> list[int]:
    """Spread `steps` times evenly over 0 … T-1, from T-1 downwards: 50 of 1000 are 999, 979, …, 19.

    The first is the noisiest there is, because x_T is pure noise, and the last leaps to the picture.
    Source: Lin et al. 2023, arXiv:2305.08891, table 2, "trailing".
    """
    if not 1 <= steps <= T:
        raise MinidiffError(f"steps must be from 1 to {T}, the schedule's length, got {steps}")
    return [round(T * (steps - index) / steps) - 1 for index in range(steps)]


def start_noise(seed: int, samples: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return x_T for the pictures named `samples`: (N, *shape) float32 standard normals, whatever the batch."""
    return random.normal(Key(seed, Stream.START, 0, samples), shape)


def _times(T: int, steps: int | Sequence[int]) -> list[int]:
    """Return the falling list of times that `steps` means."""
    if isinstance(steps, int | np.integer):
        return trailing(T, int(steps))
    times = [int(t) for t in steps]
    falling = all(t > t_prev for t, t_prev in pairwise(times))
    if not times or not falling or not 0 <= times[-1] <= times[0] < T:
        raise MinidiffError(f"times must fall and lie in 0 … {T - 1}, got {times[:8]}{' …' if len(times) > 8 else ''}")
    return times
