"""The kernels in Numba CUDA on the CPU, in Numba's simulator: `NUMBA_ENABLE_CUDASIM=1 python -m tests.cuda.simulate`.

Prints a line of JSON a case: its name and its error. A process of its own, as the simulator is chosen when Numba is
imported. Fresh arrays are full of NaN, so that a number which no thread writes shows.
"""

import json
from types import SimpleNamespace

import numpy as np

from minidiff.kernels import cuda_launch
from tests.cuda.cases import run


def empty(shape, dtype=np.float32):
    dtype = np.dtype(dtype)
    return np.full(shape, np.nan if dtype.kind == "f" else np.iinfo(dtype).max, dtype)


if __name__ == "__main__":
    cuda_launch.use(SimpleNamespace(xp=np, empty=empty))
    for case in run("numba_cuda"):
        print(json.dumps(case), flush=True)
