"""Does running CUDA on the CPU find what it is there to find? One fault of each kind is planted, and must show."""

import re

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

extern "C" __global__ void __launch_bounds__(THREADS) a_warp_ahead(float* a) {
    __shared__ float seen[THREADS];
    seen[threadIdx.x] = a[threadIdx.x];
    __syncthreads();
    float other = seen[THREADS - 1 - threadIdx.x];
    __syncwarp();  // the other warp may not have read yet
    seen[threadIdx.x] = -1;
    a[threadIdx.x] = other;
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

extern "C" __global__ void __launch_bounds__(1) first_four(const float* a, float* sum) {
    float4 four = *reinterpret_cast<const float4*>(a);
    sum[0] = four.x + four.y + four.z + four.w;
}

extern "C" __global__ void __launch_bounds__(THREADS) far_away(float* a, int apart) {
    if (blockIdx.x * apart == 0) a[threadIdx.x] = 1;
}

extern "C" __global__ void __launch_bounds__(THREADS) beyond_the_shared(float* a, int n) {
    __shared__ float seen[THREADS];
    seen[threadIdx.x + n] = a[threadIdx.x];
    a[threadIdx.x] = 1;
}

extern "C" __global__ void __launch_bounds__(THREADS) from_nowhere(const float* absent, float* a) {
    a[threadIdx.x] = absent[threadIdx.x];
}
"""
GREEDY = """
__device__ float half_of_it(int i) {
    __shared__ float half[6 * 1024];
    half[i] = i;
    __syncthreads();
    return half[31 - i];
}
extern "C" __global__ void __launch_bounds__(32) greedy(float* a) {
    __shared__ float rest[6 * 1024 + 1];
    rest[threadIdx.x] = half_of_it(threadIdx.x);
    __syncthreads();
    a[threadIdx.x] = rest[31 - threadIdx.x];
}
"""


def numbers(n=64):
    return xp.asarray(np.arange(n, dtype=np.float32))


@pytest.fixture
def emulated(tmp_path):
    """A device that has compiled nothing yet."""
    before = list(cuda_launch._device)
    cuda_launch.use(Emulated(tmp_path))
    yield tmp_path
    cuda_launch._device[:] = before


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cuda")
    path = folder / "planted.cu"
    path.write_text(SOURCE)
    before = list(cuda_launch._device)
    cuda_launch.use(Emulated(folder))
    yield cuda_launch.Source(path)
    cuda_launch._device[:] = before


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
        ("a_warp_ahead", (), r"^a_warp_ahead: a depends on the threads' order$"),
        ("barrier_for_some", (), r"^barrier_for_some: in block 0 not every thread reaches a barrier"),
        ("one_too_far", (64,), r"^one_too_far writes beside a$"),
    ],
)
def test_planted_faults_are_found(planted, kernel, arguments, said):
    with pytest.raises(AssertionError, match=said):
        planted(kernel, (2,) if arguments else (1,), numbers(), *arguments)


LINE = {
    name: SOURCE[: SOURCE.index(name)].count("\n") + 1 for name in ("float4 four", "apart == 0", "+ n]", "= absent")
}


def test_four_numbers_at_once_begin_at_a_multiple_of_16_bytes(planted):
    """A contiguous part of an array begins where it may; a GPU would stop with "misaligned address"."""
    total = cuda_launch.empty((1,))
    planted("first_four", (1,), numbers()[4:], total)
    assert float(total[0]) == 4 + 5 + 6 + 7
    said = rf"^first_four: in block 0, line {LINE['float4 four']}: several numbers at once, from an address that their"
    with pytest.raises(AssertionError, match=said):
        planted("first_four", (1,), numbers()[1:], total)


@pytest.mark.parametrize(
    ("kernel", "grid", "arguments", "said"),
    [
        ("far_away", 65, (numbers(), 2**25), f"64, line {LINE['apart == 0']}: an integer overflows"),
        ("beyond_the_shared", 1, (numbers(), 1), f"0, line {LINE['+ n]']}: an array has no such number"),
        ("from_nowhere", 1, (None, numbers()), f"0, line {LINE['= absent']}: the address of nothing is used"),
    ],
)
def test_what_a_gpu_does_without_a_word_is_found(planted, kernel, grid, arguments, said):
    with pytest.raises(AssertionError, match=rf"^{kernel}: in block {re.escape(said)}$"):
        planted(kernel, (grid,), *arguments)
    planted("reverse", (1,), numbers())  # and the next launch is in order


def test_more_shared_memory_than_a_block_has_is_refused(emulated):
    """Half of it is declared by a function that the kernel calls."""
    path = emulated / "greedy.cu"
    path.write_text(GREEDY)
    with pytest.raises(AssertionError, match=r"^greedy: 49,156 bytes of shared memory, a block has 49,152$"):
        cuda_launch.Source(path)("greedy", (1,), numbers(32))


@pytest.mark.parametrize(
    ("threads", "grid", "said"),
    [
        (32, (1, 65_536), r"one: a grid of \(1, 65536, 1\) blocks is more than a GPU takes"),
        (32, (1, 1, 65_536), r"one: a grid of \(1, 1, 65536\) blocks is more than a GPU takes"),
        (32, (2**31,), r"one: a grid of \(2147483648, 1, 1\) blocks is more than a GPU takes"),
        (1025, (1,), r"one: a block of \(1025, 1, 1\) threads is more than a GPU takes, at most 1024 in all"),
    ],
)
def test_larger_grids_and_blocks_than_a_gpu_takes_are_refused(emulated, threads, grid, said):
    path = emulated / f"{threads}_threads.cu"
    path.write_text(f'extern "C" __global__ void __launch_bounds__({threads}) one(float* x) {{ x[threadIdx.x] = 1; }}')
    with pytest.raises(ValueError, match=said):
        cuda_launch.Source(path)("one", grid, numbers())


def test_without_a_compiler_a_test_is_skipped(emulated, monkeypatch):
    (emulated / "one.cu").write_text('extern "C" __global__ void __launch_bounds__(32) one(float* x) { x[0] = 1; }')
    monkeypatch.setenv("PATH", str(emulated))
    monkeypatch.delenv("MINIDIFF_REQUIRE", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"^g\+\+ is not installed, and without a GPU it runs the CUDA"):
        cuda_launch.Source(emulated / "one.cu")("one", (1,), numbers())
    monkeypatch.setenv("MINIDIFF_REQUIRE", "browser g++")  # where it may not be left out
    with pytest.raises(pytest.fail.Exception, match=r"^g\+\+ is not installed, .*; MINIDIFF_REQUIRE asks for g\+\+$"):
        cuda_launch.Source(emulated / "one.cu")("one", (1,), numbers())


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
    with pytest.raises(ValueError, match=r"^one_too_far: n must fit int32, got 2147483648$"):
        planted("one_too_far", (1,), numbers(), 2**31)
    with pytest.raises(TypeError, match=r"^one_too_far: 2 arguments expected, got 1$"):
        planted("one_too_far", (1,), numbers())
    planted("reverse", (0,), numbers())  # nothing to do
