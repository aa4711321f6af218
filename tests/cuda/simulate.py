"""The kernels in Numba CUDA on the CPU, in Numba's simulator: `NUMBA_ENABLE_CUDASIM=1 python -m tests.cuda.simulate`.

Prints a line of JSON a case: its name and its error; and for each fault of wrong_gradients.py whether the checker of
gradients calls it right. A process of its own, as the simulator is chosen when Numba is
imported. Fresh arrays are full of NaN, so that a number which no thread writes shows.
"""

import dataclasses
import io
import json
from contextlib import redirect_stdout
from types import SimpleNamespace

import numpy as np
import pytest

from minidiff import backend, gradcheck
from minidiff.kernels import cuda_launch
from tests.cuda.cases import run
from tests.cuda.wrong_gradients import FAULTS, with_fault


def empty(shape, dtype=np.float32):
    dtype = np.dtype(dtype)
    return np.full(shape, np.nan if dtype.kind == "f" else np.iinfo(dtype).max, dtype)


def computed_once(table, names):
    """A table whose functions of these names answer from memory where they were asked the same before."""

    def remembering(function):
        known = {}

        def ask(*arguments):
            key = tuple(a.tobytes() if isinstance(a, np.ndarray) else a for a in arguments)
            if key not in known:
                known[key] = function(*arguments)
            return known[key].copy()

        return ask

    return dataclasses.replace(table, **{name: remembering(getattr(table, name)) for name in names})


if __name__ == "__main__":
    cuda_launch.use(SimpleNamespace(xp=np, empty=empty))
    for case in run("numba_cuda"):
        print(json.dumps(case), flush=True)
    once = computed_once(backend.get("numba-cuda"), [function for function, _ in FAULTS.values()] + ["conv2d"])
    for fault in (None, *FAULTS):
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()):
            patch.setitem(backend._BUILDERS, "numba-cuda", lambda: once)
            with_fault(patch, "numba-cuda", fault)
            right = gradcheck.run("numba-cuda")
        print(json.dumps((f"gradcheck, {fault or 'no'} fault", float(right != (fault is None)))), flush=True)
