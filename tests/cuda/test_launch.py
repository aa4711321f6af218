"""What a launcher says where there is no GPU, an old one, or a wrong argument."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from minidiff import backend
from minidiff.errors import MinidiffError
from minidiff.kernels import cuda_launch


class NoDevice(RuntimeError):
    pass


def fake_cupy(capability):
    """As much of CuPy as is asked before the first kernel."""

    class Device:
        @property
        def compute_capability(self):
            if capability is None:
                raise NoDevice("cudaErrorNoDevice: no CUDA-capable device is detected")
            return capability

    runtime = SimpleNamespace(CUDARuntimeError=NoDevice)
    return SimpleNamespace(cuda=SimpleNamespace(Device=Device, runtime=runtime), empty=np.empty)


@pytest.mark.parametrize(
    ("cupy", "said"),
    [
        (None, r"CuPy is not installed: pip install 'minidiff\[cuda13\]', or \[cuda12\]"),
        (fake_cupy(None), r"no GPU can be used \(cudaErrorNoDevice: no CUDA-capable device is detected\)"),
        (fake_cupy("61"), r"the GPU has compute capability 6\.1, expected 7\.0 or more"),
    ],
)
@pytest.mark.parametrize("name", ["cupy", "numba-cuda"])
def test_no_gpu_is_one_line(monkeypatch, cupy, said, name):
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cuda_launch, "_device", [])
    builder = {"cupy": backend._cupy, "numba-cuda": backend._numba_cuda}[
        name
    ].__wrapped__  # nothing that was made before
    monkeypatch.setitem(backend._BUILDERS, name, builder)
    with pytest.raises(MinidiffError, match=rf"^backend '{name}' cannot run here: {said}; try numba, numpy$"):
        backend.get(name)


def test_a_gpu_that_is_new_enough_is_taken(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy("90"))
    assert cuda_launch.Gpu().architecture == "sm_90"


def test_too_large_a_grid_is_one_line(tmp_path):
    path = tmp_path / "one.cu"
    path.write_text('extern "C" __global__ void __launch_bounds__(32) one(float* x) { x[threadIdx.x] = 1; }')
    x = cuda_launch.empty((32,))
    with pytest.raises(ValueError, match=r"^one: a grid of \(1, 70000, 1\) blocks is more than a GPU takes$"):
        cuda_launch.Source(path)("one", (1, 70_000), x)


def test_structs_and_constants_are_read_from_the_source(tmp_path):
    path = tmp_path / "two.cu"
    path.write_text(
        "constexpr int THREADS = 64, OTHER = 3;\n"
        "struct Pair {  // of numbers\n    int a, b;\n    float c;  // the last\n};\n"
        'extern "C" __global__ void __launch_bounds__(THREADS)\ntwo(const float* x, double* sums, Pair p, long n) {}\n'
    )
    kernel = cuda_launch.declared(path)["two"]
    assert kernel.threads == 64
    assert [(name, array) for name, _, array in kernel.parameters] == [
        ("x", True),
        ("sums", True),
        ("p", False),
        ("n", False),
    ]
    assert kernel.parameters[2][1] == np.dtype([("a", np.int32), ("b", np.int32), ("c", np.float32)])
    assert kernel.parameters[3][1] == np.int64
