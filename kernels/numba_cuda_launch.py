"""What all Numba CUDA kernels share: how they are launched, and the sum or maximum over the threads of a block.

Numba compiles a Python function for the GPU the first time that it is called. It takes CuPy's arrays. With
NUMBA_ENABLE_CUDASIM=1 in the environment it runs the same functions on the CPU instead, on NumPy's arrays, with one
Python thread for each thread of a block: slow, but a debugger can follow it.
"""

import warnings
from typing import Any

import numpy as np
from numba import cuda, float64
from numba.core.errors import NumbaPerformanceWarning

from minidiff.kernels.cuda_launch import check_launch, device, empty

THREADS, PARTS = 64, 8  # threads of a block; how many of them reduce the values of all

warnings.filterwarnings(
    "ignore", category=NumbaPerformanceWarning
)  # it warns of grids that are too small to fill the GPU


class Functions:
    """Kernels written in Python, called by name like those of a .cu file (`cuda_launch.Source`).

    kernels: by name, the threads of a block and the function. An absent array is passed as an empty one with `absent`
    dimensions: a kernel is compiled for the number of dimensions, even if it reads nothing.
    """

    def __init__(self, absent: int = 1, **kernels: tuple[Any, Any]) -> None:
        self.absent, self.kernels = absent, kernels

    def names(self) -> list[str]:
        """The kernels' names."""
        return list(self.kernels)

    def __call__(self, name: str, grid: tuple[int, ...], *arguments: Any) -> None:
        """Run a kernel over a grid of blocks; an empty grid does nothing.

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
    """Make the function that reduces the values of a block's THREADS threads, always in the same order."""

    @cuda.jit(device=True)
    def reduced(value):
        """Return the result to every thread.  Two rounds of eight: the barriers are what costs time here."""
        values = cuda.shared.array(THREADS, float64)
        parts = cuda.shared.array(
            PARTS, float64
        )  # an array of its own: the next call writes `values` while other threads still read `parts`
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
    """Like `max`, which Numba 0.68 does not compile for a GPU."""
    return a if a > b else b


@cuda.jit(device=True)
def smaller(a, b):
    """Like `min`, likewise."""
    return a if a < b else b


sum_of_block, largest_of_block = over_block(sum_of_two), over_block(larger)
