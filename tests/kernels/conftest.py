"""Every kernel test runs on every version: the reference in float32 and float64, Numba in float32."""

from dataclasses import dataclass

import numpy as np
import pytest

from minidiff import backend


@dataclass(frozen=True)
class Version:
    """The functions of one backend, as attributes, and the dtype to feed them."""

    table: backend.Backend
    dtype: type

    def __getattr__(self, function):
        return getattr(self.table, function)

    @property
    def bound(self) -> float:
        """How far a result may lie from the exact one, as a share of its largest number.

        Rounding errors of a sum of n random terms grow like sqrt(n) eps, and so does the sum itself, so that their
        ratio stays at a few eps for any n: 30 eps is 4e-6 in float32.
        """
        return 30 * np.finfo(self.dtype).eps

    def array(self, *shape, seed=0, scale=1.0, shift=0.0):
        """Random numbers of this version's dtype."""
        return (scale * np.random.default_rng((seed, *shape)).normal(size=shape) + shift).astype(self.dtype)


VERSIONS = (("numpy", np.float64), ("numpy", np.float32), ("numba", np.float32))


@pytest.fixture(scope="session", params=VERSIONS, ids=lambda v: f"{v[0]}-{v[1].__name__}")
def version(request):
    """One backend and dtype; a test that asks for it runs once for each."""
    name, dtype = request.param
    return Version(backend.get(name), dtype)


@pytest.fixture
def poison(monkeypatch):
    """A function after whose call every np.empty is full of NaN, so that what a kernel forgets to write shows."""

    def fill(a):
        a.view(np.uint8)[...] = 0xFF  # NaN for floats, the largest number for unsigned integers
        return a

    empty, empty_like = np.empty, np.empty_like

    def start():
        monkeypatch.setattr(np, "empty", lambda *args, **kwargs: fill(empty(*args, **kwargs)))
        monkeypatch.setattr(np, "empty_like", lambda *args, **kwargs: fill(empty_like(*args, **kwargs)))

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
