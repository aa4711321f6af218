"""Fixtures that several test files share."""

import gc
import os

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that wait must not take a core from other processes

from minidiff import backend, cache_folders
from tests.backends import BACKENDS, ON_GPU, WITH_A_GPU

# Before a test imports a kernel: Numba asks for the folder then, and processes that tests start look into the same one.
cache_folders.set_numba_folder()

MOST_PROCESSES = 4  # each compiles kernels of its own at first


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """All tests run in several processes; tests that somebody names run in this one, which starts faster."""
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores, MOST_PROCESSES) if cores > 1 else 0


gc.disable()  # thousands of tests are collected, and none of them is garbage


def pytest_collection_finish():
    gc.enable()
    gc.freeze()  # nor need they be looked through while tests run


# With two processes, each begins with one half of the tests: one where kernels are compiled, one where they are not.
COMPILES = ("kernels", "nn", "interop", "benchmarks", "evaluation", "golden", "pipeline", "training")


def pytest_collection_modifyitems(items):
    compiles = {*COMPILES, "tests"}
    takes_longest = "test_same_bits.py"
    items.sort(key=lambda item: (item.path.name != takes_longest, item.path.parent.name in compiles))


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
# For what many tests ask of a whole network: on an emulated GPU before a release, as tests/cuda asks it every time.
network_backend = one_after_the_other(
    (*BACKENDS, *(pytest.param(name, marks=[] if WITH_A_GPU else pytest.mark.release) for name in ON_GPU))
)


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
