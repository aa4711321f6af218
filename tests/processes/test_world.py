"""What one process tells the others, and how work is divided."""

import numpy as np
import pytest

from minidiff.processes.world import ALONE, batched
from tests.processes.threads_as_processes import in_threads


@pytest.mark.parametrize("size", [1, 2, 3])
def test_arrays_of_any_shape_and_number_are_shared(size):
    mine = [[np.arange(6, dtype=np.int16).reshape(2, 3)], [], [np.float32(2.5), np.zeros((0, 4)), np.array([True])]]
    for found in in_threads(size, lambda world: world.share([np.asarray(each) for each in mine[world.rank]])):
        assert len(found) == size
        for arrays, expected in zip(found, mine):
            assert [(a.dtype, a.shape, a.tolist()) for a in arrays] == [
                (np.asarray(a).dtype, np.shape(a), np.asarray(a).tolist()) for a in expected
            ]


def test_texts_are_shared():
    for found in in_threads(3, lambda world: world.texts("é" * world.rank)):
        assert found == ["", "é", "éé"]
    assert ALONE.texts("x\0") == ["x\0"]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_each_task_runs_once_and_all_see_its_result(size, count):
    ran = []

    def run(world):
        tasks = ((lambda k=k: ran.append((k, world.rank)) or [np.full(k + 1, k)]) for k in range(count))
        return [array.tolist() for (array,) in world.in_turn(tasks)]

    assert in_threads(size, run) == [[[k] * (k + 1) for k in range(count)]] * size
    assert sorted(ran) == [(k, k % size) for k in range(count)]


def test_the_first_process_decides():
    assert in_threads(3, lambda world: world.said_by_first([7, None, 9][world.rank])) == [7, 7, 7]
    assert ALONE.said_by_first(None) is None


def test_batched():
    assert list(batched("abcde", 2)) == [("a", "b"), ("c", "d"), ("e",)]


def test_one_process_looks_first_then_one_on_each_machine():
    order = []

    def run(world):
        world.place = world.rank % 2  # two on each of two machines
        return world.one_first(lambda: order.append(world.rank) or world.rank)

    assert in_threads(4, run) == [0, 1, 2, 3]
    assert order[:2] == [0, 2] and sorted(order[2:]) == [1, 3]
    assert ALONE.one_first(lambda: 5) == 5
