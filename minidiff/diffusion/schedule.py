"""The noise schedule: the factors a of the image and s of the noise in x_t, for each timestep t.

Idea: at timestep t the noisy image is

    x_t = a[t] x0 + s[t] eps,      eps ~ N(0, 1)

While t goes from 0 to T - 1, a falls from almost 1 to 0 or almost 0, and s rises from almost 0 to 1 or almost 1.  What
counts is their ratio sigma = s / a, the noise relative to the image; a schedule is the curve along which it grows.  All
schedules but one keep a^2 + s^2 = 1, so that x_t has variance one at all timesteps if the images have variance one.
The papers give these schedules as alpha_bar = a^2, but "karras" and "exponential" as sigma.  The schedule "flow" keeps
a + s = 1, so that x_t moves along a straight line from image to noise.
Leaves out which timesteps a sampler visits: timesteps.py.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from minidiff.errors import MinidiffError

Kind = Literal["linear", "scaled_linear", "cosine", "sigmoid", "karras", "exponential", "flow"]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class Level:
    """A noise level: x_t = a x0 + s eps, at timestep t.

    t, a, s: floats, or (N,) float64 each for N images.  t may lie between the schedule's timesteps.
    """

    t: Any
    a: Any
    s: Any

    @property
    def sigma(self) -> Any:
        """The noise relative to an image of scale one, s / a; infinite where nothing is left of the image."""
        with np.errstate(divide="ignore"):
            return np.divide(self.s, self.a)

    @property
    def snr(self) -> Any:
        """Signal-to-noise ratio (a / s)^2."""
        return np.square(np.divide(self.a, self.s))

    @property
    def log_snr(self) -> Any:
        """ln(a / s), half the logarithm of `snr`.

        Source: Lu et al. 2022, arXiv:2206.00927, section 3.1, where it is called lambda.
        """
        with np.errstate(divide="ignore"):
            return np.log(np.divide(self.a, self.s))


CLEAN = Level(-1, 1.0, 0.0)  # where every sampler ends


@dataclass(frozen=True, eq=False)
class Schedule:
    """The curves a and s over t = 0 … T-1, larger is noisier.

    a, s: (T,) float64, s / a strictly rising; a may end at 0, s is above 0.
    """

    kind: str
    a: np.ndarray
    s: np.ndarray

    @property
    def T(self) -> int:
        """The number of timesteps."""
        return len(self.a)

    @property
    def alpha_bar(self) -> np.ndarray:
        """The image's share of the variance of x_t, a^2 / (a^2 + s^2): (T,) float64; a^2 where these add up to 1."""
        return self.a**2 / (self.a**2 + self.s**2)

    @property
    def all(self) -> Level:
        """The levels of all timesteps at once."""
        return self.level(np.arange(self.T))

    def level(self, t: Any) -> Level:
        """Return the noise level of a timestep, an int, or of N of them, (N,) integers."""
        if np.ndim(t):
            return Level(t, self.a[t], self.s[t])
        return Level(int(t), float(self.a[t]), float(self.s[t]))

    def at_sigma(self, sigma: Any) -> Level:
        """Return the level where s / a is sigma, a float or (N,), above 0 and maybe infinite.

        Its t lies between the schedule's timesteps, by interpolation in ln(sigma), or at one of the ends; before a last
        timestep whose sigma is infinite, by interpolation in 1 / sigma.
        """
        with np.errstate(divide="ignore"):
            log_sigma = np.log(self.all.sigma)
        known = np.isfinite(log_sigma)
        t = np.interp(np.log(sigma), log_sigma[known], np.arange(self.T)[known])
        if not known[-1]:
            t = np.maximum(t, self.T - 1 - np.exp(log_sigma[-2]) / sigma)
        a, s = _scaled(np.asarray(sigma, dtype=np.float64), self.kind)
        return Level(t, a, s) if np.ndim(sigma) else Level(float(t), float(a), float(s))


# The two ends of beta at T = 1000. With T timesteps they are multiplied by 1000 / T, so that the product, and with it
# the noise at the last t, stays about what it is where T is in the hundreds or more: the last sigma of "linear" is 157
# for T = 1000, 221 for 100, and then grows, 939 for 30 and 130,000 for 20 (Nichol and Dhariwal's code does the same).
BETAS = (1e-4, 0.02)
BETA_MAX = 0.999  # a beta of 1 would leave alpha_bar at 0, where eps no longer says anything about x0
SIGMAS = (0.002, 80.0)  # the ends of "karras" and "exponential": Karras et al. 2022, arXiv:2206.00364, table 1
RHO = 7.0


def make_schedule(
    kind: str, T: int = 1000, shift: float = 1.0, zero_snr: bool = False, betas: tuple[float, float] = BETAS
) -> Schedule:
    """Return the schedule of that kind.

    "linear", "scaled_linear", "cosine", "sigmoid" say what share beta of the variance each timestep replaces by noise:

        alpha_bar[t] = (1 - beta[0]) (1 - beta[1]) … (1 - beta[t]),    a = sqrt(alpha_bar),  s = sqrt(1 - alpha_bar)

    "karras", "exponential" have sigma from 0.002 to 80, evenly in sigma^(1/7) or in ln(sigma), and
    a = 1 / sqrt(1 + sigma^2).
    "flow" goes straight from image to noise: s = sigma_flow = (t + 1) / T, a = 1 - s.

    shift: for the flow alone; more than 1 shifts timesteps towards noise, as large images need,

        sigma_flow <- shift sigma_flow / (1 + (shift - 1) sigma_flow)

    zero_snr: let the last x_t be pure noise (the flow's always is), by stretching a:

        a <- (a - a[T-1]) a[0] / (a[0] - a[T-1])

    betas: the ends of "linear", "scaled_linear" and "sigmoid" at T = 1000.
    Raises MinidiffError for another kind, fewer than two timesteps, or a shift that is not above 0.
    Sources: Ho et al. 2020, arXiv:2006.11239, eq. 4; Karras et al. 2022, arXiv:2206.00364, eq. 5; Lipman et al. 2022,
    arXiv:2210.02747, eq. 20; Esser et al. 2024, arXiv:2403.03206, eq. 23 (shift); Lin et al. 2023, arXiv:2305.08891,
    algorithm 1 (zero_snr).
    """
    if kind not in KINDS:
        raise MinidiffError(f"schedule must be one of {', '.join(KINDS)}, got {kind!r}")
    if T < 2:
        raise MinidiffError(f"a schedule needs T of 2 timesteps or more, got {T}")
    if not 0 < shift < np.inf:
        raise MinidiffError(f"shift must be above 0, got {shift:g}")
    if shift != 1 and kind != "flow":
        raise MinidiffError(f"shift is a setting of the flow schedule; {kind} has none, got {shift:g}")
    if kind == "flow":
        even = np.arange(1, T + 1) / T
        s = shift * even / (1 + (shift - 1) * even)
        a = 1 - s
    elif kind in ("karras", "exponential"):
        sigma = karras(*SIGMAS, T) if kind == "karras" else np.geomspace(*SIGMAS, T)
        a, s = _scaled(sigma, kind)
    else:
        alpha_bar = np.cumprod(1 - _betas(kind, T, *betas))
        a, s = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
    if zero_snr and kind != "flow":
        a = (a - a[-1]) * a[0] / (a[0] - a[-1])
        s = np.sqrt(1 - a**2)
    a.setflags(write=False)  # all users of the schedule share the arrays
    s.setflags(write=False)
    return Schedule(kind, a, s)


def _betas(kind: str, T: int, start: float, end: float) -> np.ndarray:
    """Return beta, the share of variance that each timestep replaces by noise: (T,) float64 in (0, 0.999].

    linear: evenly from 0.0001 to 0.02.  Ho et al. 2020, arXiv:2006.11239, section 4.
    scaled_linear: evenly in sqrt(beta), so that noise comes later.  Rombach et al. 2021, arXiv:2112.10752 (their code).
    cosine: such that alpha_bar follows f(t / T) with f(u) = cos(pi/2 (u + 0.008) / 1.008)^2; slower at both ends.
        Nichol and Dhariwal 2021, arXiv:2102.09672, eq. 17.
    sigmoid: beta from 0.0001 to 0.02 along an S, the logistic function over [-6, 6].  As in the `diffusers` library
        (beta_schedule="sigmoid"); Jabri et al. 2022, arXiv:2212.11972, put the S into alpha_bar instead.
    """
    if kind == "cosine":
        u = np.arange(T + 1) / T
        f = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2
        beta = 1 - f[1:] / f[:-1]
    elif kind == "scaled_linear":
        beta = np.linspace(start**0.5, end**0.5, T) ** 2 * 1000 / T
    else:
        path = np.linspace(0, 1, T) if kind == "linear" else 1 / (1 + np.exp(-np.linspace(-6, 6, T)))
        beta = (start + (end - start) * path) * 1000 / T
    return np.minimum(beta, BETA_MAX)


def karras(first: float, last: float, n: int) -> np.ndarray:
    """Return n sigmas from the first to the last, evenly in sigma^(1/7): (n,) float64.

    They are dense where sigma is small, where the details of the image are decided.
    Source: Karras et al. 2022, arXiv:2206.00364, eq. 5.
    """
    return np.linspace(first ** (1 / RHO), last ** (1 / RHO), n) ** RHO


def _scaled(sigma: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a and s with s / a = sigma: with a + s = 1 for the flow, else with a^2 + s^2 = 1."""
    angle = np.arctan(sigma)  # s = sigma / sqrt(1 + sigma^2) would be NaN if sigma is infinite
    a, s = np.cos(angle), np.sin(angle)
    a = np.where(np.isinf(sigma), 0.0, a)  # cos(pi / 2) is 6e-17 in float64
    return (a / (a + s), s / (a + s)) if kind == "flow" else (a, s)
