"""Fixtures that several test files share."""

import pytest

from minidiff import backend
from tests.backends import BACKENDS, ON_GPU


@pytest.fixture(params=BACKENDS)
def each_backend(request):
    """Run a test once on every backend of the CPU; the value is its table."""
    with backend.using(request.param) as chosen:
        yield chosen


@pytest.fixture(params=ON_GPU)
def gpu_backend(request):
    """The same for the backends whose arrays are a device's; without a GPU, "cupy" alone, emulated."""
    with backend.using(request.param) as chosen:
        yield chosen


@pytest.fixture
def threads():
    """A function that lets Numba's kernels take so many threads, until the test ends; skips where there are fewer."""
    table = backend.get("numba")
    before = table.threads()

    def use(n):
        try:
            table.threads(n)
        except ValueError as error:
            pytest.skip(str(error))

    yield use
    table.threads(before)
