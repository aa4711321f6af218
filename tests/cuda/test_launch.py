"""What a launcher says where there is no GPU, an old one, or a wrong argument."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from minidiff import backend
from minidiff.errors import MinidiffError
from minidiff.kernels import cuda_launch, numba_cuda_launch
from tests.cuda.device_array import DeviceArray


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


def test_each_gpu_runs_kernels_that_were_loaded_there_for_it(monkeypatch):
    """Of two GPUs of different kinds, one after the other the current one: a module belongs to where it was loaded."""
    cupy, launched = fake_cupy("90"), []

    class Device:
        id = 0
        compute_capability = "90"

    class Module:
        def load(self, cubin):
            self.loaded = Device.id, cubin

        def get_function(self, name):
            return lambda grid, block, arguments: launched.append((Device.id, *self.loaded, name))

    cupy.cuda.Device, cupy.cuda.function = Device, SimpleNamespace(Module=Module)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cuda_launch.cuda_compile, "cubin", lambda path, architecture: architecture)
    gpu, kernel = cuda_launch.Gpu(), cuda_launch.Kernel(Path("one.cu"), "one", 32, ())
    for Device.id, Device.compute_capability in ((0, "90"), (1, "80"), (0, "90"), (1, "80")):
        gpu.launch(kernel, (1, 1, 1), [])
    assert launched == [(0, 0, "sm_90", "one"), (1, 1, "sm_80", "one")] * 2
    assert len(gpu._loaded) == 2


@pytest.mark.parametrize(
    ("grid", "threads", "said"),
    [
        ((1, 70_000), 64, r"^one: a grid of \(1, 70000, 1\) blocks is more than a GPU takes, at most \(2147483647, "),
        ((1, 1), (16, 65), r"^one: a block of \(16, 65, 1\) threads is more than a GPU takes, at most 1024 in all"),
        ((1, 1), (1, 1, 65), r"^one: a block of \(1, 1, 65\) threads is more than a GPU takes, .*, 64\)$"),
    ],
)
def test_kernels_in_python_are_held_to_the_same_limits(grid, threads, said):
    launched = []
    functions = numba_cuda_launch.Functions(one=(threads, {(grid, threads): lambda *a: launched.append(a)}))
    with pytest.raises(ValueError, match=said):
        functions("one", grid, 3)
    assert not launched


def test_kernels_in_python_refuse_arrays_of_the_host(monkeypatch):
    """Numba would take them: copy them to the GPU, and back."""
    monkeypatch.setattr(cuda_launch, "_device", [SimpleNamespace(xp=SimpleNamespace(ndarray=DeviceArray))])
    functions = numba_cuda_launch.Functions(one=(64, {((1,), 64): lambda *a: None}))
    functions("one", (1,), DeviceArray(np.zeros(3)), np.float64(1))
    with pytest.raises(TypeError, match=r"^one: expected arrays of the device, got ndarray$"):
        functions("one", (1,), np.zeros(3))


def test_functions_refuse_arrays_of_the_host(gpu_backend):
    host = np.zeros((1, 4, 4, 2), np.float32)
    there = backend.to_device(host)
    with pytest.raises(TypeError, match=r"^conv2d: w must be an array of the device, got ndarray$"):
        gpu_backend.conv2d(there, np.zeros((3, 3, 2, 2), np.float32))
    for mixed in (lambda: there + host, lambda: host + there, lambda: gpu_backend.add(there, host)):
        with pytest.raises(TypeError, match=r"[Uu]nsupported"):
            mixed()


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
