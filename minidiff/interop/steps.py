"""Where diffusers' samplers go: the times that they visit, and where each step of its DDIM ends.

Idea: its DDPM steps to the time that it visits next, as we do.  Its DDIM steps to t - T // N, whatever it visits next,

    times, N = 10 of T = 1000, linspace:   999, 888, 777, …      and from 999 to 899, which is taken for 888

and that is the same only where N divides T, or in spacing "leading".  Whoever draws the same images goes there too.
After scheduler.py.  Leaves out its other schedulers.
"""

from collections.abc import Sequence

import numpy as np

from minidiff.diffusion.schedule import CLEAN, Level, Schedule
from minidiff.diffusion.timesteps import levels
from minidiff.errors import MinidiffError


def visited(schedule: Schedule, steps: int, spacing: str, offset: int = 0) -> list[Level]:
    """Return the levels that diffusers visits, as `spacing.levels` does; offset: is added to the times of "leading".

    Raises MinidiffError where diffusers would visit a time that is none.
    """
    path, T = levels(schedule, steps, spacing), schedule.T
    if spacing == "leading" and offset:
        times = [level.t + offset for level in path[:-1]]
        if times[0] >= T:
            raise MinidiffError(
                f"steps_offset {offset} of the model leads beyond its last time {T - 1}: {steps} steps would begin "
                f"at {times[0]}; ask for another number of steps, or another spacing"
            )
        return levels(schedule, times)
    if spacing == "linspace" and steps == 1:
        return levels(schedule, [0])
    if spacing == "trailing" and len(np.arange(T, 0, -T / steps)) > steps:
        raise MinidiffError(
            f"timestep_spacing trailing: {steps} steps of {T} are one more in diffusers, from time -1, by a rounding; "
            "ask for another number of steps, or another spacing"
        )
    return path


def ends(schedule: Schedule, path: Sequence[Level], to_one: bool = True) -> list[Level]:
    """Return where each step of diffusers' DDIM ends, of a path that `visited` returns.

    to_one: whether the end of all is the image (set_alpha_to_one), or else the level of time 0.
    """
    *path, _ = path
    stride, end = schedule.T // len(path), CLEAN if to_one else schedule.level(0)
    if not all(isinstance(level.t, int) for level in path):  # spacing "karras", which diffusers' DDIM has not
        return [*path[1:], end]
    return [schedule.level(level.t - stride) if level.t >= stride else end for level in path]
