"""Every kernel test runs on every version: the reference in float32 and float64, the others in float32."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

from minidiff import backend
from minidiff.kernels import numba_memory
from tests.backends import ON_GPU, WITH_A_GPU


@dataclass(frozen=True)
class Version:
    """The functions of one backend, as attributes, and the dtype to feed them."""

    table: backend.Backend
    dtype: type

    def __getattr__(self, name):
        function = getattr(self.table, name)
        return function if self.table.xp is np else partial(through_device, self.table.xp, function)

    @property
    def bound(self) -> float:
        """How far a result may lie from the exact one, as a share of its largest number: 30 eps, 4e-6 in float32.

        A sum of n random terms, added one after the other, is off by about sqrt(n) eps / 2 of itself. The longest sums
        here are those of 3x3 filters over 256 channels, 2304 terms: the worst of 60,000 results was off by 28 eps.
        """
        return 30 * float(np.finfo(self.dtype).eps)

    @property
    def winograd_bound(self) -> float:
        """The same for convolutions that Numba may compute Winograd's way: 240 eps, 3e-5.

        What its points multiply, by up to 8 along each side, cancels again, but for the rounding errors. The worst of
        18,000 shapes up to 3 x 32 x 32 was off by 55 eps with 16 channels to add over, 95 with 64, 195 with 256.
        """
        return 8 * self.bound if self.table.name == "numba" else self.bound

    def array(self, *shape, seed=0, scale=1.0, shift=0.0):
        """Random numbers of this version's dtype."""
        return (scale * np.random.default_rng((seed, *shape)).normal(size=shape) + shift).astype(self.dtype)


def through_device(xp, function, *args, **kwargs):
    """Call a function of a GPU's backend with NumPy's float32 arrays, which go to the device, and return NumPy's.

    What an array of the device holds after the call, that of the host holds as well: some change in place.
    """
    there = {}

    def to_device(value):
        if isinstance(value, np.ndarray) and value.dtype == np.float32:
            there[id(value)] = value, xp.asarray(value)
            return there[id(value)][1]
        return value

    def to_host(value):
        if isinstance(value, tuple):
            return tuple(map(to_host, value))
        if not hasattr(value, "get"):
            return value
        value = backend.to_numpy(value)
        return float(value[0]) if value.dtype == np.float64 else value  # square_sum's, which stays on the device

    result = to_host(function(*map(to_device, args), **{name: to_device(value) for name, value in kwargs.items()}))
    for here, device in there.values():
        if here.flags.writeable:
            here[...] = backend.to_numpy(device)
    return result


VERSIONS = (
    ("numpy", np.float64), ("numpy", np.float32), ("numba", np.float32), ("numba-gemm", np.float32),
    *((name, np.float32) for name in ON_GPU),
)  # fmt: skip


@pytest.fixture(scope="session", params=VERSIONS, ids=lambda v: f"{v[0]}-{v[1].__name__}")
def version(request):
    """One backend and dtype; a test that asks for it runs once for each."""
    name, dtype = request.param
    return Version(backend.get(name), dtype)


LATER: list[pytest.MarkDecorator] = [] if WITH_A_GPU else [pytest.mark.release]
LARGE = [pytest.param(v, id=f"{v[0]}-{v[1].__name__}", marks=LATER if v[0] in ON_GPU else []) for v in VERSIONS]


@pytest.fixture(scope="session", params=LARGE)
def version_for_large_arrays(request):
    """As `version`; an emulated GPU takes seconds for large arrays, so it waits for a release."""
    name, dtype = request.param
    return Version(backend.get(name), dtype)


@pytest.fixture
def poison(monkeypatch):
    """A function after whose call all fresh memory is full of NaN, so that what a kernel forgets to write shows.

    Memory that Numba's kernels would use again is forgotten: they get none but fresh memory until the test ends.
    Kernels must have been called before: to the compiler np.empty would be a stranger.
    """

    class Forgetful(dict):
        def setdefault(self, size, default):
            return default

    class Forgetting:
        def __setattr__(self, name, value):
            pass

    def fill(a):
        a.view(np.uint8)[...] = 0xFF  # NaN for floats, the largest number for unsigned integers
        return a

    empty, empty_like = np.empty, np.empty_like

    def start():
        monkeypatch.setattr(np, "empty", lambda *args, **kwargs: fill(empty(*args, **kwargs)))
        monkeypatch.setattr(np, "empty_like", lambda *args, **kwargs: fill(empty_like(*args, **kwargs)))
        monkeypatch.setattr(numba_memory, "_kept", Forgetful())
        monkeypatch.setattr(numba_memory, "_starts", Forgetful())
        monkeypatch.setattr(numba_memory, "_of_thread", Forgetting())

    return start


@pytest.fixture(scope="session")
def error():
    """The largest difference between a result and the exact one, as a share of the largest exact number."""

    def largest_difference(actual, exact):
        exact = np.asarray(exact, np.float64)
        assert actual.shape == exact.shape
        return np.abs(actual - exact).max() / np.abs(exact).max()

    return largest_difference


@pytest.fixture(scope="session")
def slope():
    """The gradient of f at x by central differences, every coordinate; float64, error near 1e-10."""

    def central_differences(f, x, h=1e-5):
        x = x.astype(np.float64)
        gradient = np.empty_like(x)
        for i in np.ndindex(x.shape):
            old = x[i]
            x[i] = old + h
            above = f(x)
            x[i] = old - h
            gradient[i] = (above - f(x)) / (2 * h)
            x[i] = old
        return gradient

    return central_differences
