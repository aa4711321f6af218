"""From noise to image: ask what the noise is, take some of it away, ask again.

Idea: x_t is noise at first.  At each level of noise the network guesses the image x0_hat and the noise eps_hat in
x_t; the sampler goes to the next level, where both guesses are mixed with less noise.  Every sampler is a generator of
`Step`s, so whoever draws, watches, records or tests runs the same loop:

    noise = Noise(seed, samples)
    for step in ddim(denoise, process, noise.start((H, W, C)), 50, noise):
        show(step.x0_hat)

Every update is linear, x_prev = c0 x_t + c1 x0_hat + c2 x0_hat_before + c3 z with fresh noise z, so one kernel does
them, and most samplers are their list of coefficients.  `level` is where a step comes from, with a, s and
sigma = s / a in the equations, `prev` where it goes, with a', s' and sigma'.
After clipping.py.  The samplers that ask twice a step or correct themselves stand in solvers.py.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from minidiff import backend, random
from minidiff.diffusion.clipping import Clipping, clip_x0
from minidiff.diffusion.guidance import Denoise
from minidiff.diffusion.process import Process, eps_from_x0
from minidiff.diffusion.schedule import Level
from minidiff.diffusion.timesteps import levels
from minidiff.errors import MinidiffError
from minidiff.random import Key, Stream

Coefficients = tuple[float, float, float, float]


@dataclass(frozen=True)
class Step:
    """One step from x_t to x_prev, with everything that a viewer may want.

    index: 0, 1, … in the order drawn.  level, prev: how noisy x_t and x_prev are.
    x_t, x0_hat, eps_hat, x_prev: (N, H, W, C) float32, with x_t = a x0_hat + s eps_hat also where x0_hat is clipped.
    steps: how many there are in all.  evaluations: how often the network has been asked so far.
    mix: the numbers with which x_prev was made of eps_hat, x0_hat, another x0_hat (that of the step before; heun's is
    that at the step's end) and fresh noise z; None where it was made in another way.

    A sampler may be answered: who sends it another x_prev lets it go on from there; editing.py does.
    """

    index: int
    level: Level
    prev: Level
    x_t: np.ndarray
    x0_hat: np.ndarray
    eps_hat: np.ndarray
    x_prev: np.ndarray
    steps: int
    evaluations: int
    mix: Coefficients | None = None

    @property
    def t(self) -> float:
        """The time of x_t."""
        return self.level.t

    @property
    def t_prev(self) -> float:
        """The time of x_prev, -1 after the last step."""
        return self.prev.t


@dataclass(frozen=True)
class Noise:
    """The noise of a sampling run, named by keys: image samples[n] gets the same in every batch.

    seed: int in [0, 2**64).  samples: (N,) int64.  first: the number that step 0 of the sampler has, so that two runs
    of a sampler within one drawing take different noise.
    """

    seed: int
    samples: np.ndarray
    first: int = 0

    def start(self, shape: Sequence[int]) -> np.ndarray:
        """Return x_T: (N, *shape) float32 standard normals."""
        return random.normal(Key(self.seed, Stream.START, 0, self.samples), shape)

    def mix(
        self, x: np.ndarray, x0_hat: np.ndarray, x0_hat_before: np.ndarray | None, c: Any, index: int
    ) -> np.ndarray:
        """Return c0 x + c1 x0_hat + c2 x0_hat_before + c3 z, with z the fresh noise of step `index`."""
        key = (self.seed, int(Stream.SAMPLER), self.first + index)
        return backend.current().sampler_update(x, x0_hat, x0_hat_before, np.array(c, dtype=x.dtype), key, self.samples)


class Run:
    """What all samplers share: the list of levels, asking the network, and counting how often.

    ends: where each step goes; the next level, unless said otherwise.
    Raises MinidiffError for what a user can get wrong; a sampler makes it at once, not at the first `next`.
    """

    def __init__(
        self,
        denoise: Denoise,
        process: Process,
        steps: int | Sequence[Level],
        noise: Noise,
        clip: str | Clipping,
        keep_eps: bool = False,
        ends: Sequence[Level] | None = None,
    ) -> None:
        self.clip = Clipping(clip) if isinstance(clip, str) else clip
        self.levels = levels(process.schedule, steps) if isinstance(steps, int | np.integer) else list(steps)
        if len(self.levels) < 2 or any(level.sigma <= prev.sigma for level, prev in pairwise(self.levels)):
            raise MinidiffError(f"a sampler needs two or more levels, each less noisy than the one before, got sigma "
                                f"{', '.join(f'{level.sigma:g}' for level in self.levels[:8]) or 'none'}")  # fmt: skip
        self.ends = self.levels[1:] if ends is None else list(ends)
        self.denoise, self.process, self.noise, self.keep_eps = denoise, process, noise, keep_eps
        self.evaluations = 0

    def guess(self, x_t: np.ndarray, level: Level) -> tuple[np.ndarray, np.ndarray]:
        """Ask the network about x_t: x0_hat, clipped, and eps_hat such that both add up to x_t."""
        self.evaluations += 1
        output = self.process.ask(self.denoise, x_t, level)
        x0_hat, eps_hat = self.process.to_x0_eps(output, x_t, level)
        if self.clip.kind != "none":
            x0_hat = clip_x0(x0_hat, self.clip)
            if not self.keep_eps:
                eps_hat = eps_from_x0(x_t, x0_hat, level)
        return x0_hat, eps_hat

    def tell(
        self, index: int, level: Level, x_t: Any, x0_hat: Any, eps_hat: Any, x_prev: Any, c: Coefficients | None = None
    ) -> Generator[Step, Any, Any]:
        """Yield the step, and return x_prev or the answer that was sent in its place.

        c: the coefficients with which x_prev was made, if it was made with some.
        """
        prev, steps = self.ends[index], len(self.ends)
        mix = None if c is None else on_both(c, level)
        answer = yield Step(index, level, prev, x_t, x0_hat, eps_hat, x_prev, steps, self.evaluations, mix)
        return x_prev if answer is None else answer

    def loop(
        self, x_t: np.ndarray, coefficients: Callable[[Level | None, Level, Level], Coefficients]
    ) -> Iterator[Step]:
        """Ask, clip, mix, for a sampler that is a list of coefficients.

        coefficients(before, level, prev) says how x_t, x0_hat, the x0_hat of the level before (None at the first) and z
        are mixed on the way from `level` to `prev`.
        """
        before, x0_hat_before = None, None
        for index, (level, prev) in enumerate(zip(self.levels, self.ends)):
            x0_hat, eps_hat = self.guess(x_t, level)
            c = coefficients(before, level, prev)
            if self.keep_eps:  # c0 x_t + c1 x0_hat, written in x0_hat and eps_hat
                x_prev = self.noise.mix(eps_hat, x0_hat, None, on_both(c, level), index)
            else:
                x_prev = self.noise.mix(x_t, x0_hat, x0_hat_before if c[2] else None, c, index)
            x_t = yield from self.tell(index, level, x_t, x0_hat, eps_hat, x_prev, c)
            before, x0_hat_before = level, x0_hat


def ddpm(
    denoise: Denoise,
    process: Process,
    x_T: np.ndarray,
    steps: int | Sequence[Level],
    noise: Noise,
    clip: str | Clipping = "clip",
    variance: str = "small",
    noisy_end: bool = False,
) -> Iterator[Step]:
    """Ancestral sampling: draw x_prev from the posterior q(x_prev | x_t, x0_hat).

        alpha = a / a',  beta = s^2 - alpha^2 s'^2        x_t = alpha x_prev + sqrt(beta) z is one step of noising
        mean = a' beta / s^2 x0_hat + alpha s'^2 / s^2 x_t
        variance = s'^2 / s^2 beta ("small") or beta ("large"): right where x0 is known, or is itself noise

    denoise: (x_t, t) to the network's output.  x_T: (N, H, W, C) float32, see `Noise.start`.
    steps: how many of the schedule's times to visit, or the levels themselves, see `spacing.levels`.
    noise: names the noise z.  clip: see `clipping.clip_x0`.
    noisy_end: with variance "large", let the image itself have some noise, unless the last step comes from t = 0, as
    the `diffusers` library does.
    With fewer steps than T, alpha and beta are those of the leap between two levels.
    Source: Ho et al. 2020, arXiv:2006.11239, algorithm 2 with eq. 7 and section 3.2, for a^2 = alpha_bar.
    """
    if variance not in VARIANCES:
        raise MinidiffError(f"variance must be one of {', '.join(VARIANCES)}, got {variance!r}")

    def coefficients(before: Level | None, level: Level, prev: Level) -> Coefficients:
        alpha = level.a / prev.a
        beta = level.s**2 - alpha**2 * prev.s**2
        spread = beta if variance == "large" else prev.s**2 / level.s**2 * beta
        on_x_t, on_x0_hat = alpha * prev.s**2 / level.s**2, prev.a * beta / level.s**2
        fresh = prev.s or (noisy_end and level.t)  # the image itself gets no noise
        return on_x_t, on_x0_hat, 0.0, np.sqrt(spread) if fresh else 0.0

    return Run(denoise, process, steps, noise, clip).loop(x_T, coefficients)


VARIANCES = ("small", "large")


def ddim(
    denoise: Denoise,
    process: Process,
    x_T: np.ndarray,
    steps: int | Sequence[Level],
    noise: Noise,
    clip: str | Clipping = "clip",
    eta: float = 0.0,
    keep_eps: bool = False,
    ends: Sequence[Level] | None = None,
) -> Iterator[Step]:
    """Denoising diffusion implicit model: keep eps_hat, shrink it; with eta above 0 part of it is drawn anew.

        sigma_step = eta s' / s sqrt(s^2 - (a / a')^2 s'^2)
        x_prev = a' x0_hat + sqrt(s'^2 - sigma_step^2) eps_hat + sigma_step z

    eta: from 0, a fixed path from noise to image, to 1, which is `ddpm`.  The rest as in `ddpm`.
    keep_eps: take the network's eps_hat also where x0_hat is clipped, as the `diffusers` library does; see `clip_x0`.
    ends: where each step goes, if not to the level that the next one comes from.
    Source: Song et al. 2020, arXiv:2010.02502, eq. 12 and 16, for a^2 = alpha_bar.
    """
    if not 0 <= eta <= 1:
        raise MinidiffError(f"eta must be in [0, 1], got {eta:g}")

    def coefficients(before: Level | None, level: Level, prev: Level) -> Coefficients:
        beta = max(0.0, level.s**2 - (level.a / prev.a) ** 2 * prev.s**2)
        sigma_step = eta * prev.s / level.s * np.sqrt(beta)
        on_eps_hat = np.sqrt(max(0.0, prev.s**2 - sigma_step**2))  # never below 0, but for rounding
        return *from_eps(on_eps_hat, level, prev), 0.0, sigma_step

    return Run(denoise, process, steps, noise, clip, keep_eps, ends).loop(x_T, coefficients)


def euler_ancestral(
    denoise: Denoise,
    process: Process,
    x_T: np.ndarray,
    steps: int | Sequence[Level],
    noise: Noise,
    clip: str | Clipping = "clip",
) -> Iterator[Step]:
    """Euler's step to less noise than is wanted, and fresh noise on top: DDPM in the coordinates of sigma.

        sigma_up = sigma' sqrt(1 - (sigma' / sigma)^2),   sigma_down = sigma'^2 / sigma
        x_prev = a' (x0_hat + sigma_down eps_hat + sigma_up z)

    so that sigma_down^2 + sigma_up^2 = sigma'^2.  Arguments as in `ddpm`.
    Source: Song et al. 2020, arXiv:2011.13456, appendix F (ancestral sampling for noise beside the image); its name,
    and the update by Euler's step, are of Crowson's k-diffusion.
    """

    def coefficients(before: Level | None, level: Level, prev: Level) -> Coefficients:
        ratio = prev.s * level.a / (prev.a * level.s)  # sigma' / sigma, also where sigma is infinite
        return *from_eps(prev.s * ratio, level, prev), 0.0, prev.s * np.sqrt(1 - ratio**2)

    return Run(denoise, process, steps, noise, clip).loop(x_T, coefficients)


def from_eps(on_eps_hat: float, level: Level, prev: Level) -> tuple[float, float]:
    """Return c0 and c1 of a' x0_hat + on_eps_hat eps_hat, with eps_hat = (x_t - a x0_hat) / s written out."""
    on_x_t = on_eps_hat / level.s
    return on_x_t, prev.a - level.a * on_x_t


def on_both(c: Coefficients, level: Level) -> Coefficients:
    """Return coefficients of x_t, x0_hat, … as those of eps_hat, x0_hat, …, with x_t = a x0_hat + s eps_hat put in."""
    return c[0] * level.s, c[0] * level.a + c[1], c[2], c[3]
