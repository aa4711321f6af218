"""What all Numba kernels share: one BLAS thread a worker, as many workers as the work is worth, checked arrays.

The convolutions and attention compute their products with `np.dot` inside `prange`. Numba hands such a product to the
BLAS of SciPy, which would start threads of its own in every worker: on two cores that halves the speed of most
products and makes small ones up to seven times slower. NumPy brings a second BLAS, for products outside the kernels;
its threads, waiting for work, take the cores from the kernels that come next: with them a training step of the
default network took 1.01 s, without them 0.29 s. So importing this module sets every BLAS of the process to one
thread: whatever deserves more is a kernel.
"""

import warnings

import numba
import numpy as np
import scipy.linalg.cython_blas  # noqa: F401  what Numba calls: importing it loads the library, so that it can be set
import threadpoolctl

MIN_WORK = 1_000_000  # multiplications that are worth another thread: 5-10 us, where starting one costs 1-2


def one_thread_a_product() -> None:
    """Set every BLAS to one thread; warn in one line if there is one that cannot be set (macOS' Accelerate)."""
    threadpoolctl.threadpool_limits(limits=1, user_api="blas")
    if not any(pool["user_api"] == "blas" for pool in threadpoolctl.threadpool_info()):
        said = "this BLAS has no thread setting that threadpoolctl knows: products inside kernels may be slow"
        warnings.warn(said, RuntimeWarning, stacklevel=3)


one_thread_a_product()


def workers_for(work: int) -> int:
    """How many threads a call with so many multiplications should use: 1 if it is small, else all."""
    return min(numba.get_num_threads(), 1 + work // MIN_WORK)


def float32(function: str, **arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """The arrays, or copies of those that are not C-contiguous or cannot be written: Numba compiles each kind apart.

    Raises ValueError in one line unless all are float32.
    """
    for name, a in arrays.items():
        if a.dtype != np.float32:
            raise ValueError(f"{function}: {name} must be float32, got {a.dtype}")
    return tuple(a if a.flags.carray else a.copy(order="C") for a in arrays.values())
