"""Numba's kernels are compiled for a GPU as far as that goes without one: types are found, and LLVM's code is made.

The simulator runs kernels as Python, and Python takes much that Numba's compiler for GPUs does not.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from numba import cuda, typeof, types
from numba.core.errors import TypingError
from numba.cuda import compiler, dispatcher

from minidiff.kernels import cuda_launch
from tests.cuda import cases
from tests.cuda.test_compile import BUDGET

AMPERE = (8, 0)


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
                compiler.compile_cuda(kernel.py_func, types.void, signature[1], cc=AMPERE)
                compiled.add(signature)

        return launch

    monkeypatch.setattr(dispatcher.CUDADispatcher, "__getitem__", configured)
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: SimpleNamespace(compute_capability=AMPERE))
    monkeypatch.setattr(cuda_launch, "_device", [SimpleNamespace(xp=np, empty=np.ones)])
    return compiled


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
