"""What a core has is read from the system, or from what the kernels are compiled for."""

import functools

import numpy as np
import pytest
from numba.core import config

from minidiff.kernels import numba_core
from minidiff.kernels.conv2d import winograd_forward
from minidiff.kernels.conv2d.winograd_forward import Plan
from minidiff.kernels.conv2d.winograd_transforms import transform_filter
from minidiff.kernels.numba_product import ROWS
from minidiff.kernels.numba_vector import LANES

VECTORS = {"avx512f": (32, 16), "avx2": (16, 8), "neon": (32, 4)}  # registers, and numbers in each


@pytest.mark.parametrize("name", numba_core.BLOCKS)
def test_the_sums_and_what_is_multiplied_fit_into_the_registers(name):
    registers, numbers = VECTORS[name]
    block, each = numba_core.BLOCKS[name], LANES // numbers  # registers of a vector
    sums, of_b, of_a = block.rows * block.vectors * each, block.vectors * each, 1
    assert sums + of_b + of_a <= registers
    assert ROWS % block.rows == 0


def test_the_instructions_are_those_that_kernels_are_compiled_for(monkeypatch):
    monkeypatch.setattr(config, "CPU_FEATURES", "+sse2,-avx512f,+avx2,+fma")
    assert numba_core.features() == ["sse2", "avx2", "fma"]
    assert numba_core.block_of(numba_core.features()) == (4, 1)
    assert numba_core.block_of(["avx2", "avx512f"]) == (8, 2)
    assert numba_core.block_of([]) == (4, 1)
    monkeypatch.setattr(config, "CPU_FEATURES", None)
    assert len(numba_core.features()) > 1  # this machine's


@pytest.mark.parametrize(("size", "expected"), [("2048K", 2 << 20), ("1M", 1 << 20), ("262144", 1 << 18)])
def test_the_second_level_cache_is_what_linux_says(tmp_path, size, expected):
    for index, (level, kind) in enumerate([("1", "32K"), ("2", size), ("3", "32M")]):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        (folder / "level").write_text(f"{level}\n")
        (folder / "size").write_text(f"{kind}\n")
    assert numba_core.second_level_cache(tmp_path) == expected


@pytest.mark.parametrize("files", [{}, {"level": "2"}, {"level": "2", "size": "large"}, {"level": "two", "size": "1M"}])
def test_a_cache_that_nobody_describes_is_a_usual_one(tmp_path, files):
    (tmp_path / "index0").mkdir()
    for name, text in files.items():
        (tmp_path / "index0" / name).write_text(text)
    assert numba_core.second_level_cache(tmp_path) == numba_core.USUAL_CACHE


def test_every_cache_gives_the_same_bits(monkeypatch):
    """Blocks of tiles are as large as the cache allows: the smallest and the largest make the same image."""
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=shape).astype(np.float32) for shape in ((3, 20, 28, 32), (3, 3, 32, 48)))
    U = transform_filter(w)
    found = []
    for numbers in (1 << 15, 1 << 18):
        monkeypatch.setattr(winograd_forward, "Plan", functools.partial(Plan, block_size=numbers))
        found.append(winograd_forward.forward(x, U, (3, 20, 28, 48)).copy())
    assert np.array_equal(*found)
