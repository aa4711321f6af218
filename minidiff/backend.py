"""Backends: which array library and which kernels compute.

Idea: the rest of minidiff says what is computed, and a backend says how.  A backend is one frozen table of functions,
such as `conv2d` and `attention`, each from one file in kernels/.  Every backend has the same functions, and tests
compare all of them with the same NumPy reference.
This is the only file that imports kernels/.  Leaves out the kernels: kernels/README.md describes their arguments,
kernels/<operation>/reference.py defines them.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cache
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from minidiff import cache_folders, renamed
from minidiff.errors import MinidiffError, one_line

AUTO = ("cupy", "numba", "numpy")  # what "auto" tries, in this order
RENAMED = renamed.VALUES["backend"]


@dataclass(frozen=True)
class Backend:
    """A table of the functions that have several versions; kernels/README.md gives their shapes and dtypes."""

    name: str
    xp: ModuleType  # numpy or cupy: for arrays on the device, and for everything that has no kernel
    threads: Callable  # threads(n) sets the number of CPU threads; threads(None) leaves it; returns the number in use
    add: Callable
    concat: Callable
    split: Callable
    conv2d: Callable
    conv2d_grad_x: Callable
    conv2d_grad_w: Callable
    conv2d_grad_b: Callable
    constant_filters: Callable  # a context in which no filter changes, so that what is derived from it may be cached
    norm_silu_conv2d: Callable
    norm_silu_conv2d_grad: Callable
    group_norm: Callable
    group_norm_grad: Callable
    attention: Callable
    attention_grad: Callable
    random_bits: Callable
    uniform: Callable
    normal: Callable
    add_noise: Callable
    sampler_update: Callable
    square_sum: Callable
    adamw_ema: Callable
    raster: Callable
    capture: Any  # capture(function, arrays) calls it and writes its calls down, see graphed.py
    Graph: Any  # Graph(what was captured) can be replayed
    traced: Callable  # traced(array) is an array whose computations a capture writes down, plain(array) one of them not
    plain: Callable
    perform: Callable  # perform(function, *arguments) calls a function, and so does every replay


def names() -> tuple[str, ...]:
    """Return the names that `use` accepts, except "auto"."""
    return tuple(_BUILDERS)


def current() -> Backend:
    """Return the backend in use; if none was selected, select "auto" first."""
    if not _stack:
        use("auto")
    return _stack[-1]


def use(name: str, threads: int | None = None) -> Backend:
    """Select a backend for the process: "numpy", "numba", "numba-gemm" (without Winograd), on a GPU
    "cupy" (kernels in CUDA C++) or "numba-cuda" (in Python), or "auto" (the first of AUTO that runs).

    threads: the number of CPU threads; None leaves it unchanged.  Initially all threads that the process may use.
    Raises MinidiffError if the backend cannot run, with the reason and with backends to try instead, or if there are
    fewer threads than asked for.
    """
    chosen = get(name)
    try:
        chosen.threads(threads)
    except ValueError as error:
        raise MinidiffError(str(error)) from error
    _stack[:] = [chosen]
    return chosen


@contextmanager
def using(name: str) -> Iterator[Backend]:
    """Select a backend inside a `with` block."""
    current()  # selects the backend for after the block, if none was selected
    chosen = get(name)
    _stack.append(chosen)
    try:
        yield chosen
    finally:
        _stack.pop()


def get(name: str) -> Backend:
    """Return the table of a backend without selecting it; see `use`."""
    if name == "auto":
        return _first_of(*(each for each in AUTO if each != "cupy" or find_spec("cupy")))
    if name in RENAMED:
        raise MinidiffError(f"backend {name!r} is now called {RENAMED[name]!r}")
    if name not in _BUILDERS:
        raise MinidiffError(f"backend {name!r} is not known; expected one of auto, {', '.join(_BUILDERS)}")
    try:
        return _BUILDERS[name]()
    except (ImportError, OSError, AttributeError, ValueError) as error:  # the last for a NUMBA_NUM_THREADS of 0
        family = name.removesuffix("-gemm")
        others = ", ".join(other for other in ("numba", "numpy") if other != family)
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise MinidiffError(f"backend {name!r} cannot run here: {reason}; try {others}") from error


def _first_of(*candidates: str) -> Backend:
    for candidate in candidates:
        try:
            return get(candidate)
        except MinidiffError as error:
            print(f"backend {candidate} is not used: {one_line(error)}", file=sys.stderr)
    raise MinidiffError("no backend can run; is NumPy installed?")


def host() -> Backend:
    """Return the backend for work on the CPU: the current one; if that runs on a GPU, the fastest CPU backend."""
    chosen = current()
    return chosen if chosen.xp is np else _on_cpu()


@cache
def _on_cpu() -> Backend:
    return _first_of("numba", "numpy")


def to_device(array: Any) -> Any:
    """Return the array on the device of the current backend; an array that is there already is returned as it is."""
    xp = current().xp
    return array if isinstance(array, xp.ndarray) else xp.asarray(array)


def to_numpy(array: Any) -> np.ndarray:
    """Return the array on the host; an array that is there already is returned as it is."""
    return array if isinstance(array, np.ndarray) else array.get()


def to_floats(*numbers: Any) -> list[float]:
    """Return device arrays of one element each as floats on the host, in a single copy."""
    xp = current().xp
    if xp is np:
        return [float(number) for number in numbers]
    return to_numpy(xp.stack([number.reshape(()).astype(np.float64) for number in numbers])).tolist()


def on_compile(say: Callable[[str], object]) -> None:
    """Call `say` with a line of text for each kernel that Numba compiles from now on.

    Numba compiles each version of a kernel once per machine.  Kernels loaded from the cache are not reported, nor are
    functions that are compiled as part of a kernel.
    """
    _say[:] = [say]


@cache
def _numpy() -> Backend:
    from minidiff.kernels import no_graph, numpy_threads
    from minidiff.kernels.attention import reference as attention
    from minidiff.kernels.conv2d import reference as conv2d
    from minidiff.kernels.elementwise import reference as elementwise
    from minidiff.kernels.noise import reference as noise
    from minidiff.kernels.norm import reference as norm
    from minidiff.kernels.norm_silu_conv2d import reference as norm_silu_conv2d
    from minidiff.kernels.optimizer import reference as optimizer
    from minidiff.kernels.raster import reference as raster

    convolutions = (conv2d, norm_silu_conv2d)
    modules = (numpy_threads, attention, *convolutions, elementwise, noise, norm, optimizer, raster, no_graph)
    return _gather("numpy", np, *modules)


@cache
def _numba(gemm: bool = False) -> Backend:
    """gemm: every convolution by implicit GEMM, none by Winograd's algorithm."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        raise ImportError("NUMBA_DISABLE_JIT is set, and the kernels cannot run uncompiled")
    cache_folders.set_numba_folder()  # before Numba is imported
    from minidiff.kernels import graph, numba_threads
    from minidiff.kernels.attention import numba_cpu as attention
    from minidiff.kernels.conv2d import numba_cpu as conv2d
    from minidiff.kernels.conv2d import numba_gemm as conv2d_gemm
    from minidiff.kernels.elementwise import numba_cpu as elementwise
    from minidiff.kernels.noise import numba_cpu as noise
    from minidiff.kernels.norm import numba_cpu as norm
    from minidiff.kernels.norm_silu_conv2d import numba_cpu as norm_silu_conv2d
    from minidiff.kernels.norm_silu_conv2d import numba_gemm as norm_silu_conv2d_gemm
    from minidiff.kernels.optimizer import numba_cpu as optimizer
    from minidiff.kernels.raster import numba_cpu as raster

    _announce_compiling()
    convolutions = (conv2d_gemm, norm_silu_conv2d_gemm) if gemm else (conv2d, norm_silu_conv2d)
    name = "numba-gemm" if gemm else "numba"
    modules = (numba_threads, attention, *convolutions, elementwise, noise, norm, optimizer, raster, graph)
    return _gather(name, np, *modules)


@cache
def _cupy() -> Backend:
    from minidiff.kernels import cuda_graph
    from minidiff.kernels.attention import cupy_cuda as attention
    from minidiff.kernels.conv2d import cupy_cuda as conv2d
    from minidiff.kernels.noise import cupy_cuda as noise
    from minidiff.kernels.norm import cupy_cuda as norm
    from minidiff.kernels.norm_silu_conv2d import cupy_cuda as norm_silu_conv2d
    from minidiff.kernels.optimizer import cupy_cuda as optimizer

    return _on_gpu("cupy", cuda_graph, attention, conv2d, norm_silu_conv2d, noise, norm, optimizer)


@cache
def _numba_cuda() -> Backend:
    from minidiff.kernels import no_graph
    from minidiff.kernels.attention import numba_cuda as attention
    from minidiff.kernels.conv2d import numba_cuda as conv2d
    from minidiff.kernels.noise import numba_cuda as noise
    from minidiff.kernels.norm import numba_cuda as norm
    from minidiff.kernels.norm_silu_conv2d import numba_cuda as norm_silu_conv2d
    from minidiff.kernels.optimizer import numba_cuda as optimizer

    return _on_gpu("numba-cuda", no_graph, attention, conv2d, norm_silu_conv2d, noise, norm, optimizer)


def _on_gpu(name: str, *modules: ModuleType) -> Backend:
    """On a GPU backend the CPU draws the scenes, since it is idle while the GPU computes; `threads` is for it."""
    from minidiff.kernels import cuda_compile, cuda_launch
    from minidiff.kernels.elementwise import cuda_host as elementwise

    beside = _on_cpu()
    drawn_by_cpu = SimpleNamespace(threads=beside.threads, raster=beside.raster)
    xp = cuda_launch.start().xp
    cuda_compile.keep_in(cache_folders.cuda_folder())
    return _gather(name, xp, drawn_by_cpu, elementwise, *modules)


def _gather(name: str, xp: ModuleType, *modules: ModuleType | SimpleNamespace) -> Backend:
    """Make a table of those functions in the modules that have the name of a field of Backend."""
    functions = {
        field.name: getattr(module, field.name)
        for field in fields(Backend)
        for module in modules
        if hasattr(module, field.name)
    }
    return Backend(name=name, xp=xp, **functions)


@cache
def _announce_compiling() -> None:
    """Let Numba report each compilation to the callback of `on_compile`."""
    from numba.core import event

    class Announce(event.Listener):  # type: ignore[misc]  # which has no types
        depth = 0

        def on_start(self, occurrence: Any) -> None:
            if self.depth == 0:
                function = occurrence.data["dispatcher"].py_func
                module = function.__module__.removeprefix("minidiff.kernels.").removesuffix(".numba_cpu")
                for say in _say:
                    say(f"compiling {module}.{function.__name__}, once on this machine")
            self.depth += 1

        def on_end(self, occurrence: Any) -> None:
            self.depth -= 1

    event.register("numba:compile", Announce())


_BUILDERS: dict[str, Callable[[], Backend]] = {
    "numpy": _numpy,
    "numba": _numba,
    "numba-gemm": lambda: _numba(gemm=True),
    "cupy": _cupy,
    "numba-cuda": _numba_cuda,
}
_stack: list[Backend] = []
_say: list[Callable[[str], object]] = []  # empty or one
