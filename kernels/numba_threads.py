"""What all Numba kernels share: one BLAS thread a worker, as many workers as the work is worth, checked arrays.

The convolutions and attention compute their products with `np.dot` inside `prange`. Numba hands such a product to the
BLAS of SciPy, which would start threads of its own in every worker: on two cores that halves the speed of most
products and makes small ones up to seven times slower. NumPy brings a BLAS of its own, which keeps its threads for
products outside the kernels. So importing this module sets SciPy's BLAS, and only that, to one thread.
"""

import warnings
from pathlib import Path

import numba
import numpy as np
import scipy.linalg.cython_blas  # noqa: F401  what Numba calls: importing it loads the library, so that it can be set
import threadpoolctl

MIN_WORK = 1_000_000  # multiplications that are worth another thread: 5-10 us, where starting one costs 1-2


def blas_of_kernels() -> tuple[list[str], str | None]:
    """The files of the BLAS libraries that kernels call, and what is wrong with them in one line, or None."""
    files = [pool["filepath"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    own = [file for file in files if any(part in ("scipy", "scipy.libs") for part in Path(file).parts)]
    if own:
        return own, None
    if files:  # conda and Linux distributions: one library for both
        return files, "SciPy's BLAS is not its own: every BLAS of this process now runs on one thread"
    return [], "SciPy's BLAS has no thread setting that threadpoolctl knows: products inside kernels may be slow"


def _one_blas_thread_a_worker() -> None:
    files, problem = blas_of_kernels()
    if problem:
        warnings.warn(problem, RuntimeWarning, stacklevel=3)
    threadpoolctl.ThreadpoolController().select(filepath=files).limit(limits=1)


_one_blas_thread_a_worker()


def workers_for(work: int) -> int:
    """How many threads a call with so many multiplications should use: 1 if it is small, else all."""
    return min(numba.get_num_threads(), 1 + work // MIN_WORK)


def float32(function: str, **arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """The arrays, C-contiguous (copied if they are not). Raises ValueError in one line unless all are float32."""
    for name, a in arrays.items():
        if a.dtype != np.float32:
            raise ValueError(f"{function}: {name} must be float32, got {a.dtype}")
    return tuple(np.ascontiguousarray(a) for a in arrays.values())
