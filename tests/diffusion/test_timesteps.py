"""Which levels a sampler visits: each spacing by its definition, and what is refused."""

from itertools import pairwise

import numpy as np
import pytest

from minidiff.diffusion.schedule import CLEAN, KINDS, make_schedule
from minidiff.diffusion.timesteps import SPACINGS, levels, linspace, trailing
from minidiff.errors import MinidiffError

LINEAR = make_schedule("linear")


def times(steps, spacing, schedule=LINEAR):
    *visited, last = levels(schedule, steps, spacing)
    assert last is CLEAN
    return [level.t for level in visited]


def test_ten_of_a_thousand():
    """The rows of Lin et al. 2023, table 2, counted from 0."""
    assert times(10, "trailing") == [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]
    assert times(10, "leading") == [900, 800, 700, 600, 500, 400, 300, 200, 100, 0]
    assert times(10, "linspace") == [999, 888, 777, 666, 555, 444, 333, 222, 111, 0]


def test_trailing_times():
    assert trailing(1000, 1) == [999]
    assert trailing(1000, 3) == [999, 666, 332]  # round(arange(T, 0, -T / N)) - 1
    assert trailing(4, 4) == [3, 2, 1, 0]


@pytest.mark.parametrize("T", [10, 37, 400, 1000])
def test_every_number_of_steps_is_rounded_as_numpy_and_diffusers_round_it(T):
    """Where a time lies in the middle between two, the order of the arithmetic decides: 48 steps visit 936, not 937."""
    for steps in range(2, T + 1):
        assert trailing(T, steps) == [int(t) - 1 for t in np.round(np.arange(T, 0, -T / steps))][:steps]
        assert linspace(T, steps) == [int(t) for t in np.round(np.linspace(0, T - 1, steps))][::-1]


def test_one_step_of_linspace_is_the_noisiest():
    """From pure noise no other makes an image."""
    assert linspace(1000, 1) == [999]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("T", [2, 10, 37])
def test_every_number_of_steps_falls_within_the_schedule(spacing, T):
    schedule = make_schedule("cosine", T)
    for steps in range(1, T + 1):
        visited = levels(schedule, steps, spacing)
        assert len(visited) == steps + 1
        assert all(level.sigma > prev.sigma for level, prev in pairwise(visited))
        assert visited[-2].t >= 0
        assert visited[0].t <= T - 1
        if spacing != "leading":  # the start is pure noise, and so is the first level, as far as there is one
            assert visited[0].t == pytest.approx(T - 1, abs=1e-9)


def test_karras_is_even_in_the_seventh_root_and_may_lie_between_the_times():
    visited = levels(LINEAR, 7, "karras")
    roots = np.array([level.sigma for level in visited[:-1]]) ** (1 / 7)
    assert np.diff(roots) == pytest.approx(np.full(6, (roots[-1] - roots[0]) / 6), rel=1e-9)
    assert visited[0].sigma == pytest.approx(LINEAR.level(999).sigma, rel=1e-9)
    assert visited[-2].sigma == pytest.approx(LINEAR.level(0).sigma, rel=1e-9)
    log_sigma = np.log(LINEAR.all.sigma)
    for level in visited[1:-2]:
        assert level.t != int(level.t)
        assert np.interp(level.t, np.arange(1000), log_sigma) == pytest.approx(np.log(level.sigma), abs=1e-9)


def test_times_may_be_given():
    assert times([999, 500, 3], "trailing") == [999, 500, 3]
    assert times(range(900, -1, -100), "karras") == list(range(900, -1, -100))  # then no spacing counts


@pytest.mark.parametrize("kind", KINDS)
def test_a_level_has_the_schedules_numbers(kind):
    schedule = make_schedule(kind, 20)
    for level in levels(schedule, 6, "linspace")[:-1]:
        assert (level.a, level.s) == (schedule.a[level.t], schedule.s[level.t])


@pytest.mark.parametrize("schedule", [make_schedule("flow"), make_schedule("cosine", zero_snr=True)], ids=["flow", "0"])
def test_karras_needs_a_largest_sigma(schedule):
    with pytest.raises(MinidiffError) as caught:
        levels(schedule, 10, "karras")
    assert str(caught.value) == (
        "spacing karras needs a largest sigma, and this schedule ends in pure noise, where sigma is infinite; "
        "use one of trailing, leading, linspace"
    )


@pytest.mark.parametrize(
    ("steps", "spacing", "message"),
    [
        (0, "trailing", "steps must be from 1 to 1000, the schedule's length, got 0"),
        (1001, "leading", "steps must be from 1 to 1000, the schedule's length, got 1001"),
        (10, "even", "spacing must be one of trailing, leading, linspace, karras, got 'even'"),
        ([500, 500], "trailing", "timesteps must decrease and lie in 0 … 999, got [500, 500]"),
        ([1000, 500], "trailing", "timesteps must decrease and lie in 0 … 999, got [1000, 500]"),
        ([5, -1], "trailing", "timesteps must decrease and lie in 0 … 999, got [5, -1]"),
        ([], "trailing", "timesteps must decrease and lie in 0 … 999, got []"),
        (range(10, 0), "trailing", "timesteps must decrease and lie in 0 … 999, got []"),
        (range(10), "trailing", "timesteps must decrease and lie in 0 … 999, got [0, 1, 2, 3, 4, 5, 6, 7] …"),
    ],
)
def test_mistakes_are_named(steps, spacing, message):
    with pytest.raises(MinidiffError) as caught:
        levels(LINEAR, steps, spacing)
    assert str(caught.value) == message
