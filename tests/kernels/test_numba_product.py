"""The product that fits into registers, against NumPy in float64: both widths, any strides and tables, any length."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from numba import njit

from minidiff.kernels import numba_core, numba_product
from minidiff.kernels.numba_product import ROWS, WIDE, multiply, multiply_by_table, round_up
from minidiff.kernels.numba_vector import LANES, offset, pointer

EPS = np.finfo(np.float32).eps


@njit
def product(columns, a, a_start, a_row, a_step, b, b_start, b_step, c, c_start, c_row, K, add):
    a, b, c = offset(pointer(a), a_start), offset(pointer(b), b_start), offset(pointer(c), c_start)
    multiply(columns, a, a_row, a_step, b, b_step, c, c_row, K, add)


@njit
def product_by_table(columns, a, a_rows, a_steps, b, c, K, add):
    rows, steps = offset(pointer(a_rows), 0), offset(pointer(a_steps), 1)  # the second table from its second number on
    multiply_by_table(columns, pointer(a), rows, steps, pointer(b), columns, pointer(c), columns, K, add)


def draw(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("add", [False, True], ids=["new", "added"])
@pytest.mark.parametrize("turned", [False, True], ids=["rows", "columns"])
@pytest.mark.parametrize("K", [0, 1, 2, 7, 64, 1000])
@pytest.mark.parametrize("columns", [WIDE, LANES], ids=["wide", "narrow"])
def test_equals_numpy(columns, K, turned, add):
    """Blocks inside larger arrays; A by rows or by columns; nothing else of C is written, and NaN in C matters not."""
    A, B, C = draw(ROWS, K), draw(K, columns, seed=1), draw(ROWS, columns, seed=2)
    a = np.full((K + 2, ROWS + 3) if turned else (ROWS + 2, K + 3), np.nan, np.float32)
    b, c = np.full((K + 2, columns + 5), np.nan, np.float32), np.full((ROWS + 2, columns + 7), -1, np.float32)
    inside = a[1:-1, 2:-1]
    inside[:] = A.T if turned else A
    b[1:-1, 3:-2] = B
    c[1:-1, 4:-3] = C if add else np.nan
    a_strides = (1, a.shape[1]) if turned else (a.shape[1], 1)
    product(
        columns, a, a.shape[1] + 2, *a_strides, b, b.shape[1] + 3, b.shape[1], c, c.shape[1] + 4, c.shape[1], K, add
    )
    exact = A.astype(np.float64) @ B + (C if add else 0)
    size = np.abs(A).astype(np.float64) @ np.abs(B) + np.abs(C)
    assert (np.abs(c[1:-1, 4:-3] - exact) <= (K + 1) * EPS / 2 * size).all()  # the bound of any order of summing
    c[1:-1, 4:-3] = -1
    assert (c == -1).all()


@pytest.mark.parametrize("columns", [WIDE, LANES], ids=["wide", "narrow"])
def test_a_step_of_zero_and_what_is_not_finite(columns):
    """One row of B for all k; NaN and infinity come through."""
    A, row, c = draw(ROWS, 9), draw(columns), np.empty((ROWS, columns), np.float32)
    A[2, 3], A[5, 1] = np.nan, np.inf
    product(columns, A, 0, 9, 1, row, 0, 0, c, 0, columns, 9, False)
    assert np.isnan(c[2]).all() and np.isinf(c[5]).all()
    others = [r for r in range(ROWS) if r not in (2, 5)]
    np.testing.assert_allclose(c[others], A[others].sum(1, dtype=np.float64)[:, None] * row, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("add", [False, True], ids=["new", "added"])
@pytest.mark.parametrize("K", [0, 1, 2, 7, 64, 1000])
@pytest.mark.parametrize("columns", [WIDE, LANES], ids=["wide", "narrow"])
def test_a_matrix_by_table(columns, K, add):
    """A[r, k] is a[rows[r] + steps[k]], wherever the tables say, in any order and the same place twice."""
    rng = np.random.default_rng(3)
    a, rows, steps = draw(2000), rng.integers(0, 1000, ROWS), rng.integers(0, 1000, K + 1)
    B, C = draw(K, columns, seed=1), draw(ROWS, columns, seed=2)
    A, c = a[rows[:, None] + steps[1:]], C.copy() if add else np.full_like(C, np.nan)
    product_by_table(columns, a, rows, steps, B, c, K, add)
    exact = A.astype(np.float64) @ B + (C if add else 0)
    size = np.abs(A).astype(np.float64) @ np.abs(B) + np.abs(C)
    assert (np.abs(c - exact) <= (K + 1) * EPS / 2 * size).all()


def test_rounded():
    assert [round_up(n, 16) for n in (0, 1, 15, 16, 17, 33)] == [0, 16, 16, 16, 32, 48]


@pytest.mark.parametrize("cut", [(ROWS, 2), (4, 1)], ids=["avx512", "others"])
@pytest.mark.parametrize("columns", [WIDE, LANES], ids=["wide", "narrow"])
def test_the_same_bits_however_it_is_cut_for_the_registers(monkeypatch, columns, cut):
    """What each kind of machine computes is tested on any."""
    monkeypatch.setattr(numba_core, "BLOCK", numba_core.Block(*cut))
    multiply_cut = numba_product.micro_kernel(columns, False)

    @njit
    def product_cut(a, b, c, K, add):
        multiply_cut(pointer(a), K, 1, pointer(b), columns, pointer(c), columns, K, add)

    A, B, c = draw(ROWS, 65), draw(65, columns), np.full((2, ROWS, columns), np.nan, np.float32)
    product(columns, A, 0, 65, 1, B, 0, columns, c[0], 0, columns, 65, False)
    product_cut(A, B, c[1], 65, False)
    assert np.isfinite(c).all() and np.array_equal(*c)
    product_cut(A, B, c[1], 65, True)
    assert np.array_equal(c[1], 2 * c[0])


@pytest.mark.release
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="its instructions are an x86 processor's")
def test_code_for_avx2_gives_the_same_bits(tmp_path):
    """With the sizes of its own blocks: with others its sums would not fit into the registers, and it would be slow."""
    script = tmp_path / "convolve.py"
    script.write_text(CONVOLVE)
    machines = {"this": {}, "avx2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""}}
    for name, variables in machines.items():
        environment = os.environ | variables | {"NUMBA_CACHE_DIR": str(tmp_path)}
        subprocess.run([sys.executable, script, tmp_path / f"{name}.npz"], env=environment, check=True)
    this, avx2 = (np.load(tmp_path / f"{name}.npz") for name in machines)
    assert tuple(avx2["block"]) == (4, 1)
    assert np.array_equal(this["y"], avx2["y"]) and np.array_equal(this["gw"], avx2["gw"])


CONVOLVE = """
import sys
import numpy as np
from minidiff.kernels.numba_core import BLOCK
from minidiff.kernels.norm_silu_conv2d import numba_cpu

rng = np.random.default_rng(0)
draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
x, scale, shift, w, b, gy = draw(4, 12, 12, 20), draw(20), draw(20), draw(3, 3, 20, 36), draw(36), draw(4, 12, 12, 36)
y, mean, rstd = numba_cpu.norm_silu_conv2d(x, scale, shift, 4, 1e-5, w, b)
_, _, _, gw, _ = numba_cpu.norm_silu_conv2d_grad(gy, x, scale, shift, mean, rstd, 4, w)
np.savez(sys.argv[1], y=y, gw=gw, block=BLOCK)
"""
