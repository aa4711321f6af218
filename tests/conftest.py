"""Fixtures that several test files share."""

import contextlib
from typing import Any

import pytest

from minidiff import backend
from tests.backends import BACKENDS, ON_GPU, WITH_A_GPU
from tests.training import test_same_bits

_at_the_end = contextlib.ExitStack()
_begun: list[Any] = []


def pytest_collection_modifyitems(items):
    """What waits for another process comes last."""
    items.sort(key=lambda item: item.path.name == "test_same_bits.py")


def pytest_collection_finish(session):
    """That process begins at once, if its test is among those that are run."""
    if any(item.path.name == "test_same_bits.py" for item in session.items) and not session.config.option.collectonly:
        _begun.append(_at_the_end.enter_context(test_same_bits.begun()))


def pytest_unconfigure():
    _at_the_end.close()


@pytest.fixture
def begun_with_an_empty_cache():
    """The folder and the process of `test_same_bits.begun`."""
    return _begun[0]


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


# Those that run natively here, for tests of whole networks: an emulated GPU takes ten seconds and more for each.
native_backend = one_after_the_other((*BACKENDS, *WITH_A_GPU))
every_backend = one_after_the_other((*BACKENDS, *ON_GPU))  # with the emulated GPU, wherever few kernels are launched
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
