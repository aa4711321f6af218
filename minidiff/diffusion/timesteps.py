"""Which noise levels a sampler visits on its way from noise to image.

Idea: the network is trained at T timesteps, but a sampler visits only some of them, such as 50 of 1000.  Their choice
matters for the image about as much as the choice of the sampler: with too few at the noisy end the layout is wrong,
with too few at the clean end the details are wrong.
Leaves out a and s at each level: schedule.py.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

import numpy as np

from minidiff.diffusion.schedule import CLEAN, Level, Schedule, karras
from minidiff.errors import MinidiffError

Spacing = Literal["trailing", "leading", "linspace", "karras"]
SPACINGS: tuple[str, ...] = get_args(Spacing)


def levels(schedule: Schedule, steps: int | Sequence[int], spacing: str = "trailing") -> list[Level]:
    """Return the levels that a sampler visits, from the noisiest on, with `CLEAN` as the last.

    steps: their number, from 1 to T, or the falling timesteps themselves.
    trailing: T-1 and every (T / steps)-th before it; 50 of 1000 are 999, 979, …, 19.  The first is the noisiest
        one, because sampling starts from pure noise, and the last step goes to the image.
    leading: 0 and every (T // steps)-th after it; 50 of 1000 are 980, …, 20, 0.  The first is not the noisiest,
        although sampling starts from pure noise: images come out greyer than they should.
    linspace: both ends, and evenly between them; of one step, the noisiest.
    karras: both ends, and between them evenly in sigma^(1/7), see `schedule.karras`; these lie between the timesteps.
    Source: Lin et al. 2023, arXiv:2305.08891, table 2; Karras et al. 2022, arXiv:2206.00364, eq. 5.
    """
    T = schedule.T
    if not isinstance(steps, int | np.integer):
        return [*map(schedule.level, _falling(T, steps)), CLEAN]
    if not 1 <= steps <= T:
        raise MinidiffError(f"steps must be from 1 to {T}, the schedule's length, got {steps}")
    if spacing not in SPACINGS:
        raise MinidiffError(f"spacing must be one of {', '.join(SPACINGS)}, got {spacing!r}")
    if spacing == "karras":
        last, first = schedule.level(0).sigma, schedule.level(T - 1).sigma
        if np.isinf(first):
            raise MinidiffError(
                "spacing karras needs a largest sigma, and this schedule ends in pure noise, where sigma is infinite; "
                f"use one of {', '.join(SPACINGS[:-1])}"
            )
        return [*map(schedule.at_sigma, karras(first, last, int(steps))), CLEAN]
    if spacing == "trailing":
        times = trailing(T, int(steps))
    elif spacing == "leading":
        times = [index * (T // int(steps)) for index in reversed(range(int(steps)))]
    else:
        times = linspace(T, int(steps))
    return [*map(schedule.level, times), CLEAN]


def trailing(T: int, steps: int) -> list[int]:
    """Spread `steps` timesteps evenly over 0 … T-1, from T-1 downwards: 5 of 1000 are 999, 799, 599, 399, 199.

        t_i = round(T - i T / steps) - 1

    Halfway between two timesteps the rounding of T / steps decides, as in other implementations of the paper; sometimes
    `arange` has one timestep too many, -1.
    Source: Lin et al. 2023, arXiv:2305.08891, table 2.
    """
    return [int(t) - 1 for t in np.arange(T, 0, -T / steps).round()[:steps]]


def linspace(T: int, steps: int) -> list[int]:
    """Spread `steps` timesteps evenly over 0 … T-1, both included, downwards: 4 of 1000 are 999, 666, 333, 0."""
    return [int(t) for t in np.linspace(0, T - 1, steps).round()[::-1]] if steps > 1 else [T - 1]


def _falling(T: int, steps: Sequence[int]) -> list[int]:
    times = [int(t) for t in steps]
    falls = all(t > t_prev for t, t_prev in pairwise(times))
    if not times or not falls or not 0 <= times[-1] <= times[0] < T:
        raise MinidiffError(
            f"timesteps must decrease and lie in 0 … {T - 1}, got {times[:8]}{' …' if len(times) > 8 else ''}"
        )
    return times
