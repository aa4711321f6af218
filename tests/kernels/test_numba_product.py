"""The product that fits into registers, against NumPy in float64: both widths, any strides, lengths from 0 on."""

import numpy as np
import pytest
from numba import njit

from minidiff.kernels.numba_product import ROWS, WIDE, multiply_narrow, multiply_wide, rounded
from minidiff.kernels.numba_vector import LANES, pointer

EPS = np.finfo(np.float32).eps


@njit
def wide(a, a_start, a_row, a_step, b, b_start, b_step, c, c_start, c_row, K, add):
    multiply_wide(pointer(a), a_start, a_row, a_step, pointer(b), b_start, b_step, pointer(c), c_start, c_row, K, add)


@njit
def narrow(a, a_start, a_row, a_step, b, b_start, b_step, c, c_start, c_row, K, add):
    multiply_narrow(pointer(a), a_start, a_row, a_step, pointer(b), b_start, b_step, pointer(c), c_start, c_row, K, add)


def draw(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("add", [False, True], ids=["new", "added"])
@pytest.mark.parametrize("turned", [False, True], ids=["rows", "columns"])
@pytest.mark.parametrize("K", [0, 1, 2, 7, 64, 1000])
@pytest.mark.parametrize(("multiply", "columns"), [(wide, WIDE), (narrow, LANES)], ids=["wide", "narrow"])
def test_equals_numpy(multiply, columns, K, turned, add):
    """Blocks inside larger arrays; A by rows or by columns; nothing else of C is written, and NaN in C matters not."""
    A, B, C = draw(ROWS, K), draw(K, columns, seed=1), draw(ROWS, columns, seed=2)
    a = np.full((K + 2, ROWS + 3) if turned else (ROWS + 2, K + 3), np.nan, np.float32)
    b, c = np.full((K + 2, columns + 5), np.nan, np.float32), np.full((ROWS + 2, columns + 7), -1, np.float32)
    inside = a[1:-1, 2:-1]
    inside[:] = A.T if turned else A
    b[1:-1, 3:-2] = B
    c[1:-1, 4:-3] = C if add else np.nan
    a_strides = (1, a.shape[1]) if turned else (a.shape[1], 1)
    multiply(a, a.shape[1] + 2, *a_strides, b, b.shape[1] + 3, b.shape[1], c, c.shape[1] + 4, c.shape[1], K, add)
    exact = A.astype(np.float64) @ B + (C if add else 0)
    size = np.abs(A).astype(np.float64) @ np.abs(B) + np.abs(C)
    assert (np.abs(c[1:-1, 4:-3] - exact) <= (K + 1) * EPS / 2 * size).all()  # the bound of any order of summing
    c[1:-1, 4:-3] = -1
    assert (c == -1).all()


@pytest.mark.parametrize(("multiply", "columns"), [(wide, WIDE), (narrow, LANES)], ids=["wide", "narrow"])
def test_a_step_of_zero_and_what_is_not_finite(multiply, columns):
    """One row of B for all k; NaN and infinity come through."""
    A, row, c = draw(ROWS, 9), draw(columns), np.empty((ROWS, columns), np.float32)
    A[2, 3], A[5, 1] = np.nan, np.inf
    multiply(A, 0, 9, 1, row, 0, 0, c, 0, columns, 9, False)
    assert np.isnan(c[2]).all() and np.isinf(c[5]).all()
    others = [r for r in range(ROWS) if r not in (2, 5)]
    np.testing.assert_allclose(c[others], A[others].sum(1, dtype=np.float64)[:, None] * row, rtol=1e-4, atol=1e-5)


def test_rounded():
    assert [rounded(n, 16) for n in (0, 1, 15, 16, 17, 33)] == [0, 16, 16, 16, 32, 48]
