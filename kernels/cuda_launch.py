"""Launching a kernel of a .cu file: on which device, and with which arguments.

A `Device` runs kernels. `Gpu` uses CuPy for that; tests have another device, which runs the same files on the CPU. In
both cases a kernel's parameters are read from its source, and each argument is checked against them first: a GPU would
not complain about float64 numbers, it would read them as float32.
"""

import functools
import math
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np

from minidiff.kernels import cuda_compile

# NumPy's dtypes by their names in C++.
DTYPES = {"float": np.float32, "double": np.float64, "int": np.int32, "u32": np.uint32, "long": np.int64}
KERNEL = re.compile(r'extern "C" __global__ void(?: __launch_bounds__\((\w+)\))?\s+(\w+)\(([^)]*)\)')
STRUCT = re.compile(r"struct (\w+) \{([^{}]*)\};")
LEAST = 70  # compute capability times ten: Volta
MOST_BLOCKS = 2**31 - 1, 65_535, 65_535  # of a grid along x, y and z
MOST_THREADS, MOST_ALONG = 1024, (1024, 1024, 64)  # of a block in all, and along x, y and z
MOST_COUNTED = 2**31 - 2**16  # the largest count that a kernel's 32-bit integers may hold, with room for one step more


@dataclass(frozen=True)
class Kernel:
    """A kernel as its source declares it; parameters: name, dtype, and whether it is an array."""

    path: Path
    name: str
    threads: int
    parameters: tuple[tuple[str, np.dtype, bool], ...]


class Device(Protocol):
    """What runs kernels: an array library, uninitialised arrays, a launch with checked arguments, memory for graphs."""

    xp: Any

    def pool(self) -> AbstractContextManager["Pool"]: ...

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any: ...

    def launch(self, kernel: Kernel, grid: tuple[int, int, int], arguments: list[Any]) -> None: ...


class Pool(Protocol):
    """Memory of a graph's own; inside `pool()`, all arrays come from it."""

    def capture(self, function: Callable[[], object]) -> Any:
        """Return a graph of what the function launches, with a method `launch`; None if it does more than that."""


_device: list[Device] = []  # empty or one


def use(device: Device) -> None:
    """Let this device run all kernels from now on."""
    _device[:] = [device]


def start() -> Device:
    """The device in use, by default the GPU.  Raises ImportError or OSError in one line where there is none."""
    if not _device:
        use(Gpu())
    return _device[-1]


def device() -> Device:
    """The device in use."""
    return _device[-1]


@functools.cache
def declared(path: Path) -> dict[str, Kernel]:
    """The kernels of a .cu file, by name."""
    source = path.read_text("utf-8")
    constants = dict(re.findall(r"(\w+) = (\d+)[,;]", source))
    dtypes = {name: np.dtype(dtype) for name, dtype in DTYPES.items()}
    for name, body in STRUCT.findall(source):
        fields = [
            (field.strip(), dtypes[kind])
            for kind, names in re.findall(r"^\s*(\w+) ([\w, ]+);", body, re.M)
            if kind in dtypes
            for field in names.split(",")
        ]
        dtypes[name] = np.dtype(fields)
    kernels = {}
    for threads, name, listed in KERNEL.findall(source):
        parameters = []
        for parameter in listed.split(","):
            match = re.fullmatch(r"\s*(?:const )?(\w+)(\*?) (\w+)\s*", parameter)
            if match is None:
                raise ValueError(f"{path}: parameter {parameter.strip()!r} of {name} is not understood")
            kind, array, what = match.groups()
            parameters.append((what, dtypes[kind], bool(array)))
        kernels[name] = Kernel(path, name, int(constants.get(threads, threads)), tuple(parameters))
    return kernels


class Source:
    """The kernels of a .cu file, to be called by name: kernels("scale", (blocks,), x, 3.0)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """The kernels' names."""
        return list(declared(self.path))

    def __call__(self, name: str, grid: tuple[int, ...], *arguments: Any) -> None:
        """Run a kernel over a grid of blocks; an empty grid does nothing.

        arguments: in the kernel's order: arrays of the device, None for an array that may be absent, numbers, and
        tuples for structs. Raises TypeError in one line if one is not what the kernel takes, ValueError if a grid is
        too large.
        """
        kernel = declared(self.path)[name]
        if len(arguments) != len(kernel.parameters):
            raise TypeError(f"{name}: {len(kernel.parameters)} arguments expected, got {len(arguments)}")
        checked = [_checked(name, *parameter, argument) for parameter, argument in zip(kernel.parameters, arguments)]
        full = check_launch(name, grid, (kernel.threads,))
        if min(full) > 0:
            device().launch(kernel, full, checked)


def check_launch(kernel: str, grid: tuple[int, ...], block: tuple[int, ...]) -> tuple[int, int, int]:
    """The grid along x, y and z.  Raises ValueError in one line if it, or a block, is more than any GPU takes.

    A count that comes from data (images, tokens, pixels) must go along x: only x takes more than 65,535.
    Source: CUDA C++ Programming Guide, table "Technical Specifications per Compute Capability".
    """
    x, y, z = (*grid, 1, 1)[:3]
    blocks, threads = (x, y, z), (*block, 1, 1)[:3]
    if any(count > most for count, most in zip(blocks, MOST_BLOCKS)):
        raise ValueError(f"{kernel}: a grid of {blocks} blocks is more than a GPU takes, at most {MOST_BLOCKS}")
    along = any(count > most for count, most in zip(threads, MOST_ALONG))
    if along or math.prod(threads) > MOST_THREADS:
        most = f"{MOST_THREADS} in all and {MOST_ALONG}"
        raise ValueError(f"{kernel}: a block of {threads} threads is more than a GPU takes, at most {most}")
    return blocks[0], blocks[1], blocks[2]


def check_counts(function: str, **counts: int) -> None:
    """Raise ValueError in one line unless 32-bit integers hold the counts: kernels use those, which are fastest."""
    for what, count in counts.items():
        if count > MOST_COUNTED:
            raise ValueError(f"{function}: at most {MOST_COUNTED:,} {what.replace('_', ' ')} on a GPU, got {count:,}")


def _checked(kernel: str, what: str, dtype: np.dtype, array: bool, argument: Any) -> Any:
    if not array:
        try:
            return np.array([argument], dtype)
        except OverflowError:
            raise ValueError(f"{kernel}: {what} must fit {dtype}, got {argument}") from None
    if argument is None:
        return np.zeros(1, np.uint64)  # a null pointer
    _check_device(kernel, what, argument)
    if argument.dtype != dtype:
        raise TypeError(f"{kernel}: {what} must be {dtype}, got {argument.dtype}")
    if not argument.flags.c_contiguous:
        raise TypeError(f"{kernel}: {what} must be C-contiguous")
    return argument


def _check_device(function: str, what: str, a: Any) -> None:
    if not isinstance(a, device().xp.ndarray):
        raise TypeError(f"{function}: {what} must be an array of the device, got {type(a).__name__}")


def float32(function: str, **arrays: Any) -> tuple[Any, ...]:
    """The arrays, C-contiguous; None passes through.

    Raises TypeError in one line for an array of the host, ValueError for another dtype.
    """
    for what, a in arrays.items():
        if a is not None:
            _check_device(function, what, a)
        if a is not None and a.dtype != np.float32:
            raise ValueError(f"{function}: {what} must be float32, got {a.dtype}")
    return tuple(a if a is None else device().xp.ascontiguousarray(a) for a in arrays.values())


def empty(shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """An uninitialised array of the device."""
    return device().empty(shape, dtype)


def blocks(count: int, each: int) -> int:
    """How many blocks of `each` numbers cover a count."""
    return -(-count // each)


class Gpu:
    """The GPU that CuPy uses.  Raises OSError in one line where there is none, or one that is too old."""

    def __init__(self) -> None:
        try:
            import cupy
        except ImportError as error:
            raise ImportError("CuPy is not installed: pip install 'minidiff[cuda13]', or [cuda12]") from error
        self.xp = cupy
        try:
            capability = cupy.cuda.Device().compute_capability
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise OSError(f"no GPU can be used ({error})") from error
        if int(capability) < LEAST:
            raise OSError(f"the GPU has compute capability {int(capability) / 10}, expected {LEAST / 10} or more")
        self.empty = cupy.empty
        self._loaded: dict[tuple[Path, int], Any] = {}  # a module belongs to the GPU where it was loaded

    @contextmanager
    def pool(self) -> Iterator["GpuPool"]:
        """Inside, arrays come from memory that nobody else gets, and kernels run in a stream that can be captured."""
        self.xp.cuda.get_current_stream().synchronize()
        pool = GpuPool(self.xp.cuda)
        with self.xp.cuda.using_allocator(pool.memory.malloc), pool.stream:
            yield pool
        pool.stream.synchronize()

    def launch(self, kernel: Kernel, grid: tuple[int, int, int], arguments: list[Any]) -> None:
        """Run the kernel on the current GPU, in its current stream."""
        current = self.xp.cuda.Device()
        key = kernel.path, current.id
        if key not in self._loaded:
            module = self.xp.cuda.function.Module()
            module.load(cuda_compile.cubin(kernel.path, f"sm_{current.compute_capability}"))
            self._loaded[key] = module
        self._loaded[key].get_function(kernel.name)(grid, (kernel.threads, 1, 1), tuple(arguments))


class GpuPool:
    """Memory of a graph, and the stream that it is captured in."""

    def __init__(self, cuda: Any) -> None:
        self.runtime, self.memory, self.stream = cuda.runtime, cuda.MemoryPool(), cuda.Stream(non_blocking=True)

    def capture(self, function: Callable[[], object]) -> Any:
        """See `Pool`; the graph keeps the memory."""
        graph, refused = None, self.runtime.CUDARuntimeError
        self.stream.begin_capture(self.runtime.streamCaptureModeRelaxed)
        try:
            with suppress(refused):  # it spoils the capture, whose end is then refused as well
                function()
        finally:
            with suppress(refused):
                graph = self.stream.end_capture()
        return None if graph is None else SimpleNamespace(launch=graph.launch, memory=self.memory)
