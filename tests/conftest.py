"""Fixtures that several test files share."""

import pytest

from minidiff import backend
from tests.backends import BACKENDS, ON_GPU, WITH_A_GPU


@pytest.fixture(scope="session", autouse=True)
def auto_is_the_cpu():
    """A test that names no backend computes on the CPU, also where there is a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "AUTO", ("numba", "numpy"))
        yield


def one_after_the_other(names):
    """A fixture that runs a test once on every backend of `names`; its value is the backend's table."""

    @pytest.fixture(params=names)
    def chosen(request):
        with backend.using(request.param) as table:
            yield table

    return chosen


each_backend = one_after_the_other((*BACKENDS, *WITH_A_GPU))  # emulated, these would take ten seconds and more each
every_backend = one_after_the_other((*BACKENDS, *ON_GPU))  # also emulated, wherever few kernels are launched
gpu_backend = one_after_the_other(ON_GPU)


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
