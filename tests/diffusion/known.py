"""Distributions whose perfect denoiser is known, so that a sampler has no network to blame.

Each place of an image holds a vector x0, its channels, drawn from a mixture of normal distributions N(mu_k, C_k) with
shares w_k.  Then x_t = a x0 + s eps is one too, of N(a mu_k, V_k) with V_k = a^2 C_k + s^2, and

    E[x0 | x_t] = sum over k of  p_k(x_t) (mu_k + a C_k V_k^-1 (x_t - a mu_k)),      p_k ~ w_k N(x_t; a mu_k, V_k)
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from minidiff import backend
from minidiff.diffusion import SAMPLERS, Noise, Run
from minidiff.diffusion.process import Process, spread
from minidiff.diffusion.schedule import KINDS, Level, make_schedule


@dataclass(frozen=True, eq=False)
class Mixture:
    """shares: (K,).  means: (K, C).  covariances: (K, C, C)."""

    shares: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    @property
    def mean(self):
        return self.shares @ self.means

    @property
    def covariance(self):
        apart = self.means - self.mean
        return np.tensordot(self.shares, self.covariances + apart[:, :, None] * apart[:, None, :], 1)

    def draw(self, shape, seed=0):
        """Images of the distribution, (*shape, C) float64."""
        rng = np.random.default_rng(seed)
        which = rng.choice(len(self.shares), shape, p=self.shares)
        roots = np.linalg.cholesky(self.covariances)
        z = rng.standard_normal((*shape, self.means.shape[1]))
        return self.means[which] + np.einsum("...ij,...j->...i", roots[which], z)

    def guess(self, x, level):
        """E[x0 | x_t = x]: (..., C) to the same."""
        x, shape = np.ascontiguousarray(x.reshape(-1, x.shape[-1]).T), x.shape  # (C, places): NumPy likes long rows
        log_p, each = [], []
        for mu, about, inverse, slope, constant in _hills(self, level):
            off = x - about
            each.append(mu + slope @ off)
            log_p.append(constant - 0.5 * (inverse @ off * off).sum(0))
        p = np.exp(log_p - np.max(log_p, 0))
        p /= p.sum(0)
        return sum(map(np.multiply, p, each)).T.reshape(shape)


@lru_cache(maxsize=1000)  # many samplers visit the same levels
def _hills(mixture, level):
    """Of each normal: mu, a mu, V^-1, a C V^-1, and what does not depend on x in the logarithm of p."""
    found = []
    for share, mu, C in zip(mixture.shares, mixture.means[:, :, None], mixture.covariances):
        V = level.a**2 * C + level.s**2 * np.eye(len(C))
        inverse = np.linalg.inv(V)
        constant = np.log(share) - 0.5 * np.linalg.slogdet(V)[1]
        found.append((mu, level.a * mu, inverse, level.a * C @ inverse, constant))
    return found


def normal(mu, s0):
    """Images of one channel whose values are drawn from N(mu, s0^2)."""
    return Mixture(np.ones(1), np.array([[mu]]), np.array([[[s0**2]]]))


TWO_HILLS = Mixture(np.array([0.4, 0.6]), np.array([[0.3], [-0.6]]), np.array([[[0.09]], [[0.25]]]))
CORRELATED = Mixture(
    np.array([0.5, 0.5]),
    np.array([[0.5, -0.2], [-0.3, 0.4]]),
    np.array([[[0.10, 0.06], [0.06, 0.08]], [[0.05, -0.02], [-0.02, 0.12]]]),
)

SCHEDULES = {kind: make_schedule(kind) for kind in KINDS}
NOT_FROM_NOISE = ("eps", "edm")  # targets that a schedule which ends in pure noise, like the flow, cannot have


def process_of(kind, target, **more):
    """A process of that schedule and target; of "cosine" where the flow cannot have the target."""
    return Process(SCHEDULES["cosine" if kind == "flow" and target in NOT_FROM_NOISE else kind], target, **more)


# Every way of sampling: the sampler and its settings.
WAYS = {
    "ddim": ("ddim", {}),
    "euler": ("euler", {}),
    "heun": ("heun", {}),
    "dpm-solver": ("dpm-solver", {}),
    "unipc": ("unipc", {}),
    "ddpm": ("ddpm", {}),
    "ddpm large": ("ddpm", {"variance": "large"}),
    "ddim 0.5": ("ddim", {"eta": 0.5}),
    "ddim 1": ("ddim", {"eta": 1.0}),
    "euler churn": ("euler", {"churn": 5.0}),
    "heun churn": ("heun", {"churn": 5.0}),
    "euler-ancestral": ("euler-ancestral", {}),
    "dpm-solver-sde": ("dpm-solver-sde", {}),
}
STEADY = [way for way in WAYS if way in ("ddim", "euler", "heun", "dpm-solver", "unipc")]  # no fresh noise
NOISY = [way for way in WAYS if way not in STEADY]


def ideal(process, known):
    """The perfect denoiser of a known distribution: a function of x and t, in the form that the target asks for."""

    def denoise(x, t):
        level = told(process, t)
        x_t = backend.to_numpy(x).astype(np.float64)
        if process.target == "edm":
            x_t = x_t * spread(level)
        x0 = known.guess(x_t, level)
        output = process.target_of(x0, (x_t - level.a * x0) / level.s, level)
        return backend.to_device(output.astype(x.dtype))

    return denoise


def told(process, t) -> Level:
    """The level that a network is told of by t, which may lie between the schedule's times."""
    if process.target == "edm":
        return process.schedule.at_sigma(np.exp(t / 250))
    if t == int(t):
        return process.schedule.level(int(t))
    log_sigma = np.log(process.schedule.all.sigma)
    return process.schedule.at_sigma(np.exp(np.interp(t, np.arange(process.schedule.T), log_sigma)))


def sampler(way, process, denoise, clip="none"):
    """The way of sampling with all but x, levels and noise settled, as editing takes it."""
    name, settings = WAYS[way]
    return lambda x, levels, noise: SAMPLERS[name](Run(denoise, process, levels, noise, clip=clip), x, **settings)


def sample(way, process, known, steps, count=4, shape=(4, 4), seed=0, first=0, clip="none", dtype=np.float32):
    """All steps of a way of sampling on images first … first + count - 1, with the perfect denoiser."""
    noise = Noise(seed, np.arange(first, first + count))
    x_T = noise.start((*shape, known.means.shape[1])).astype(dtype)
    return list(sampler(way, process, ideal(process, known), clip)(x_T, steps, noise))


def end(*args, **more):
    """The images that `sample` ends with, on the host."""
    return backend.to_numpy(sample(*args, **more)[-1].x_prev)
