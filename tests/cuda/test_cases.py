"""Both CUDA versions at small ragged shapes, without a GPU: emulated, and in Numba's simulator."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cuda.cases import run

BOUND = 30 * np.finfo(np.float32).eps  # as for every kernel in float32: tests/kernels/conftest.py


def check(errors):
    wrong = {name: error for name, error in errors.items() if not error <= BOUND}  # also NaN
    assert not wrong and len(errors) > 40


def test_cuda_cpp():
    check(dict(run("cupy_cuda")))


@pytest.mark.release
def test_numba_cuda():
    simulated = subprocess.run(
        [sys.executable, "-m", "tests.cuda.simulate"],
        cwd=Path(__file__).parents[2], env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert simulated.returncode == 0, simulated.stderr[-2000:]
    check(dict(json.loads(line) for line in simulated.stdout.splitlines()))
