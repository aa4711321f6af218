"""What all Numba CUDA kernels share: how they are launched, and a sum over the threads of a block.

Numba compiles a Python function for the GPU the first time that it is called. It takes CuPy's arrays as they are; with
NUMBA_ENABLE_CUDASIM=1 in the environment it runs the same functions on the CPU instead, on NumPy's arrays, a Python
thread for each thread of a block: slow, and a way to see what they do.
"""

import warnings
from typing import Any

import numpy as np
from numba import cuda, float64
from numba.core.errors import NumbaPerformanceWarning

from minidiff.kernels.cuda_launch import check_launch, device, empty

THREADS, PARTS = 64, 8  # a block, where it does not matter much; how many of it add up the others' numbers

warnings.filterwarnings("ignore", category=NumbaPerformanceWarning)  # that a grid is too small to fill the GPU


class Functions:
    """Kernels written in Python, to be called by name as those of a .cu file are (`cuda_launch.Source`).

    kernels: by name, the threads of a block and the function. An absent array comes to it as one without numbers, of
    `absent` dimensions: a kernel is compiled for how many there are, also where it looks at none.
    """

    def __init__(self, absent: int = 1, **kernels: tuple[Any, Any]) -> None:
        self.absent, self.kernels = absent, kernels

    def names(self) -> list[str]:
        """The kernels' names."""
        return list(self.kernels)

    def __call__(self, name: str, grid: tuple[int, ...], *arguments: Any) -> None:
        """Run a kernel over a grid of blocks; an empty grid is nothing to do.

        Raises TypeError in one line for an array of the host, which Numba would copy to the GPU and back, ValueError
        if a grid is too large.
        """
        threads, kernel = self.kernels[name]
        check_launch(name, grid, threads if isinstance(threads, tuple) else (threads,))
        for a in arguments:
            if isinstance(a, np.ndarray) and not isinstance(a, device().xp.ndarray):
                raise TypeError(f"{name}: expected arrays of the device, got {type(a).__name__}")
        if min(grid) > 0:
            kernel[grid, threads](*(empty((0,) * self.absent) if a is None else a for a in arguments))


def over_block(both):
    """Make the function that brings the values of a block's THREADS threads together, always in the same order."""

    @cuda.jit(device=True)
    def reduced(value):
        """The result for all of them; every thread gets it.  Two rounds of eight: a barrier is what costs here."""
        values = cuda.shared.array(THREADS, float64)
        parts = cuda.shared.array(PARTS, float64)  # apart: the next call writes values while others still read these
        thread = cuda.threadIdx.x
        values[thread] = value
        cuda.syncthreads()
        if thread < PARTS:
            part = values[thread]
            for other in range(thread + PARTS, THREADS, PARTS):
                part = both(part, values[other])
            parts[thread] = part
        cuda.syncthreads()
        result = parts[0]
        for other in range(1, PARTS):
            result = both(result, parts[other])
        return result

    return reduced


@cuda.jit(device=True)
def sum_of_two(a, b):
    return a + b


@cuda.jit(device=True)
def larger(a, b):
    """As `max`, which Numba 0.68 does not compile for a GPU."""
    return a if a > b else b


@cuda.jit(device=True)
def smaller(a, b):
    """As `min`, likewise."""
    return a if a < b else b


sum_of_block, largest_of_block = over_block(sum_of_two), over_block(larger)
