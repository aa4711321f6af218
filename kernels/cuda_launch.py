"""Launching a kernel of a .cu file: who runs it, and whether its arguments are what it says it takes.

A `Device` runs kernels: `Gpu` does through CuPy. Tests have another, which runs the same files on the CPU. Either way a
kernel's parameters are read from its source, and each argument is held against them first: a GPU would not say that it
was given float64 numbers, it would read them as float32.
"""

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from minidiff.kernels import cuda_compile

# How C++ names what NumPy names otherwise.
DTYPES = {"float": np.float32, "double": np.float64, "int": np.int32, "u32": np.uint32, "long": np.int64}
KERNEL = re.compile(r'extern "C" __global__ void(?: __launch_bounds__\((\w+)\))?\s+(\w+)\(([^)]*)\)')
STRUCT = re.compile(r"struct (\w+) \{([^{}]*)\};")
LEAST = 70  # compute capability times ten: Volta


@dataclass(frozen=True)
class Kernel:
    """A kernel as its source declares it; parameters: name, dtype, and whether it is an array."""

    path: Path
    name: str
    threads: int
    parameters: tuple[tuple[str, np.dtype, bool], ...]


class Device(Protocol):
    """Who runs kernels: an array library, arrays with anything in them, and a launch of checked arguments."""

    xp: Any

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any: ...

    def launch(self, kernel: Kernel, grid: tuple[int, int, int], arguments: list[Any]) -> None: ...


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
            kind, array, what = re.fullmatch(r"\s*(?:const )?(\w+)(\*?) (\w+)\s*", parameter).groups()
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
        """Run a kernel over a grid of blocks; an empty grid is nothing to do.

        arguments: in the kernel's order: arrays of the device, None for an array that may be absent, numbers, and
        tuples for structs. Raises TypeError in one line if one is not what the kernel takes, ValueError if a grid is
        too large.
        """
        kernel = declared(self.path)[name]
        if len(arguments) != len(kernel.parameters):
            raise TypeError(f"{name}: {len(kernel.parameters)} arguments expected, got {len(arguments)}")
        checked = [_checked(name, *parameter, argument) for parameter, argument in zip(kernel.parameters, arguments)]
        full = (*grid, 1, 1)[:3]
        if full[0] > 2**31 - 1 or max(full[1:]) > 65_535:
            raise ValueError(f"{name}: a grid of {full} blocks is more than a GPU takes")
        if min(full) > 0:
            device().launch(kernel, full, checked)


def _checked(kernel: str, what: str, dtype: np.dtype, array: bool, argument: Any) -> Any:
    if not array:
        return np.array([argument], dtype)
    if argument is None:
        return np.zeros(1, np.uint64)  # the address of nothing
    if not isinstance(argument, device().xp.ndarray):
        raise TypeError(f"{kernel}: {what} must be an array of the device, got {type(argument).__name__}")
    if argument.dtype != dtype:
        raise TypeError(f"{kernel}: {what} must be {dtype}, got {argument.dtype}")
    if not argument.flags.c_contiguous:
        raise TypeError(f"{kernel}: {what} must be C-contiguous")
    return argument


def float32(function: str, **arrays: Any) -> tuple[Any, ...]:
    """The arrays, C-contiguous; None passes through.  Raises ValueError in one line for another dtype."""
    for what, a in arrays.items():
        if a is not None and a.dtype != np.float32:
            raise ValueError(f"{function}: {what} must be float32, got {a.dtype}")
    return tuple(a if a is None else device().xp.ascontiguousarray(a) for a in arrays.values())


def empty(shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """An array of the device with anything in it."""
    return device().empty(shape, dtype)


def blocks(count: int, each: int) -> int:
    """How many blocks of so many each cover a count."""
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
        self.architecture = f"sm_{capability}"
        self.empty = cupy.empty
        self._loaded: dict[Path, Any] = {}

    def launch(self, kernel: Kernel, grid: tuple[int, int, int], arguments: list[Any]) -> None:
        """Run the kernel in the current stream."""
        if kernel.path not in self._loaded:
            module = self.xp.cuda.function.Module()
            module.load(cuda_compile.cubin(kernel.path, self.architecture))
            self._loaded[kernel.path] = module
        self._loaded[kernel.path].get_function(kernel.name)(grid, (kernel.threads, 1, 1), tuple(arguments))
