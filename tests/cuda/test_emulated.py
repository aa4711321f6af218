"""Does running CUDA on the CPU find what it is there to find? One fault of each kind is planted, and must show."""

import numpy as np
import pytest

from minidiff.kernels import cuda_launch
from tests.cuda.device_array import xp
from tests.cuda.emulated import Emulated

SOURCE = """
constexpr int THREADS = 64;

extern "C" __global__ void __launch_bounds__(THREADS) reverse(float* a) {
    __shared__ float seen[THREADS];
    seen[threadIdx.x] = a[threadIdx.x];
    __syncthreads();
    a[threadIdx.x] = seen[THREADS - 1 - threadIdx.x];
}

extern "C" __global__ void __launch_bounds__(THREADS) reverse_without_barrier(float* a) {
    __shared__ float seen[THREADS];
    seen[threadIdx.x] = a[threadIdx.x];
    a[threadIdx.x] = seen[THREADS - 1 - threadIdx.x];
}

extern "C" __global__ void __launch_bounds__(THREADS) barrier_for_some(float* a) {
    if (threadIdx.x < 7) __syncthreads();
    a[threadIdx.x] = 1;
    if (threadIdx.x >= 7) __syncwarp();
    if (threadIdx.x == 9) __syncthreads();
}

extern "C" __global__ void __launch_bounds__(THREADS) one_too_far(float* a, int n) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i <= n) a[i] = 2;
}

extern "C" __global__ void __launch_bounds__(THREADS) all_but_the_first(float* a) {
    if (threadIdx.x > 0) a[threadIdx.x] = 1;
}

extern "C" __global__ void __launch_bounds__(THREADS) sum_of_warp(const float* a, float* sum) {
    float value = a[threadIdx.x];
    for (int apart = 16; apart > 0; apart /= 2) value += __shfl_xor_sync(~0u, value, apart);
    if (threadIdx.x % 32 == 0) sum[threadIdx.x / 32] = value;
}
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cuda")
    path = folder / "planted.cu"
    path.write_text(SOURCE)
    before = list(cuda_launch._device)
    cuda_launch.use(Emulated(folder))
    yield cuda_launch.Source(path)
    cuda_launch._device[:] = before


def numbers(n=64):
    return xp.asarray(np.arange(n, dtype=np.float32))


def test_a_kernel_that_is_right_passes(planted):
    a = numbers()
    planted("reverse", (1,), a)
    assert np.array_equal(a.get(), np.arange(64)[::-1])


def test_threads_of_a_warp_exchange_numbers(planted):
    sums = cuda_launch.empty((2,))
    planted("sum_of_warp", (1,), numbers(), sums)
    assert list(sums.get()) == [sum(range(32)), sum(range(32, 64))]


@pytest.mark.parametrize(
    ("kernel", "arguments", "said"),
    [
        ("reverse_without_barrier", (), r"^reverse_without_barrier: a depends on the threads' order$"),
        ("barrier_for_some", (), r"^barrier_for_some: in block 0 not every thread reaches a barrier"),
        ("one_too_far", (64,), r"^one_too_far writes beside a$"),
    ],
)
def test_planted_faults_are_found(planted, kernel, arguments, said):
    with pytest.raises(AssertionError, match=said):
        planted(kernel, (2,) if arguments else (1,), numbers(), *arguments)


def test_a_number_that_nobody_writes_is_nan(planted):
    a = cuda_launch.empty((64,))
    planted("all_but_the_first", (1,), a)
    assert np.isnan(a.get()).tolist() == [True] + [False] * 63


def test_arguments_are_held_against_the_source(planted):
    with pytest.raises(TypeError, match=r"^reverse: a must be float32, got float64$"):
        planted("reverse", (1,), numbers().astype(np.float64))
    with pytest.raises(TypeError, match=r"^reverse: a must be an array of the device, got ndarray$"):
        planted("reverse", (1,), np.zeros(64, np.float32))
    with pytest.raises(TypeError, match=r"^reverse: a must be C-contiguous$"):
        planted("reverse", (1,), numbers(128)[::2])
    with pytest.raises(TypeError, match=r"^one_too_far: 2 arguments expected, got 1$"):
        planted("one_too_far", (1,), numbers())
    planted("reverse", (0,), numbers())  # nothing to do
