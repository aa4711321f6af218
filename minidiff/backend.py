"""Which array library, which kernels: one frozen table of functions a backend.

Idea: the rest of minidiff says *what* is computed; a backend says *how*.  Each entry of the table is one function of
kernels/, and every backend's version is tested against the same plain NumPy reference.
Stands first in the reading order and is the only file that knows kernels/.  Leaves out the kernels: open
kernels/README.md for their contract, kernels/<operation>/reference.py for their definitions.
"""

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from minidiff.errors import MinidiffError


@dataclass(frozen=True)
class Backend:
    """The functions that have more than one version; shapes and dtypes stand in kernels/README.md."""

    name: str
    xp: ModuleType  # numpy or cupy: everything that has no kernel is written with it
    conv2d: Callable
    conv2d_grad_x: Callable
    conv2d_grad_w: Callable
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


def names() -> tuple[str, ...]:
    """The backends that `use` takes, beside "auto"."""
    return tuple(_BUILDERS)


def current() -> Backend:
    """The backend in use; the first call without `use` picks "auto"."""
    if not _stack:
        use("auto")
    return _stack[-1]


def use(name: str) -> Backend:
    """Select a backend for the process: "numpy", "numba", or "auto" (numba if it runs here, else numpy).

    Raises MinidiffError in one line if the backend cannot run, with its reason and with those that can.
    """
    chosen = get(name)
    _stack[:] = [chosen]
    return chosen


@contextmanager
def using(name: str) -> Iterator[Backend]:
    """Select a backend for a `with` block."""
    current()  # what is in use outside the block is settled before it
    chosen = get(name)
    _stack.append(chosen)
    try:
        yield chosen
    finally:
        _stack.pop()


def get(name: str) -> Backend:
    """Return a backend's table without selecting it; see `use`."""
    if name == "auto":
        for candidate in ("numba", "numpy"):
            try:
                return get(candidate)
            except MinidiffError as error:
                print(f"backend {candidate} is not used: {error}", file=sys.stderr)
        raise MinidiffError("no backend can run; is NumPy installed?")
    if name not in _BUILDERS:
        raise MinidiffError(f"backend {name!r} is not known; expected one of auto, {', '.join(_BUILDERS)}")
    try:
        return _BUILDERS[name]()
    except (ImportError, OSError, AttributeError) as error:
        others = ", ".join(other for other in _BUILDERS if other != name)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MinidiffError(f"backend {name!r} cannot run here: {reason}; try {others}") from error


def to_numpy(array: Any) -> np.ndarray:
    """Return the array on the host; arrays that are there already pass through."""
    return array if isinstance(array, np.ndarray) else array.get()


def on_compile(callback: Callable[[str], None]) -> None:
    """Call `callback(kernel)` whenever Numba compiles a kernel, as it does once a machine and version.

    Kernels that come out of the cache do not count, nor do those that a kernel calls itself.
    """
    current()
    if "numba" not in sys.modules:
        return
    from numba.core import event

    class Announce(event.Listener):
        depth = 0

        def on_start(self, occurrence: Any) -> None:
            if self.depth == 0:
                function = occurrence.data["dispatcher"].py_func
                callback(f"{function.__module__.removeprefix('minidiff.kernels.').split('.')[0]}.{function.__name__}")
            self.depth += 1

        def on_end(self, occurrence: Any) -> None:
            self.depth -= 1

    event.register("numba:compile", Announce())


@cache
def _numpy() -> Backend:
    from minidiff.kernels.attention import reference as attention
    from minidiff.kernels.conv2d import reference as conv2d
    from minidiff.kernels.noise import reference as noise
    from minidiff.kernels.norm import reference as norm
    from minidiff.kernels.optimizer import reference as optimizer
    from minidiff.kernels.raster import reference as raster

    return _gather("numpy", np, attention, conv2d, noise, norm, optimizer, raster)


@cache
def _numba() -> Backend:
    _set_cache_folder()  # before Numba is imported
    from minidiff.kernels.attention import numba_cpu as attention
    from minidiff.kernels.conv2d import numba_cpu as conv2d
    from minidiff.kernels.noise import numba_cpu as noise
    from minidiff.kernels.norm import numba_cpu as norm
    from minidiff.kernels.optimizer import numba_cpu as optimizer
    from minidiff.kernels.raster import numba_cpu as raster

    return _gather("numba", np, attention, conv2d, noise, norm, optimizer, raster)


def _gather(name: str, xp: ModuleType, *modules: ModuleType) -> Backend:
    """Make a table of the modules' functions by their names, which are those of Backend's fields."""
    functions = {
        field.name: getattr(module, field.name)
        for field in fields(Backend)
        for module in modules
        if hasattr(module, field.name)
    }
    return Backend(name=name, xp=xp, **functions)


def cache_folder(sources: Path | None = None) -> Path:
    """Return where compiled kernels are kept: a user's cache folder named by the hash of all kernel sources.

    Numba alone checks only the file of the function that it loads: after an edit of a function that another file
    calls, it would run the old code.
    """
    if sources is None:
        inside = Path(__file__).parent / "kernels"
        sources = inside if inside.is_dir() else Path(__file__).parents[1] / "kernels"
    digest = hashlib.sha256()
    for source in sorted(sources.rglob("*.py")):
        digest.update(source.read_bytes())
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return home / "minidiff" / f"kernels-{digest.hexdigest()[:16]}"


def _set_cache_folder() -> None:
    if "NUMBA_CACHE_DIR" in os.environ:
        return
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a home that cannot be written: compile once a boot instead of once a version
        folder = Path(tempfile.mkdtemp(prefix="minidiff-kernels-"))
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    if "numba" in sys.modules:  # imported by somebody else, before the folder was known
        sys.modules["numba"].config.CACHE_DIR = str(folder)


_BUILDERS: dict[str, Callable[[], Backend]] = {"numpy": _numpy, "numba": _numba}
_stack: list[Backend] = []
