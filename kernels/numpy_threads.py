"""Setting and reading the number of threads of NumPy's BLAS, which multiplies matrices; the rest of NumPy takes one."""

import os


def threads(n: int | None = None) -> int | None:
    """Let matrix products take n threads from now on; return how many they take, None where BLAS does not tell.

    n: None changes nothing: BLAS starts with a thread a core, unless Numba's kernels have set it to one.
    Raises ValueError in one line for a number that is not possible.
    """
    try:
        import threadpoolctl  # here, because a machine with a GPU may not have it
    except ImportError:
        if n is None:
            return None
        raise ValueError(f"threads cannot be set: threadpoolctl is not installed; got {n}") from None
    pools = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    if n is None:
        return max(pools, default=None)
    check_threads(n, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if not pools:  # macOS' Accelerate
        raise ValueError(f"threads cannot be set for this NumPy: threadpoolctl does not know its BLAS; got {n}")
    threadpoolctl.threadpool_limits(limits=n, user_api="blas")
    return n


def check_threads(n: int, most: int) -> None:
    """Raise ValueError unless there can be n threads."""
    if not 1 <= n <= most:
        raise ValueError(f"threads must be from 1 to {most}, as many as this process may use, got {n}")
