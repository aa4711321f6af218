"""Numba's kernels are compiled for a GPU as far as that goes without one: types are found, and LLVM's code is made.

The simulator runs kernels as Python, and Python takes much that Numba's compiler for GPUs does not.
"""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from numba import cuda, float32, typeof, types
from numba.core.errors import TypingError
from numba.cuda import compiler, dispatcher

from minidiff.kernels import cuda_launch
from tests.cuda import cases
from tests.cuda.emulated import MAX_SHARED
from tests.cuda.test_compile import BUDGET

AMPERE = (8, 0)


def shared_memory(library):
    """The bytes of the arrays in shared memory that a kernel and what it calls declare."""
    sizes = {"float": 4, "double": 8}
    declared = set(re.findall(r"^(@\S+) = .*addrspace\(3\) global \[(\d+) x (\w+)\]", library.get_llvm_str(), re.M))
    return sum(int(count) * sizes[kind] for _, count, kind in declared)


@pytest.fixture
def ampere(monkeypatch):
    """Numba believes in a GPU, and compiles kernels up to where NVIDIA's compiler takes over, instead of running them.

    The value: what has been compiled, each kernel with its arguments' types.
    """
    compiled = set()

    def configured(kernel, configuration):
        def launch(*arguments):
            signature = kernel.py_func, tuple(map(typeof, arguments))
            if signature not in compiled:
                made = compiler.compile_cuda(kernel.py_func, types.void, signature[1], cc=AMPERE)
                compiled.add(signature)
                assert shared_memory(made.library) <= MAX_SHARED, (
                    f"{kernel.py_func.__name__} needs more than a block has"
                )

        return launch

    monkeypatch.setattr(dispatcher.CUDADispatcher, "__getitem__", configured)
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: SimpleNamespace(compute_capability=AMPERE))
    monkeypatch.setattr(cuda_launch, "_device", [SimpleNamespace(xp=np, empty=np.ones)])
    return compiled


@pytest.mark.release
def test_every_kernel_is_lowered(ampere):
    *_, (said, never) = cases.run("numba_cuda")
    assert never == 0, said
    assert len({function for function, _ in ampere}) == len(BUDGET)  # the kernels of the .cu files


def test_what_is_not_for_a_gpu_would_show(ampere):
    @cuda.jit
    def greedy(x, absent):
        if absent.size > 0:
            x[0] = absent[1, 2]

    with pytest.raises(TypingError, match="cannot index array"):
        greedy[1, 1](np.ones(2), np.ones(0))


def test_more_shared_memory_than_a_block_has_would_show(ampere):
    @cuda.jit(device=True)
    def half_of_it(i):
        half = cuda.shared.array(6 * 1024, float32)
        half[i] = i
        cuda.syncthreads()
        return half[31 - i]

    @cuda.jit
    def greedy(x):
        rest = cuda.shared.array(6 * 1024 + 1, float32)
        rest[cuda.threadIdx.x] = half_of_it(cuda.threadIdx.x)
        cuda.syncthreads()
        x[cuda.threadIdx.x] = rest[31 - cuda.threadIdx.x]

    with pytest.raises(AssertionError, match="greedy needs more than a block has"):
        greedy[1, 32](np.ones(32))
