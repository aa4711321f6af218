"""How fast a picture drowns in noise: alpha_bar, one number for each time t.

Idea: at time t a picture is

    x_t = sqrt(alpha_bar[t]) x0 + sqrt(1 - alpha_bar[t]) eps,      eps ~ N(0, 1)

so alpha_bar[t] is the share of the picture's variance that is left.  It falls from almost 1 to almost 0 while t goes
from 0 to T - 1; a schedule says along which curve.
First file of diffusion/; process.py uses it next.  Leaves out schedules with a continuous t.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from minidiff.errors import MinidiffError

Kind = Literal["linear", "cosine", "sigmoid"]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True, eq=False)
class Schedule:
    """The curve alpha_bar over t = 0 … T-1, larger is noisier.

    alpha_bar: (T,) float64, strictly falling, inside (0, 1).
    """

    kind: str
    alpha_bar: np.ndarray

    @property
    def T(self) -> int:
        """The number of times."""
        return len(self.alpha_bar)

    @property
    def snr(self) -> np.ndarray:
        """Signal-to-noise ratio alpha_bar / (1 - alpha_bar): (T,) float64."""
        return self.alpha_bar / (1 - self.alpha_bar)

    @property
    def sigma(self) -> np.ndarray:
        """The noise beside a picture of scale one, sqrt((1 - alpha_bar) / alpha_bar): (T,) float64."""
        return np.sqrt((1 - self.alpha_bar) / self.alpha_bar)


def make_schedule(kind: str, T: int = 1000) -> Schedule:
    """Return the schedule of that kind: "linear", "cosine" or "sigmoid".

        alpha_bar[t] = (1 - beta[0]) (1 - beta[1]) … (1 - beta[t])

    Raises MinidiffError for another kind, or fewer than two times.
    Source: Ho et al. 2020, arXiv:2006.11239, eq. 4.
    """
    if kind not in KINDS:
        raise MinidiffError(f"schedule must be one of {', '.join(KINDS)}, got {kind!r}")
    if T < 2:
        raise MinidiffError(f"a schedule needs at least 2 times T, got {T}")
    alpha_bar = np.cumprod(1 - _betas(kind, T))
    alpha_bar.setflags(write=False)  # shared by everybody who holds the schedule
    return Schedule(kind, alpha_bar)


# The two ends of beta at T = 1000. With T times they are multiplied by 1000 / T, so that the product, and with it the
# noise at the last t, stays what it is for any T (Nichol and Dhariwal's code does the same).
BETA_START, BETA_END = 1e-4, 0.02
BETA_MAX = 0.999  # a beta of 1 would leave alpha_bar at 0, where eps no longer says anything about x0


def _betas(kind: str, T: int) -> np.ndarray:
    """Return beta, the share of variance that each time replaces by noise: (T,) float64 in (0, 0.999].

    linear: evenly from 0.0001 to 0.02.  Ho et al. 2020, arXiv:2006.11239, section 4.
    cosine: such that alpha_bar follows f(t / T) with f(u) = cos(pi/2 (u + 0.008) / 1.008)^2; slower at both ends.
        Nichol and Dhariwal 2021, arXiv:2102.09672, eq. 17.
    sigmoid: beta from 0.0001 to 0.02 along an S, the logistic function over [-6, 6].  As in the `diffusers` library
        (beta_schedule="sigmoid"); Jabri et al. 2022, arXiv:2212.11972, put the S into alpha_bar instead.
    """
    if kind == "cosine":
        u = np.arange(T + 1) / T
        f = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2
        beta = 1 - f[1:] / f[:-1]
    else:
        path = np.linspace(0, 1, T) if kind == "linear" else 1 / (1 + np.exp(-np.linspace(-6, 6, T)))
        beta = (BETA_START + (BETA_END - BETA_START) * path) * 1000 / T
    return np.minimum(beta, BETA_MAX)
