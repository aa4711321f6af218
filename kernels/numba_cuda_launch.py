"""What all Numba CUDA kernels share: how they are launched, and a sum over the threads of a block.

Numba compiles a Python function for the GPU the first time that it is called. It takes CuPy's arrays as they are; with
NUMBA_ENABLE_CUDASIM=1 in the environment it runs the same functions on the CPU instead, on NumPy's arrays, a Python
thread for each thread of a block: slow, and a way to see what they do.
"""

import warnings
from typing import Any

from numba import cuda, float64
from numba.core.errors import NumbaPerformanceWarning

from minidiff.kernels.cuda_launch import empty

THREADS = 64  # a block, where it does not matter much; a power of two

warnings.filterwarnings("ignore", category=NumbaPerformanceWarning)  # that a grid is too small to fill the GPU


class Functions:
    """Kernels written in Python, to be called by name as those of a .cu file are (`cuda_launch.Source`).

    kernels: by name, the threads of a block and the function. An absent array comes to it as one without numbers.
    """

    def __init__(self, **kernels: tuple[Any, Any]) -> None:
        self.kernels = kernels

    def names(self) -> list[str]:
        """The kernels' names."""
        return list(self.kernels)

    def __call__(self, name: str, grid: tuple[int, ...], *arguments: Any) -> None:
        """Run a kernel over a grid of blocks; an empty grid is nothing to do."""
        threads, kernel = self.kernels[name]
        if min(grid) > 0:
            kernel[grid, threads](*(empty((0,)) if a is None else a for a in arguments))


def over_block(both):
    """Make the function that brings the values of a block's THREADS threads together, always in the same order."""

    @cuda.jit(device=True)
    def reduced(value):
        """The result for all of them; every thread gets it."""
        values, thread, half = cuda.shared.array(THREADS, float64), cuda.threadIdx.x, THREADS // 2
        values[thread] = value
        cuda.syncthreads()
        while half > 0:  # the upper half joins the lower one, until one is left
            if thread < half:
                values[thread] = both(values[thread], values[thread + half])
            cuda.syncthreads()
            half //= 2
        result = values[0]
        cuda.syncthreads()  # everybody has read it before it is written again
        return result

    return reduced


@cuda.jit(device=True)
def sum_of_two(a, b):
    return a + b


@cuda.jit(device=True)
def larger_of_two(a, b):
    return max(a, b)


sum_of_block, largest_of_block = over_block(sum_of_two), over_block(larger_of_two)
