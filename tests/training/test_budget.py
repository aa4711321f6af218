"""When things happen: by steps, by the clock, and the end that minutes come to."""

import pytest

from minidiff.training.budget import MARGIN, Budget, Periodic, too_late


def test_every_so_many_steps():
    every = Periodic(3, seconds=1, first=1)
    assert [step for step in range(1, 10) if every.due(step, elapsed=1000)] == [3, 6, 9]


def test_every_so_many_seconds_and_earlier_once():
    every = Periodic(None, seconds=60, first=10)
    due = [elapsed for elapsed in range(0, 200, 4) if every.due(1, elapsed)]
    assert due == [12, 72, 132, 192]


def test_a_slow_step_does_not_pile_up_what_is_due():
    every = Periodic(None, seconds=60, first=10)
    assert every.due(1, 500)
    assert not every.due(2, 501)


def test_minutes_become_the_steps_that_fit():
    """8.5 minutes at 0.25 s a step, the first two steps 30 s each: they compile, and count as time, not as speed."""
    budget, elapsed = Budget(8.5, warmup=100), 0.0
    for step in range(1, 101):
        seconds = 30.0 if step <= 2 else 0.25
        elapsed += seconds
        if budget.ready(step, seconds):
            break
    assert elapsed == pytest.approx(80)  # 20 s were measured
    steps = budget.steps(step, elapsed, preview=2.0, previews_every=60.0, final=20.0)
    end = elapsed + (steps - step) * 0.25 * 62 / 60 + 20
    assert end == pytest.approx(elapsed + MARGIN * (510 - elapsed), abs=0.5)
    assert 0.95 * 510 < end < 510


def test_measuring_ends_with_the_warmup():
    budget = Budget(8.5, warmup=10)
    assert [budget.ready(step, 0.01) for step in range(1, 11)] == [False] * 9 + [True]


def test_few_minutes_are_measured_briefly():
    budget = Budget(0.1, warmup=100)
    ready = [budget.ready(step, 0.4) for step in range(1, 7)]
    assert ready == [False, False, False, False, True, True]  # 1.2 of 6 seconds, after the first two steps


def test_minutes_that_are_over_end_the_run_at_once():
    budget = Budget(0.1, warmup=100)
    for step in range(1, 4):
        budget.ready(step, 60.0)
    assert budget.steps(3, 180.0, 1.0, 60.0, 1.0) == 3


def test_minutes_come_too_late_once_the_rate_falls():
    assert not too_late(0, warmup=10)
    assert not too_late(9, warmup=10)
    assert too_late(10, warmup=10)
