"""A device that runs .cu files on the CPU, for machines without a GPU: g++ and `cuda_on_cpu.h`.

A launch happens twice, with the threads in both orders, on copies of its arrays that have marks around them. A later
launch of the same kernel with the same grid and shapes happens once. What a kernel writes beside an array, what depends
on the order, a barrier that not all threads reach, four numbers that are read at once from an address that 16 does not
divide, an integer that overflows, and more shared memory than a block has are each an AssertionError; so every test of
a kernel looks for them, without a word about it.
"""

import ctypes
import hashlib
import math
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from minidiff.kernels.cuda_launch import Kernel, declared
from tests.cuda.device_array import DeviceArray, NotInGraph, xp
from tests.needs import lacking

HEADER = Path(__file__).with_name("cuda_on_cpu.h")
MARKS = 64  # bytes before and behind an array, more than a vector
MARK = 0xAB
CHECKS = "-fsanitize=alignment,null,signed-integer-overflow,shift,integer-divide-by-zero,bounds"
OPTIONS = ("-O2", "-std=c++17", "-fPIC", "-pthread", "-w", "-ffp-contract=fast", "-U_FORTIFY_SOURCE", CHECKS)
MAX_SHARED = 48 * 1024  # bytes of a block, as they are declared; no launch here asks for more


class Emulated:
    """A `cuda_launch.Device` on the CPU.  folder: where compiled files are kept.  launched: kernels that have run."""

    xp = xp

    def __init__(self, folder: Path, workers: int | None = None) -> None:
        self.folder, self.workers = folder, workers or len(os.sched_getaffinity(0))
        self.compiled: dict[Path, ctypes.CDLL] = {}
        self.launched: set[tuple[str, str]] = set()
        self.in_both_orders: set[tuple] = (
            set()
        )  # kernel, grid and shapes of launches that need no second order any more

    def empty(self, shape, dtype=np.float32):
        """NaN, or the largest integer: a kernel must write every number."""
        dtype = np.dtype(dtype)
        return DeviceArray(np.full(shape, np.nan if dtype.kind == "f" else np.iinfo(dtype).max, dtype))

    @contextmanager
    def pool(self):
        """What stands for a pool of memory, which can capture: see `cuda_launch.Pool`."""
        yield SimpleNamespace(capture=captured)

    def launch(self, kernel: Kernel, grid: tuple[int, int, int], arguments: list) -> None:
        """Run the kernel, at first in both orders; AssertionError if something is wrong with it."""
        if DeviceArray.captured is not None:
            DeviceArray.captured.append(lambda: self.launch(kernel, grid, arguments))
            return
        self.launched.add((kernel.path.name, kernel.name))
        shapes = tuple(
            getattr(argument, "shape", argument if isinstance(argument, int) else None) for argument in arguments
        )
        launch = kernel.path, kernel.name, grid, shapes
        orders = (False,) if launch in self.in_both_orders else (False, True)
        runs = [self._run(kernel, grid, arguments, backwards) for backwards in orders]
        self.in_both_orders.add(launch)
        for (what, _, _), argument, *results in zip(kernel.parameters, arguments, *runs):
            if isinstance(argument, DeviceArray):
                assert all(result.unharmed() for result in results), f"{kernel.name} writes beside {what}"
                same = len({result.inside.tobytes() for result in results}) == 1
                assert same, f"{kernel.name}: {what} depends on the threads' order"
                argument.inside[...] = results[0].inside

    def _run(self, kernel, grid, arguments, backwards):
        """The arguments as the kernel has left them."""
        given = [Marked(a.inside) if isinstance(a, DeviceArray) else a for a in arguments]
        self.run_blocks(kernel, grid, range(math.prod(grid)), given, backwards)
        return given

    def run_blocks(self, kernel: Kernel, grid, blocks: range, arguments: list, backwards: bool = False) -> None:
        """Run some blocks of a grid, in place: arrays are whatever has `inside`.  AssertionError if one fails."""
        function = getattr(self._library(kernel.path), f"run_{kernel.name}")
        function.restype = Said
        values = [np.array([a.inside.ctypes.data], np.uint64) if hasattr(a, "inside") else a for a in arguments]
        addresses = (ctypes.c_void_p * len(values))(*[value.ctypes.data for value in values])
        part = (ctypes.c_long * 2)(blocks.start, blocks.stop)
        said = function((ctypes.c_int * 3)(*grid), kernel.threads, part, addresses, self.workers, int(backwards))
        waits = f"in block {said.stuck} not every thread reaches a barrier that others wait at"
        found = f"in block {said.stuck}, line {said.line}: {(said.fault or b'').decode()}"
        assert said.stuck < 0, f"{kernel.name}: {found if said.fault else waits}"

    def _library(self, path):
        if path not in self.compiled:
            self.compiled[path] = ctypes.CDLL(str(compile_for_cpu(path, self.folder)))
        return self.compiled[path]


def captured(function):
    """A graph of what the function computes on the device; None if it waits for a number, or brings one."""
    DeviceArray.captured = calls = []
    try:
        function()
    except NotInGraph:
        return None
    finally:
        DeviceArray.captured = None
    return SimpleNamespace(launch=lambda: [call() for call in calls])


class Said(ctypes.Structure):
    """`Said` of cuda_on_cpu.h."""

    _fields_ = (("stuck", ctypes.c_long), ("fault", ctypes.c_char_p), ("line", ctypes.c_uint))


class Marked:
    """A copy of an array with marks before and behind it, which begins as far behind a cache line as the array."""

    def __init__(self, array: np.ndarray) -> None:
        self.memory = np.full(array.nbytes + 2 * MARKS + 64, MARK, np.uint8)
        start = (array.ctypes.data - self.memory.ctypes.data) % 64 + MARKS
        self.inside = self.memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        self.around = self.memory[:start], self.memory[start + array.nbytes :]
        self.inside[...] = array

    def unharmed(self) -> bool:
        return all((part == MARK).all() for part in self.around)


def compile_for_cpu(path: Path, folder: Path) -> Path:
    """Compile a .cu file into a library with a function `run_NAME` for each kernel; kept by what went into it."""
    runs = "".join(
        f'extern "C" cuda_on_cpu::Said run_{name}(const int* g, int threads, const long* part, void** a, int workers, '
        "int backwards) {\n"
        f"    return cuda_on_cpu::launch({name}, dim3{{g[0], g[1], g[2]}}, dim3{{threads, 1, 1}}, part[0], part[1], a, "
        "workers, backwards);\n}\n"
        for name in declared(path)
    )
    source = f'#include "{HEADER}"\n#line 1 "{path.name}"\n{path.read_text("utf-8")}\n{runs}'
    digest = hashlib.sha256((source + HEADER.read_text("utf-8") + repr(OPTIONS)).encode()).hexdigest()[:16]
    library = folder / f"{path.stem}-{digest}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as beside:
            given, compiled, made = (Path(beside, f"kernels.{kind}") for kind in ("cpp", "o", "so"))
            given.write_text(source, "utf-8")
            tool("g++", *OPTIONS, "-c", "-ffunction-sections", "-fdata-sections", given, "-o", compiled)
            for name in declared(path):
                used = shared_memory(name, compiled)
                assert used <= MAX_SHARED, f"{name}: {used:,} bytes of shared memory, a block has {MAX_SHARED:,}"
            tool("g++", "-shared", "-pthread", compiled, "-o", made)
            made.replace(library)
    return library


def shared_memory(kernel: str, compiled: Path) -> int:
    """The bytes of the arrays in shared memory that a kernel and what it calls declare."""
    alone = compiled.with_name(f"{kernel}.o")
    tool("ld", "-r", "--gc-sections", "-u", f"run_{kernel}", "-e", f"run_{kernel}", compiled, "-o", alone)
    inside_functions = re.findall(r"^\w+ (\w+) [bBu] _ZZ", tool("nm", "-S", alone), re.M)
    return sum(int(size, 16) for size in inside_functions)


def tool(name: str, *words) -> str:
    """Run a tool of the compiler and return what it printed; AssertionError if it failed.

    Where there is none, the test that needs it is skipped.
    """
    if not shutil.which(name):
        lacking("g++", f"{name} is not installed, and without a GPU it runs the CUDA kernels")
    run = subprocess.run([name, *map(str, words)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[:2000]
    return run.stdout
