"""Sixteen numbers as one value: memory to the byte, arithmetic to the bit, exp and sigmoid to the ULP."""

import subprocess
import sys

import numpy as np
import pytest
from numba import njit

from minidiff.kernels import numba_math
from minidiff.kernels.numba_vector import (
    LANES,
    alloca,
    exp,
    floor,
    load,
    load_four,
    load_six,
    masked_load,
    masked_store,
    maximum,
    minimum,
    pointer,
    power_of_two,
    prefetch,
    prefetch_to_write,
    sigmoid,
    splat,
    store,
    store_four,
    store_six,
)

RNG = np.random.default_rng(0)
ODD = np.float32([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-38, 3e38, -3e38, 0.5, -0.5, 1, 2.5, -2.5, 1e10, -7])


def draw(n=LANES, seed=0):
    return np.random.default_rng(seed).normal(size=n).astype(np.float32)


# ---- memory ---------------------------------------------------------------------------------------------------------


@njit
def copy(x, i, y, j):
    store(pointer(y), j, load(pointer(x), i))


@njit
def copy_part(x, i, y, j, n):
    """The first n numbers, and zeros in the fifteen behind."""
    store(pointer(y), j, masked_load(pointer(x), i, n))


@njit
def write_part(x, i, y, j, n):
    masked_store(pointer(y), j, load(pointer(x), i), n)


@njit
def copy_groups(x, y, step):
    from_x, into, between = pointer(x), pointer(y), alloca(10)
    prefetch(from_x, 0)
    prefetch_to_write(into, 0)
    store_four(between, 0, LANES, load_four(from_x, 0, step))
    store_six(between, 4 * LANES, LANES, load_six(from_x, 4 * step, step))
    store_four(into, 0, step, load_four(between, 0, LANES))
    store_six(into, 4 * step, step, load_six(between, 4 * LANES, LANES))


@pytest.mark.parametrize("n", [2**31, 2**31 + 64, 2**32, 2**32 + 3, 2**40, -1, -(2**31) - 1, -(2**32) + 5, -(2**40)])
def test_more_numbers_than_32_bits_count(n):
    """How many numbers remain in an array may not fit 32 bits: all lanes are taken, or none of a negative number."""
    x, y = draw(), np.full(LANES, -1, np.float32)
    copy_part(x, 0, y, 0, n)
    assert np.array_equal(y, x if n > 0 else np.zeros(LANES))
    y[:] = -1
    write_part(x, 0, y, 0, n)
    assert np.array_equal(y, x if n > 0 else np.full(LANES, -1))


@pytest.mark.parametrize("offset", [0, 1, 7])
def test_whole_vectors_anywhere(offset):
    """No alignment is asked for."""
    x, y = draw(40), np.full(40, -1, np.float32)
    copy(x, offset, y, offset + 3)
    assert np.array_equal(y[offset + 3 : offset + 3 + LANES], x[offset : offset + LANES])
    assert (np.delete(y, range(offset + 3, offset + 3 + LANES)) == -1).all()


@pytest.mark.parametrize("n", range(-1, 18))
def test_parts_of_vectors(n):
    """What lies beyond n is neither read, NaN as it may be, nor written; from 16 on, all is."""
    m = min(max(n, 0), LANES)
    x, y = np.full(40, np.nan, np.float32), np.full(40, -1, np.float32)
    x[5 : 5 + m] = draw(m)
    copy_part(x, 5, y, 9, n)
    assert np.array_equal(y[9 : 9 + m], x[5 : 5 + m]) and (y[9 + m : 9 + LANES] == 0).all()
    assert (y[:9] == -1).all() and (y[9 + LANES :] == -1).all()

    x, y = draw(40), np.full(40, -1, np.float32)
    write_part(x, 5, y, 9, n)
    assert np.array_equal(y[9 : 9 + m], x[5 : 5 + m])
    assert (y[:9] == -1).all() and (y[9 + m :] == -1).all()


def test_groups_of_vectors():
    step = 20
    x, y = draw(10 * step), np.full(10 * step, -1, np.float32)
    copy_groups(x, y, step)
    there = np.arange(10 * step) % step < LANES
    assert np.array_equal(y[there], x[there]) and (y[~there] == -1).all()


def test_nothing_beyond_the_end_is_touched():
    """The arrays end where memory ends: a page that may be neither read nor written follows. In its own process."""
    program = """
import ctypes, mmap, sys
import numpy as np
from numba import njit
from minidiff.kernels.numba_vector import masked_load, pointer, masked_store

@njit
def copy_part(x, i, y, j, n):
    masked_store(pointer(y), j, masked_load(pointer(x), i, n), n)

def guarded():
    memory = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    numbers = np.frombuffer(memory, np.float32)
    behind = numbers.ctypes.data + mmap.PAGESIZE
    if ctypes.CDLL(None).mprotect(ctypes.c_void_p(behind), ctypes.c_size_t(mmap.PAGESIZE), 0):
        sys.exit("mprotect failed")
    return numbers[: mmap.PAGESIZE // 4]

x, y = guarded(), guarded()
for n in range(17):
    x[:], y[:] = np.arange(len(x)), -1
    copy_part(x, len(x) - n, y, len(y) - n, n)
    assert np.array_equal(y[len(y) - n :], x[len(x) - n :]) and (y[: len(y) - n] == -1).all()
print("right")
"""
    if sys.platform == "win32":
        pytest.skip("mprotect is POSIX")
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True)
    assert run.stdout == "right\n", run.stderr


# ---- arithmetic -----------------------------------------------------------------------------------------------------


@njit
def each(a, b, number, y):
    u, v, into = load(pointer(a), 0), load(pointer(b), 0), pointer(y)
    store(into, 0, u + v)
    store(into, 16, u - v)
    store(into, 32, u * v)
    store(into, 48, u / v)
    store(into, 64, number * u)
    store(into, 80, -u)
    store(into, 96, maximum(u, v))
    store(into, 112, minimum(u, v))
    store(into, 128, floor(u))
    store(into, 144, splat(number))


@njit
def multiply_add(a, b, c, y):
    store(pointer(y), 0, load(pointer(a), 0) * load(pointer(b), 0) + load(pointer(c), 0))


@njit
def over(x, exp_x, sigmoid_x):
    """exp and sigmoid of x, whose length 16 divides."""
    for i in range(0, len(x), LANES):
        store(pointer(exp_x), i, exp(load(pointer(x), i)))
        store(pointer(sigmoid_x), i, sigmoid(load(pointer(x), i)))


@njit
def powers(n, y):
    for i in range(0, len(n), LANES):
        store(pointer(y), i, power_of_two(load(pointer(n), i)))


@pytest.mark.parametrize("b", [draw(seed=1), np.roll(ODD, 5), ODD], ids=["normal", "odd", "equal"])
@pytest.mark.parametrize("a", [draw(), ODD], ids=["normal", "odd"])
def test_arithmetic_is_numpys(a, b):
    """To the bit, NaN, infinities and denormals included; maximum and minimum give a where they cannot tell."""
    y, number = np.empty((10, LANES), np.float32), np.float32(1.7)
    each(a, b, number, y)
    with np.errstate(all="ignore"):
        exact = (
            a + b, a - b, a * b, a / b, number * a, -a, np.where(a < b, b, a), np.where(a > b, b, a), np.floor(a),
            np.full(LANES, number),
        )  # fmt: skip
    for i, correct in enumerate(exact):
        assert np.array_equal(y[i], correct, equal_nan=True), i
        numbers = ~np.isnan(correct)
        assert np.array_equal(np.signbit(y[i][numbers]), np.signbit(correct[numbers])), i


def test_multiply_add_is_rounded_once_or_twice():
    a, b, c, y = draw(), draw(seed=1), draw(seed=2), np.empty(LANES, np.float32)
    multiply_add(a, b, c, y)
    once = (a.astype(np.float64) * b + c).astype(np.float32)
    assert ((y == once) | (y == a * b + c)).all()


def exp_and_sigmoid(x):
    x = np.ascontiguousarray(x, np.float32)
    full = np.zeros(-(-len(x) // LANES) * LANES, np.float32)
    full[: len(x)] = x
    y, s = np.empty_like(full), np.empty_like(full)
    over(full, y, s)
    return y[: len(x)], s[: len(x)]


def test_exp_within_two_ulp():
    x = np.concatenate([np.linspace(-87, 87, 200_001), RNG.normal(size=100_000), 1e-4 * RNG.normal(size=1000)])
    x = x.astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    y, _ = exp_and_sigmoid(x)
    assert (np.abs(y - exact) / np.spacing(exact.astype(np.float32))).max() < 2


def test_sigmoid_within_four_ulp():
    """exp's two, and a rounding each of the sum and of the quotient."""
    x = np.concatenate([np.linspace(-86, 87, 200_001), RNG.normal(size=100_000)]).astype(np.float32)
    exact = 1 / (1 + np.exp(-x.astype(np.float64)))
    _, s = exp_and_sigmoid(x)
    assert (np.abs(s - exact) / np.spacing(exact.astype(np.float32))).max() < 4


def test_exp_and_sigmoid_at_their_ends():
    """Constant beyond 87, NaN as NaN."""
    y, s = exp_and_sigmoid(np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 88, -88, 0, -0.0]))
    assert np.isnan(y[0]) and np.isnan(s[0])
    largest, smallest = exp_and_sigmoid(np.array([87, -87]))[0]
    assert np.array_equal(y[1:], np.array([largest, smallest, largest, smallest, largest, smallest, 1, 1], np.float32))
    np.testing.assert_allclose(s[1:], [1, 0, 1, 0, 1, 0, 0.5, 0.5], atol=2e-38)


def test_exp_is_that_of_numba_math():
    @njit
    def one_by_one(x, y):
        for i in range(len(x)):
            y[i] = numba_math.exp(x[i])

    x = np.linspace(-100, 100, 16_000, dtype=np.float32)
    y = np.empty_like(x)
    one_by_one(x, y)
    np.testing.assert_allclose(exp_and_sigmoid(x)[0], y, rtol=4 * np.finfo(np.float32).eps)  # each within 2 ULP


def test_powers_of_two():
    n = np.zeros(256, np.float32)
    n[:254] = np.arange(-126, 128)
    y = np.empty_like(n)
    powers(n, y)
    assert np.array_equal(y, np.exp2(n.astype(np.float64)).astype(np.float32))
