"""Benchmarks: check the result, warm up, time it on every backend, print the ratio, the losing ones too.

`pytest benchmarks` runs all of them, `pytest benchmarks/test_conv2d.py -k 64` some. Times are medians; a table of
backends side by side ends the run. Every backend has all cores: NumPy through its BLAS, Numba through its threads.
"""

import os
import platform
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import threadpoolctl

from minidiff import backend

ROUNDS = 9
# group -> backend -> (median, interquartile range, arithmetic operations or None)
_results: dict[str, dict[str, Any]] = defaultdict(dict)


def pytest_report_header():
    import numba
    import scipy

    blas = {p.get("architecture", "?") for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"}
    return [
        f"machine: {_processor()}, {os.cpu_count()} cores, BLAS kernels: {', '.join(sorted(blas)) or 'unknown'}",
        f"versions: Python {platform.python_version()}, NumPy {np.__version__}, SciPy {scipy.__version__}, "
        f"Numba {numba.__version__}; arrays are float32",
    ]


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@pytest.fixture(params=["numpy", "numba"])
def table(request):
    """One backend's functions; kernels keep every BLAS on one thread, so NumPy gets its threads back for its turn."""
    chosen = backend.get(request.param)
    threads = os.cpu_count() if request.param == "numpy" else 1
    with backend.using(request.param), threadpoolctl.threadpool_limits(limits=threads, user_api="blas"):
        yield chosen


@pytest.fixture
def measure(benchmark, table):
    """measure(group, function, exact, operations): check what function() returns against `exact`, then time it.

    exact: one array or a tuple of them, from the float64 reference, or None where nothing is returned. operations: how
    many multiplications and additions the definition needs, for GFLOP/s.
    """

    def run(group, function, exact=None, operations=None):
        if exact is not None:
            actual = function()
            pairs = zip(actual, exact) if isinstance(exact, tuple) else [(actual, exact)]
            for a, e in pairs:
                error = np.abs(a - e).max() / np.abs(e).max()
                assert error < 1e-5, f"{group} on {table.name}: wrong by {error:.1e} of the largest number"
        benchmark.group = group
        benchmark.pedantic(function, rounds=ROUNDS, warmup_rounds=2)
        if benchmark.stats:  # none with --benchmark-disable
            stats = benchmark.stats.stats
            _results[group][table.name] = (stats.median, stats.iqr, operations)

    return run


def pytest_terminal_summary(terminalreporter):
    if not _results:
        return
    terminalreporter.section("backends side by side: median ± half the interquartile range")
    for group, by_backend in _results.items():
        parts = []
        for name, (median, iqr, operations) in by_backend.items():
            speed = f" {operations / median / 1e9:4.0f} GFLOP/s" if operations else ""
            parts.append(f"{name} {median * 1e3:8.3f} ± {iqr * 500:.3f} ms{speed}")
        if {"numpy", "numba"} <= by_backend.keys():
            parts.append(f"ratio {by_backend['numpy'][0] / by_backend['numba'][0]:.2f}")
        terminalreporter.write_line(f"{group:44s} {' | '.join(parts)}")


def float32(*shape, seed=0):
    """Normal numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def float64(*arrays):
    """The same numbers, for the reference."""
    return tuple(a.astype(np.float64) for a in arrays)
