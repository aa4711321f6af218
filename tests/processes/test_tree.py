"""Sums in the order of a tree: the same bits for any number of processes, and no more bytes than promised."""

import numpy as np
import pytest

from minidiff.errors import MinidiffError
from minidiff.processes.tree import PartSums, add_up, parts_of
from tests.processes.threads_as_processes import in_threads


def parts(n, numbers=37):
    """Numbers of very different sizes: the order of their sum shows in its bits."""
    rng = np.random.default_rng(n)
    return (rng.normal(size=(n, numbers)) * 10.0 ** rng.integers(-4, 5, (n, numbers))).astype(np.float32)


def by_definition(x):
    """The tree as its picture has it: halves as long as there are halves, then one after the other."""
    if len(x) % 2 == 0:
        half = len(x) // 2
        return by_definition(x[:half]) + by_definition(x[half:])
    total = np.zeros_like(x[0])
    for row in x:
        total = total + row
    return total


def sum_of(x, world):
    """What a process computes: the sum of its parts, then that of all processes."""
    own = np.split(x, world.size)[world.rank]
    sums, g = PartSums(len(own)), np.zeros_like(x[0])
    for k, part in enumerate(own):
        g += part
        if k + 1 < len(own):
            sums.add(g, k)
    sums.finish(g, slice(0, 11))
    sums.finish(g, slice(11, None))
    for done in add_up(world, g, np.full_like(g, np.nan), 0):
        world.wait(done)
    return g


@pytest.mark.parametrize("n", [1, 3, 4, 6, 8, 24])
def test_any_number_of_processes_finds_the_sum_of_the_tree(n):
    x = parts(n)
    expected = by_definition(x)
    for size in (1, 2, 4, 8):
        if n % size == 0 and (n // size) * size == n and n & -n >= size:
            for found in in_threads(size, lambda world: sum_of(x, world)):
                assert found.tobytes() == expected.tobytes(), (n, size)


def test_the_order_shows_in_these_numbers():
    x = parts(8)
    assert by_definition(x).tobytes() != x.sum(0).tobytes()


@pytest.mark.parametrize(
    "size, numbers", [(1, 5), (2, 1), (2, 100), (3, 2), (4, 3), (5, 100), (6, 1), (7, 100), (8, 2)]
)
def test_all_processes_find_the_same_sum(size, numbers):
    x = parts(size, numbers)
    found = in_threads(size, lambda world: sum_of(x[:, :numbers], world))
    assert len({each.tobytes() for each in found}) == 1
    np.testing.assert_allclose(found[0], x.astype(np.float64).sum(0), rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_a_process_sends_twice_the_array_less_its_own_part(size):
    x = parts(size, 64)

    def sent(world):
        sum_of(x, world)
        return world.sent

    assert in_threads(size, sent) == [2 * 64 * 4 * (size - 1) // size] * size


def test_a_batch_is_divided_among_all_processes():
    assert [parts_of(32, 1, n) for n in (1, 2, 4)] == [1, 2, 4]
    assert [parts_of(32, 8, n) for n in (1, 2, 4, 8)] == [8, 8, 8, 8]
    assert parts_of(48, 8, 3) == 24
    with pytest.raises(MinidiffError, match=r"32 images cannot be divided among 3 processes: .* 3 divides, such as 33"):
        parts_of(32, 1, 3)
    with pytest.raises(MinidiffError, match=r"32 images in 8 parts .* among 6 processes: .* 24 divides, such as 48"):
        parts_of(32, 8, 6)
