"""What all samplers share: the steps that they yield, their noise, and the network's prediction.

Idea: a sampler is one formula.  Everything else is here: the network's prediction as a clipped x0_hat with the eps_hat
that belongs to it, fresh noise, and the loop over the noise levels.

The formula computes x_prev as a linear combination of five arrays: x_t, x0_hat, the x0_hat of the step before, eps_hat
and fresh noise z.  In the code of a sampler each array is represented by a symbol, so that the formula looks as it does
on paper,

    x_prev = prev.a * X0_HAT + np.sqrt(prev.s**2 - sigma_step**2) * EPS_HAT + sigma_step * Z

The value of such an expression is an `Update`: the five coefficients.  The kernel takes only four,

    x_prev = c0 x_t + c1 x0_hat + c2 x0_hat_last + c3 z

`Update.coefficients` computes them: it replaces eps_hat by (x_t - a x0_hat) / s.
Leaves out the formulas: samplers.py and solvers.py.
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
ARRAYS = ("x_t", "x0_hat", "x0_hat_last", "eps_hat", "z")


@dataclass(frozen=True)
class Update:
    """The formula of a step, as its coefficients of x_t, x0_hat, another x0_hat, eps_hat and the fresh noise z.

    x0_hat_last: the coefficient of the x0_hat of the step before; in Heun's method, of that at the end of the step.
    """

    __array_ufunc__ = None  # so that a NumPy number leaves the product to __rmul__

    x_t: float = 0.0
    x0_hat: float = 0.0
    x0_hat_last: float = 0.0
    eps_hat: float = 0.0
    z: float = 0.0

    def __add__(self, other: "Update") -> "Update":
        return self._each(other, lambda x, y: x + y)

    def __sub__(self, other: "Update") -> "Update":
        return self._each(other, lambda x, y: x - y)

    def __rmul__(self, factor: float) -> "Update":
        return self._each(self, lambda x, _: factor * x)

    def _each(self, other: "Update", operation: Callable[[float, float], float]) -> "Update":
        return Update(*(operation(getattr(self, name), getattr(other, name)) for name in ARRAYS))

    def in_x_t(self, level: Level) -> "Update":
        """Return the same update without eps_hat: it is replaced by (x_t - a x0_hat) / s."""
        on_x_t = self.eps_hat / level.s
        return Update(self.x_t + on_x_t, self.x0_hat - level.a * on_x_t, self.x0_hat_last, 0.0, self.z)

    def coefficients(self, level: Level) -> Coefficients:
        """Return the coefficients of x_t, x0_hat, x0_hat_last and z, as the kernel takes them."""
        update = self.in_x_t(level)
        return update.x_t, update.x0_hat, update.x0_hat_last, update.z


X_T, X0_HAT, X0_HAT_LAST, EPS_HAT, Z = (
    Update(**{name: 1.0}) for name in ARRAYS
)  # fmt: skip


def on_eps_hat(c: Coefficients, level: Level) -> Coefficients:
    """Return coefficients of x_t, x0_hat, … as those of eps_hat, x0_hat, …: x_t = a x0_hat + s eps_hat."""
    return c[0] * level.s, c[0] * level.a + c[1], c[2], c[3]


@dataclass(frozen=True)
class Step:
    """One step from x_t to x_prev, with everything that a viewer may want.

    index: 0, 1, … in the order drawn.  level, prev: how noisy x_t and x_prev are.
    x_t, x0_hat, eps_hat, x_prev: (N, H, W, C) float32, with x_t = a x0_hat + s eps_hat also where x0_hat is clipped,
    unless the run has `keep_eps`.
    steps: how many there are in all.  evaluations: how often the network was evaluated so far.
    mix: the coefficients of eps_hat, x0_hat, another x0_hat (of the step before; for heun, of the step's end) and the
    fresh noise z that add up to x_prev; None where x_prev was not made by one formula.

    The consumer may send another x_prev to the generator, which then goes on from there; `editing.inpaint` does.
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
        """The timestep of x_t."""
        return self.level.t

    @property
    def t_prev(self) -> float:
        """The timestep of x_prev, -1 after the last step."""
        return self.prev.t


@dataclass(frozen=True)
class Noise:
    """The noise of a sampling run, named by keys: image samples[n] gets the same noise in every batch.

    seed: int in [0, 2**64).  samples: (N,) int64.  first: the number of the sampler's step 0, so that two runs of a
    sampler for the same images take different noise.
    """

    seed: int
    samples: np.ndarray
    first: int = 0

    def start(self, shape: Sequence[int]) -> np.ndarray:
        """Return x_T: (N, *shape) float32 standard normals."""
        return random.normal(Key(self.seed, Stream.START, 0, self.samples), shape)

    def mix(self, x: np.ndarray, x0_hat: np.ndarray, x0_hat_last: np.ndarray | None, c: Any, index: int) -> np.ndarray:
        """Return c0 x + c1 x0_hat + c2 x0_hat_last + c3 z, with z the fresh noise of step `index`."""
        key = (self.seed, int(Stream.SAMPLER), self.first + index)
        return backend.current().sampler_update(x, x0_hat, x0_hat_last, np.array(c, dtype=x.dtype), key, self.samples)


class Run:
    """One run of a sampler: the network, the noise levels to visit, the noise, and how x0_hat is clipped.

    denoise: (x_t, t) to the network's output.  steps: how many of the schedule's timesteps to visit, or the levels
    themselves, see `timesteps.levels`.  noise: names the fresh noise z.  clip: see `clipping.clip_x0`.
    keep_eps: keep the network's eps_hat also where x0_hat is clipped, as the `diffusers` library does in DDIM.
    ends: where each step goes, if not to the level that the next one comes from.
    Raises MinidiffError for levels that do not fall.
    """

    def __init__(
        self,
        denoise: Denoise,
        process: Process,
        steps: int | Sequence[Level],
        noise: Any,
        clip: str | Clipping = "clip",
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

    def predict(self, x_t: np.ndarray, level: Level) -> tuple[np.ndarray, np.ndarray]:
        """Evaluate the network on x_t: x0_hat, clipped, and eps_hat such that x_t = a x0_hat + s eps_hat."""
        self.evaluations += 1
        output = self.process.predict(self.denoise, x_t, level)
        if self.clip.kind == "none":
            return self.process.to_x0_eps(output, x_t, level)
        x0_hat = clip_x0(self.process.to_x0(output, x_t, level), self.clip)
        if self.keep_eps:
            return x0_hat, self.process.to_eps(output, x_t, level)
        return x0_hat, eps_from_x0(x_t, x0_hat, level)

    def emit(
        self, index: int, level: Level, x_t: Any, x0_hat: Any, eps_hat: Any, x_prev: Any, c: Coefficients | None = None
    ) -> Generator[Step, Any, Any]:
        """Yield the step; return x_prev, or what the consumer sent in its place.

        c: the kernel's coefficients that x_prev was made with, if it was made by one formula.
        """
        mix = None if c is None else on_eps_hat(c, level)
        sent = yield Step(index, level, self.ends[index], x_t, x0_hat, eps_hat, x_prev,
                          steps=len(self.ends), evaluations=self.evaluations, mix=mix)  # fmt: skip
        return x_prev if sent is None else sent

    def loop(self, x_t: np.ndarray, update: Callable[[Level | None, Level, Level], Update]) -> Iterator[Step]:
        """Predict and update at every level, for a sampler that evaluates the network once a step.

        update(last, level, prev) is the sampler's formula for the step from `level` to `prev`, where `last` is the
        level of the step before, None at the first.
        """
        last, x0_hat_last = None, None
        for index, (level, prev) in enumerate(zip(self.levels, self.ends)):
            x0_hat, eps_hat = self.predict(x_t, level)
            c = update(last, level, prev).coefficients(level)
            if self.keep_eps:  # x_t is not a x0_hat + s eps_hat then, and the formula is one of eps_hat
                x_prev = self.noise.mix(eps_hat, x0_hat, None, on_eps_hat(c, level), index)
            else:
                x_prev = self.noise.mix(x_t, x0_hat, x0_hat_last if c[2] else None, c, index)
            x_t = yield from self.emit(index, level, x_t, x0_hat, eps_hat, x_prev, c)
            last, x0_hat_last = level, x0_hat
