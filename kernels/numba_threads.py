"""What all Numba kernels share: the number of threads, of the kernels and of NumPy's BLAS, and checks of arrays.

NumPy has a BLAS for products outside the kernels, with threads of its own. While they wait for work, they occupy the
cores that the next kernels need: with them a training step of the default network once took 1.01 s, without them
0.29 s. So importing this module sets every BLAS of the process to one thread. A product that needs more threads is a
kernel of its own.

`workers_for` gives a call with little work fewer threads. `float32` checks the arrays of a call, and
`reference_if_empty` passes calls with an empty array to the reference.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import threadpoolctl

from minidiff.kernels.numpy_threads import check_threads

MIN_WORK = 1_000_000  # multiplications that justify another thread: they take 5-10 us, starting a thread takes 1-2 us


def one_thread_for_numpy() -> None:
    """Set every BLAS to one thread; warn in one line if there is one that cannot be set (macOS' Accelerate)."""
    threadpoolctl.threadpool_limits(limits=1, user_api="blas")
    if not any(pool["user_api"] == "blas" for pool in threadpoolctl.threadpool_info()):
        said = "this BLAS has no thread setting that threadpoolctl knows: its threads may slow the kernels down"
        warnings.warn(said, RuntimeWarning, stacklevel=3)


one_thread_for_numpy()


def threads(n: int | None = None) -> int:
    """Let the kernels take n threads from now on, and NumPy's BLAS one; return how many the kernels take.

    n: None leaves the number as it is: at first all cores that the process may use, or NUMBA_NUM_THREADS.
    Raises ValueError in one line for a number that is not possible.
    """
    one_thread_for_numpy()  # again: NumPy may have been given more in between
    if n is not None:
        check_threads(n, numba.config.NUMBA_NUM_THREADS)
        numba.set_num_threads(n)
    return numba.get_num_threads()


def workers_for(work: int) -> int:
    """How many threads a call with so many multiplications should use: 1 if that is small, else all."""
    return min(numba.get_num_threads(), 1 + work // MIN_WORK)


def reference_if_empty(reference: Callable) -> Callable:
    """Make a decorator for a version of `reference`: calls with an empty array go to the reference.

    There is nothing to be faster at, and one place decides the result: zeros for empty sums, NaN for means.
    """

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def chosen(*args: Any, **kwargs: Any) -> Any:
            given = (*args, *kwargs.values())
            nothing = any(isinstance(a, np.ndarray) and a.size == 0 for a in given)
            return (reference if nothing else function)(*args, **kwargs)

        return chosen

    return decorate


def float32(function: str, **arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the arrays; those that are read-only or not C-contiguous are copied: Numba would compile for each kind.

    Raises ValueError in one line unless all are float32.
    """
    for name, a in arrays.items():
        if a.dtype != np.float32:
            raise ValueError(f"{function}: {name} must be float32, got {a.dtype}")
    return tuple(a if a.flags.carray else a.copy(order="C") for a in arrays.values())
