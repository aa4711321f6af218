"""A device that runs .cu files on the CPU, for machines without a GPU: g++ and `cuda_on_cpu.h`.

Every launch happens twice, with the threads in both orders, on copies of its arrays that have marks around them. What a
kernel writes beside an array, what depends on the order, and a barrier that not all threads reach are each an
AssertionError; so every test of a kernel looks for them, without a word about it.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from shutil import which

import numpy as np
import pytest

from minidiff.kernels.cuda_launch import Kernel, declared
from tests.cuda.device_array import DeviceArray, xp

HEADER = Path(__file__).with_name("cuda_on_cpu.h")
MARKS = 64  # bytes before and behind an array, more than a vector
MARK = 0xAB
OPTIONS = ("-O2", "-std=c++20", "-fPIC", "-shared", "-pthread", "-w", "-ffp-contract=fast", "-U_FORTIFY_SOURCE")


class Emulated:
    """A `cuda_launch.Device` on the CPU.  folder: where compiled files are kept.  launched: kernels that have run."""

    xp = xp

    def __init__(self, folder: Path, workers: int | None = None) -> None:
        self.folder, self.workers = folder, workers or len(os.sched_getaffinity(0))
        self.compiled: dict[Path, ctypes.CDLL] = {}
        self.launched: set[tuple[str, str]] = set()

    def empty(self, shape, dtype=np.float32):
        """NaN, or the largest integer: a kernel must write every number."""
        dtype = np.dtype(dtype)
        return DeviceArray(np.full(shape, np.nan if dtype.kind == "f" else np.iinfo(dtype).max, dtype))

    def launch(self, kernel: Kernel, grid: tuple[int, int, int], arguments: list) -> None:
        """Run the kernel in both orders; AssertionError if something is wrong with it."""
        self.launched.add((kernel.path.name, kernel.name))
        one, other = (self._run(kernel, grid, arguments, backwards) for backwards in (False, True))
        for (what, _, _), argument, first, second in zip(kernel.parameters, arguments, one, other):
            if isinstance(argument, DeviceArray):
                assert first.unharmed() and second.unharmed(), f"{kernel.name} writes beside {what}"
                same = first.inside.tobytes() == second.inside.tobytes()
                assert same, f"{kernel.name}: {what} depends on the threads' order"
                argument.inside[...] = first.inside

    def _run(self, kernel, grid, arguments, backwards):
        """The arguments as the kernel has left them."""
        function = getattr(self._library(kernel.path), f"run_{kernel.name}")
        function.restype = ctypes.c_long
        given = [Marked(a.inside) if isinstance(a, DeviceArray) else a for a in arguments]
        values = [np.array([a.inside.ctypes.data], np.uint64) if isinstance(a, Marked) else a for a in given]
        addresses = (ctypes.c_void_p * len(values))(*[value.ctypes.data for value in values])
        stuck = function((ctypes.c_uint * 3)(*grid), kernel.threads, addresses, self.workers, int(backwards))
        assert stuck < 0, f"{kernel.name}: in block {stuck} not every thread reaches a barrier that others wait at"
        return given

    def _library(self, path):
        if path not in self.compiled:
            if which("g++") is None:
                pytest.skip("g++ is not installed, and without a GPU it runs the CUDA kernels")
            self.compiled[path] = ctypes.CDLL(str(compile_for_cpu(path, self.folder)))
        return self.compiled[path]


class Marked:
    """A copy of an array with marks before and behind it."""

    def __init__(self, array: np.ndarray) -> None:
        self.memory = np.full(array.nbytes + 2 * MARKS + 64, MARK, np.uint8)
        start = -self.memory.ctypes.data % 64 + MARKS
        self.inside = self.memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        self.around = self.memory[:start], self.memory[start + array.nbytes :]
        self.inside[...] = array

    def unharmed(self) -> bool:
        return all((part == MARK).all() for part in self.around)


def compile_for_cpu(path: Path, folder: Path) -> Path:
    """Compile a .cu file into a library with a function `run_NAME` for each kernel; kept by what went into it."""
    runs = "".join(
        f'extern "C" long run_{name}(const unsigned* g, unsigned threads, void** a, int workers, int backwards) {{\n'
        f"    return cuda_on_cpu::launch({name}, dim3{{g[0], g[1], g[2]}}, dim3{{threads, 1, 1}}, a, "
        "workers, backwards);\n}\n"
        for name in declared(path)
    )
    source = f'#include "{HEADER}"\n#include "{path.resolve()}"\n{runs}'
    digest = hashlib.sha256((source + path.read_text("utf-8") + HEADER.read_text("utf-8")).encode()).hexdigest()[:16]
    library = folder / f"{path.stem}-{digest}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as beside:
            given, made = Path(beside, "kernels.cpp"), Path(beside, "kernels.so")
            given.write_text(source, "utf-8")
            compiler = shutil.which("g++")
            assert compiler, "g++ is not installed, and without a GPU it runs the CUDA kernels"
            run = subprocess.run([compiler, *OPTIONS, str(given), "-o", str(made)], capture_output=True, text=True)
            assert run.returncode == 0, run.stderr[:2000]
            made.replace(library)
    return library
