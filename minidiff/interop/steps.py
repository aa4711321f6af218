"""The timesteps that the samplers of diffusers visit, and the timestep at which each step of its DDIM ends.

Idea: a step of diffusers' DDPM ends at the next timestep of the list, as in minidiff.  A step of its DDIM from t always
ends at t - T // N, even if the next timestep of the list differs:

    timesteps, N = 10 of T = 1000, linspace:   999, 888, 777, …      the first step ends at 899, the next begins at 888

The two timesteps agree for spacing "leading", and for "trailing" if N divides T.  Where t - T // N is below 0, the
step ends at the image without noise if set_alpha_to_one is true, otherwise at the noise level of timestep 0.  minidiff
does the same with models of diffusers, to draw the same images.
Leaves out the other schedulers of diffusers.
"""

from collections.abc import Sequence

import numpy as np

from minidiff.diffusion.schedule import CLEAN, Level, Schedule
from minidiff.diffusion.timesteps import levels
from minidiff.errors import MinidiffError


def visited(schedule: Schedule, steps: int, spacing: str, offset: int = 0) -> list[Level]:
    """Return the noise levels that diffusers visits, as `levels` in diffusion/timesteps.py does for minidiff.

    offset: is added to the timesteps of spacing "leading" (steps_offset).
    Raises MinidiffError if diffusers would visit a timestep that does not exist.
    """
    path, T = levels(schedule, steps, spacing), schedule.T
    if spacing == "leading" and offset:
        times = [level.t + offset for level in path[:-1]]
        if times[0] >= T:
            raise MinidiffError(
                f"steps_offset {offset} of the model leads beyond its last timestep {T - 1}: {steps} steps would begin "
                f"at {times[0]}; ask for another number of steps, or another spacing"
            )
        return levels(schedule, times)
    if spacing == "linspace" and steps == 1:
        return levels(schedule, [0])
    if spacing == "trailing" and len(np.arange(T, 0, -T / steps)) > steps:
        raise MinidiffError(
            f"timestep_spacing trailing: for {steps} steps of {T}, rounding adds timestep -1 in diffusers; "
            "ask for another number of steps, or another spacing"
        )
    return path


def ends(schedule: Schedule, path: Sequence[Level], to_one: bool = True) -> list[Level]:
    """Return the noise level at which each step of diffusers' DDIM ends.

    path: the levels from `visited`.  to_one: whether the last step ends at the image without noise (set_alpha_to_one),
    or at the level of timestep 0.
    """
    *path, _ = path
    stride, end = schedule.T // len(path), CLEAN if to_one else schedule.level(0)
    if not all(isinstance(level.t, int) for level in path):  # spacing "karras", which DDIM of diffusers does not have
        return [*path[1:], end]
    return [schedule.level(level.t - stride) if level.t >= stride else end for level in path]
