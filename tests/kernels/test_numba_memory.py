"""Memory that is used again: only once nobody holds it, aligned, and small arrays left to NumPy."""

import copy
import gc
import math
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from minidiff.kernels import numba_memory
from minidiff.kernels.numba_memory import FORGOTTEN, LINE, SMALLEST, empty

SHAPE = (4, 64, 64, 5)  # 80 KiB times four; nothing else in the tests has this size


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(numba_memory, "_kept", {})
    monkeypatch.setattr(numba_memory, "_starts", {})
    monkeypatch.setattr(numba_memory, "_wanted", {})


def blocks():
    return sum(len(kept) for kept in numba_memory._kept.values())


def test_memory_is_used_again():
    a = empty(SHAPE)
    place = a.ctypes.data
    del a
    for _ in range(3):
        assert empty(SHAPE).ctypes.data == place
    assert blocks() == 1


def test_never_while_somebody_holds_it():
    a, b = empty(SHAPE), empty(SHAPE)
    assert not np.shares_memory(a, b) and blocks() == 2
    a[...], b[...] = 1, 2
    place = a.ctypes.data
    del a
    c = empty(SHAPE)
    assert c.ctypes.data == place and not np.shares_memory(c, b) and (b == 2).all()


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[0],
        lambda a: a[3:, 5, ::2],
        lambda a: a.reshape(-1),
        lambda a: a.reshape(-1)[-1:],
        lambda a: a.T,
        lambda a: a.swapaxes(1, 2)[:, 1:].view(np.uint32),
        lambda a: memoryview(a),
        lambda a: np.frombuffer(a, np.uint8),
        lambda a: np.broadcast_to(a, (2, *a.shape)),
        lambda a: np.lib.stride_tricks.sliding_window_view(a, 3, axis=1),
        lambda a: iter(a),
        lambda a: [np.atleast_2d(a[0, 0])],
        lambda a: lambda: a,
        lambda a: copy.copy([a]),
    ],
)
def test_never_while_any_view_is_alive(view):
    """The array itself is gone; what was made of it holds the memory, and lets it go at the end."""
    held = view(empty(SHAPE))
    gc.collect(0)  # what was made just now
    others = [empty(SHAPE) for _ in range(3)]
    assert blocks() == 4
    if isinstance(held, np.ndarray):
        assert not any(np.shares_memory(held, other) for other in others)
    del held, others
    kept = [empty(SHAPE) for _ in range(4)]
    assert blocks() == 4 and len({a.ctypes.data for a in kept}) == 4


def test_a_copy_holds_nothing():
    held = empty(SHAPE).copy()
    again = empty(SHAPE)
    assert blocks() == 1 and not np.shares_memory(held, again)


def test_a_result_survives_the_next_call(version):
    """What a kernel returned is not overwritten by its next result, however it is held."""
    x, w = version.array(4, 32, 32, 16), version.array(3, 3, 16, 16)
    first = version.conv2d(x, w)[1:].reshape(-1)
    before = first.copy()
    for _ in range(3):
        version.conv2d(-x, w)
    assert np.array_equal(first, before)


@pytest.mark.parametrize("shape", [SHAPE, (SMALLEST // 4,), (100_003,), (17, 1, 1001)], ids=str)
def test_shape_dtype_and_alignment(shape):
    held = [empty(shape) for _ in range(3)]
    for a in held:
        assert a.shape == shape and a.dtype == np.float32 and a.flags.carray
        assert a.ctypes.data % LINE == 0
        a[...] = 1  # all of it may be written


def test_other_shapes_of_one_size_share():
    a = empty(SHAPE)
    place = a.ctypes.data
    del a
    b = empty((5, 64, 256))
    assert b.ctypes.data == place and b.shape == (5, 64, 256) and blocks() == 1
    del b
    empty((5, 64, 257))
    assert blocks() == 2


def test_memory_that_nobody_wants_any_more_goes():
    """Ever new sizes, one after the other, do not add up; what is held or wanted again and again stays."""
    held, often = empty(SHAPE), empty((5, *SHAPE)).ctypes.data
    held[...] = 7
    for n in range(20):
        empty((SMALLEST + n,))
        for _ in range(FORGOTTEN // 4):
            assert empty((5, *SHAPE)).ctypes.data == often
    assert blocks() <= 2 + 5 and (held == 7).all()
    assert all(
        len(numba_memory._starts[n]) == len(b) == len(numba_memory._wanted[n]) for n, b in numba_memory._kept.items()
    )


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 5), (7,), (SMALLEST // 4 - 1,)], ids=str)
def test_small_arrays_are_numpys(shape):
    a = empty(shape)
    assert a.shape == shape and a.dtype == np.float32 and a.flags.owndata and blocks() == 0
    assert a.size == math.prod(shape)


def together(*calls):
    """What the functions return, each in a thread of its own, none of which ends before all have returned."""
    results, all_returned = [None] * len(calls), threading.Barrier(len(calls))

    def run(i):
        results[i] = calls[i]()
        all_returned.wait(10)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_threads_have_scratch_memory_of_their_own():
    take = lambda: numba_memory.scratch("kernel", (50,), (70,))
    one, other = together(take, take)
    assert not any(np.shares_memory(a, b) for a in one for b in other)


def test_one_block_is_not_given_to_two_threads(monkeypatch):
    """The second asks when the first has seen that the block is free, and has not taken it yet: it has to wait."""
    empty(SHAPE)  # its block is free from now on
    free, taken, first_is_looking = [], [], threading.Event()
    second = threading.Thread(target=lambda: taken.append(empty(SHAPE)))

    def references(block):
        found = sys.getrefcount(block)
        if not free:
            free.append(found)
            first_is_looking.set()
            second.start()
            second.join(0.2)  # without a lock it is done by now
            first_is_looking.clear()
        return 2 if first_is_looking.is_set() else 2 + found - free[0]

    monkeypatch.setattr(numba_memory, "sys", SimpleNamespace(getrefcount=references))
    first = empty(SHAPE)
    second.join()
    assert not np.shares_memory(first, taken[0])
