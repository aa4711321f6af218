"""How many, and where in memory: counts beyond 65,535, arrays beyond 2^31 numbers, vectors that begin anywhere.

Nothing large is computed. Where sizes are large, the emulated device runs the last blocks of a grid only, over memory
that the operating system hands out where it is touched.
"""

import math
import mmap

import numpy as np
import pytest
from numba.cuda.dispatcher import CUDADispatcher

from minidiff import backend, cache_folders
from minidiff.kernels import cuda_launch
from minidiff.kernels.conv2d import reference as conv2d_reference
from minidiff.kernels.noise import reference as noise_reference
from minidiff.kernels.norm import reference as norm_reference
from tests.cuda.device_array import DeviceArray
from tests.cuda.emulated import Emulated

NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # Linux's; Python 3.11 does not name it
MANY = 65_536  # one more than a grid takes along y and z
KEY = 1, 2, 3
HYPER = np.array([1e-3, 0.9, 0.999, 1e-8, 0.01, 0.1, 0.001, 1, 0.999])


def sparse(*shape):
    """Zeros that take no memory until they are touched; skips where the system gives none on such terms."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
    try:
        memory = mmap.mmap(-1, 4 * math.prod(shape), flags=flags) if math.prod(shape) else b""
    except OSError as error:
        pytest.skip(f"no such piece of address space here: {error}")
    return DeviceArray(np.frombuffer(memory, np.float32).reshape(shape))


class LastBlocks(Emulated):
    """Runs the last two blocks of each grid, in place and once."""

    def empty(self, shape, dtype=np.float32):
        made = sparse(*shape, np.dtype(dtype).itemsize // 4)
        return DeviceArray(made.inside.reshape(-1).view(dtype).reshape(shape))

    def launch(self, kernel, grid, arguments):
        count = math.prod(grid)
        self.run_blocks(kernel, grid, range(max(0, count - 2), count), arguments)


@pytest.fixture
def cupy(monkeypatch):
    """The kernels in CUDA C++, of whose grids only the last blocks run, also where there is a GPU."""
    monkeypatch.setattr(
        cuda_launch, "_device", [LastBlocks(cache_folders.user_folder() / "cuda" / "emulated", workers=1)]
    )
    return backend._cupy.__wrapped__()


def draw(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def close(found, exact):
    assert np.abs(backend.to_numpy(found) - exact).max() <= 4e-6 * np.abs(exact).max()


# ---- counts that come from data -------------------------------------------------------------------------------------


def calls_of_many():
    """Each function of a backend with MANY images, sequences, tokens, or samples in turn."""
    x, gy, one = draw(MANY, 1, 1, 2), draw(MANY, 1, 1, 2), draw(2)
    mean, w, sample = draw(MANY, 1), draw(1, 1, 2, 2), np.arange(MANY)
    long, wide = draw(1, MANY, 2), draw(MANY, 1, 2)
    flat = x.reshape(MANY, 2)
    return {
        "conv2d": (x, w),
        "conv2d_grad_x": (gy, w, x.shape),
        "conv2d_grad_w": (gy, x, w.shape),
        "conv2d_grad_b": (gy,),
        "norm_silu_conv2d": (x, one, one, 1, 1e-5, w, one),
        "norm_silu_conv2d_grad": (gy, x, one, one, mean, mean, 1, w),
        "group_norm": (x, one, one, 1, 1e-5, True),
        "group_norm_grad": (gy, x, one, one, mean, mean, 1, True),
        "attention": (wide, wide, wide, 2),
        "attention_grad": (wide, wide, wide, wide, draw(MANY, 2, 1, 1), 2),
        "attention of many queries": (long, long[:, :3], long[:, :3], 2),
        "random_bits": (KEY, sample, 3),
        "uniform": (KEY, sample, 3),
        "normal": (KEY, sample, 3),
        "add_noise": (flat, mean[:, 0], mean[:, 0], KEY, sample),
        "sampler_update": (flat, flat, flat, np.ones(4), KEY, sample),
    }


@pytest.fixture(params=["cupy", "numba-cuda"])
def without_running(request, cupy, monkeypatch):
    """A table of a GPU's functions that check everything and then run nothing, and the list of what would have run."""
    launched = []
    monkeypatch.setattr(LastBlocks, "launch", lambda *given: launched.append(given))
    monkeypatch.setattr(CUDADispatcher, "__getitem__", lambda *given: lambda *_: launched.append(given))
    table = cupy if request.param == "cupy" else backend._numba_cuda.__wrapped__()
    return table, launched


@pytest.mark.parametrize("name", calls_of_many())
def test_as_many_as_there_is_memory_for(without_running, name):
    """No grid has a count that comes from data along y or z, where 65,535 is the most."""
    table, launched = without_running
    to_device = lambda a: DeviceArray(a) if isinstance(a, np.ndarray) and a.dtype == np.float32 else a
    getattr(table, name.split(" ")[0])(*map(to_device, calls_of_many()[name]))
    assert launched or name == "conv2d_grad_b"


# ---- vectors that begin anywhere ------------------------------------------------------------------------------------


def test_arrays_may_begin_anywhere(gpu_backend):
    """As weights do, which an optimiser lays behind one another: some widths that four divides, no such beginnings."""
    calls = {
        "conv2d": (draw(2, 5, 4, 8), draw(3, 3, 8, 12), draw(12)),
        "conv2d_grad_x": (draw(2, 5, 4, 12), draw(3, 3, 8, 12), (2, 5, 4, 8)),
        "conv2d_grad_w": (draw(2, 5, 4, 12), draw(2, 5, 4, 8), (3, 3, 8, 12)),
        "group_norm": (draw(2, 5, 4, 8), draw(8), draw(8), 2, 1e-5, True),
        "attention": (draw(2, 5, 8), draw(2, 4, 8), draw(2, 4, 8), 2),
        "square_sum": (draw(100),),
    }

    def shifted(a):
        if not isinstance(a, np.ndarray):
            return a
        return backend.to_device(np.append(np.float32(0), a.ravel()))[1:].reshape(a.shape)

    for name, given in calls.items():
        found, exact = (getattr(table, name) for table in (gpu_backend, backend.get("numpy")))
        one, other = found(*map(shifted, given)), exact(*given)
        for pair in zip(one, other) if isinstance(one, tuple) else [(one, other)]:
            close(*pair)


# ---- more than 32 bits hold -----------------------------------------------------------------------------------------


def test_more_pixels_than_32_bits_count(cupy):
    """2^31 and one image more: the last 256 pixels of that are what they are alone."""
    N, size = 2**19 + 1, 64
    x, w, last = sparse(N, size, size, 1), draw(3, 3, 1, 1), draw(1, size, size, 1)
    x.inside[-1] = last
    for found, exact in (
        (cupy.conv2d(x, DeviceArray(w)), conv2d_reference.conv2d(last, w)),
        (cupy.conv2d_grad_x(x, DeviceArray(w), x.shape), conv2d_reference.conv2d_grad_x(last, w, last.shape)),
    ):
        close(found[-1, -4:].get(), exact[0, -4:])
    with pytest.raises(ValueError, match=r"^conv2d_grad_w: at most 2,147,418,112 pixels on a GPU, got 2,147,487,744$"):
        cupy.conv2d_grad_w(x, x, w.shape)


def test_more_numbers_than_32_bits_count_in_normalised_vectors(cupy):
    N, C = 2**25 + 1, 64
    x, scale, last, slope = sparse(N, 1, 1, C), sparse(N, C), draw(1, 1, 1, C), draw(1, C)
    x.inside[-1], scale.inside[-1] = last, slope
    shift = DeviceArray(draw(C))
    y, mean, rstd = cupy.group_norm(x, scale, shift, 1, 1e-5, True)
    exact = norm_reference.group_norm(last, slope, shift.inside, 1, 1e-5, True)
    for found, expected in zip((y, mean, rstd), exact):
        close(found[-1:].get(), expected)
    with pytest.raises(
        ValueError, match=r"^norm_grad_channels: a grid of \(2147483712, 1, 1\) blocks is more than a GPU"
    ):
        cupy.group_norm_grad(y, x, scale, shift, mean, rstd, 1, True)
    one = x.reshape(1, N, 1, C)
    with pytest.raises(
        ValueError, match=r"^group_norm: at most 2,147,418,112 numbers in a group on a GPU, got 2,147,4"
    ):
        cupy.group_norm(one, DeviceArray(draw(C)), shift, 1, 1e-5, True)


def test_more_weights_than_32_bits_count_in_attention(cupy):
    N, L = 2**19 + 1, 64
    q, k, last = sparse(N, L, 1), sparse(N, L, 1), (draw(1, L, 1), draw(1, L, 1) / 2)
    q.inside[-1], k.inside[-1] = last
    y, p = cupy.attention(q, k, k, 1)
    exact = backend.get("numpy").attention(*last, last[1], 1)
    close(y[-1, -2:].get(), exact[0][0, -2:])
    close(p[-1, 0, -2:].get(), exact[1][0, 0, -2:])


def test_more_random_numbers_of_a_sample_than_32_bits_count(cupy):
    n = 2**31 + 6
    found = cupy.random_bits(KEY, np.array([7]), n)[0, -10:].get()
    blocks = np.arange(n // 4 - 2, n // 4 + 1)
    counters = np.stack([blocks, np.full(3, 7), np.full(3, KEY[2]), np.full(3, KEY[1])], -1).astype(np.uint32)
    words = noise_reference.philox4x32(counters, np.array([KEY[0], 0], np.uint32)).ravel()
    assert found.tolist() == words[:10].tolist()


def test_more_weights_than_32_bits_count_are_refused(cupy):
    w = sparse(2**31)
    with pytest.raises(ValueError, match=r"^square_sum: at most 2,147,418,112 numbers on a GPU, got 2,147,483,648$"):
        cupy.square_sum(w)
    with pytest.raises(ValueError, match=r"^adamw_ema: at most 2,147,418,112 weights on a GPU, got 2,147,483,648$"):
        cupy.adamw_ema(w, w, w, w, w, 0, HYPER)
