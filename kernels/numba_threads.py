"""What all Numba kernels share: one BLAS thread a worker, a fair share of the work, arrays that are checked.

The convolutions and attention compute their products with `np.dot` inside `prange`. Numba hands such a product to the
BLAS of SciPy, which would start threads of its own in every worker: on two cores that makes small products up to four
times slower. NumPy brings another BLAS, which keeps its threads for products outside the kernels. So importing this
module sets SciPy's BLAS, and only that, to one thread.
"""

import os
import warnings

import numba
import numpy as np
import threadpoolctl
from llvmlite import binding

MIN_WORK = 200_000  # multiplications that are worth a thread: about ten times what starting one costs (1-2 us)


def _prepare_blas() -> None:
    """Load the BLAS that Numba uses, with the widest kernels that the processor runs, and give it one thread."""
    cpu = binding.get_host_cpu_features()
    # OpenBLAS does not know each new processor and then takes the kernels of an old one ("Haswell", 256 bits) where
    # 512 bits would run: 234 instead of 430 GFLOP/s on two cores of a Zen 5. It reads its choice once, when loaded.
    older = {pool.get("architecture") for pool in threadpoolctl.threadpool_info()} <= {"Haswell", "Zen", None}
    wide = all(cpu.get(feature) for feature in ("avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd"))
    choose = older and wide and "OPENBLAS_CORETYPE" not in os.environ
    if choose:
        os.environ["OPENBLAS_CORETYPE"] = "SkylakeX"
    try:
        import scipy.linalg.cython_blas  # noqa: F401  what Numba calls; importing it loads the library
    finally:
        if choose:
            del os.environ["OPENBLAS_CORETYPE"]

    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    own = [pool["filepath"] for pool in pools if "scipy" in pool["filepath"].replace("\\", "/").split("site-packages")[-1]]
    if not own:  # SciPy shares a library with NumPy (conda), or has one that cannot be set (macOS' Accelerate)
        own = [pool["filepath"] for pool in pools]
        outcome = "NumPy's is the same and gets one thread too" if own else "products inside kernels may be slow"
        warnings.warn(f"SciPy's BLAS threads cannot be set apart: {outcome}", RuntimeWarning, stacklevel=2)
    threadpoolctl.ThreadpoolController().select(filepath=own).limit(limits=1)


_prepare_blas()


def workers_for(work: int) -> int:
    """How many threads a call with so many multiplications should use: 1 if it is small, else all."""
    return min(numba.get_num_threads(), 1 + work // MIN_WORK)


def float32(function: str, **arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """The arrays, C-contiguous (copied if they are not). Raises ValueError in one line unless all are float32."""
    for name, a in arrays.items():
        if a.dtype != np.float32:
            raise ValueError(f"{function}: {name} must be float32, got {a.dtype}")
    return tuple(np.ascontiguousarray(a) for a in arrays.values())
