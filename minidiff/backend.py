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
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from minidiff import renamed
from minidiff.errors import MinidiffError, one_line, printable

AUTO = ("cupy", "numba", "numpy")  # what "auto" tries, in this order
RENAMED = renamed.VALUES["backend"]


@dataclass(frozen=True)
class Backend:
    """The functions that have more than one version; shapes and dtypes stand in kernels/README.md."""

    name: str
    xp: ModuleType  # numpy or cupy: its arrays are on the device, and what has no kernel is written with it
    threads: Callable  # threads(n) lets n CPU threads compute; threads() returns how many do
    add: Callable
    concat: Callable
    split: Callable
    conv2d: Callable
    conv2d_grad_x: Callable
    conv2d_grad_w: Callable
    conv2d_grad_b: Callable
    constant_filters: Callable
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


def names() -> tuple[str, ...]:
    """The backends that `use` takes, beside "auto"."""
    return tuple(_BUILDERS)


def current() -> Backend:
    """The backend in use; the first call without `use` picks "auto"."""
    if not _stack:
        use("auto")
    return _stack[-1]


def use(name: str, threads: int | None = None) -> Backend:
    """Select a backend for the process: "numpy", "numba", "numba-gemm" (without Winograd), on a GPU
    "cupy" (kernels in CUDA C++) or "numba-cuda" (in Python), or "auto" (the first of AUTO that runs).

    threads: how many CPU threads compute; None leaves their number as it is, at first all that the process may use.
    Raises MinidiffError in one line if the backend cannot run, with its reason and with those that can, or if there
    are not so many threads.
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
    """The backend for what is decided on the CPU: the current one, or the CPU's fastest beside a GPU's."""
    chosen = current()
    return chosen if chosen.xp is np else _on_cpu()


@cache
def _on_cpu() -> Backend:
    return _first_of("numba", "numpy")


def to_device(array: Any) -> Any:
    """Return the array where the current backend computes; arrays that are there already pass through."""
    return current().xp.asarray(array)


def to_numpy(array: Any) -> np.ndarray:
    """Return the array on the host; arrays that are there already pass through."""
    return array if isinstance(array, np.ndarray) else array.get()


def to_floats(*numbers: Any) -> list[float]:
    """Return numbers of the device, each an array with one number in it, on the host: all in one copy."""
    xp = current().xp
    if xp is np:
        return [float(number) for number in numbers]
    return to_numpy(xp.stack([number.reshape(()).astype(np.float64) for number in numbers])).tolist()


def on_compile(say: Callable[[str], object]) -> None:
    """Tell `say` in a line, from now on, of each kernel that Numba compiles, as it does once a machine and version.

    Kernels that come out of the cache do not count, nor do those that a kernel calls itself.
    """
    _say[:] = [say]


@cache
def _numpy() -> Backend:
    from minidiff.kernels import numpy_threads
    from minidiff.kernels.attention import reference as attention
    from minidiff.kernels.conv2d import reference as conv2d
    from minidiff.kernels.elementwise import reference as elementwise
    from minidiff.kernels.noise import reference as noise
    from minidiff.kernels.norm import reference as norm
    from minidiff.kernels.norm_silu_conv2d import reference as norm_silu_conv2d
    from minidiff.kernels.optimizer import reference as optimizer
    from minidiff.kernels.raster import reference as raster

    convolutions = (conv2d, norm_silu_conv2d)
    return _gather("numpy", np, numpy_threads, attention, *convolutions, elementwise, noise, norm, optimizer, raster)


@cache
def _numba(gemm: bool = False) -> Backend:
    """gemm: every convolution by implicit GEMM, none by Winograd's algorithm."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        raise ImportError("NUMBA_DISABLE_JIT is set, and its kernels are nothing uncompiled")
    _set_cache_folder()  # before Numba is imported
    from minidiff.kernels import numba_threads
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
    return _gather(name, np, numba_threads, attention, *convolutions, elementwise, noise, norm, optimizer, raster)


@cache
def _cupy() -> Backend:
    from minidiff.kernels.attention import cupy_cuda as attention
    from minidiff.kernels.conv2d import cupy_cuda as conv2d
    from minidiff.kernels.noise import cupy_cuda as noise
    from minidiff.kernels.norm import cupy_cuda as norm
    from minidiff.kernels.norm_silu_conv2d import cupy_cuda as norm_silu_conv2d
    from minidiff.kernels.optimizer import cupy_cuda as optimizer

    return _on_gpu("cupy", attention, conv2d, norm_silu_conv2d, noise, norm, optimizer)


@cache
def _numba_cuda() -> Backend:
    from minidiff.kernels.attention import numba_cuda as attention
    from minidiff.kernels.conv2d import numba_cuda as conv2d
    from minidiff.kernels.noise import numba_cuda as noise
    from minidiff.kernels.norm import numba_cuda as norm
    from minidiff.kernels.norm_silu_conv2d import numba_cuda as norm_silu_conv2d
    from minidiff.kernels.optimizer import numba_cuda as optimizer

    return _on_gpu("numba-cuda", attention, conv2d, norm_silu_conv2d, noise, norm, optimizer)


def _on_gpu(name: str, *modules: ModuleType) -> Backend:
    """Scenes are drawn by the CPU, which has nothing else to do meanwhile, and `threads` counts its threads."""
    from minidiff.kernels import cuda_compile, cuda_launch
    from minidiff.kernels.elementwise import cuda_host as elementwise

    beside = _on_cpu()
    drawn_by_cpu = SimpleNamespace(threads=beside.threads, raster=beside.raster)
    xp = cuda_launch.start().xp
    cuda_compile.keep_in(_cuda_folder())
    return _gather(name, xp, drawn_by_cpu, elementwise, *modules)


def _gather(name: str, xp: ModuleType, *modules: ModuleType | SimpleNamespace) -> Backend:
    """Make a table of the modules' functions by their names, which are those of Backend's fields."""
    functions = {
        field.name: getattr(module, field.name)
        for field in fields(Backend)
        for module in modules
        if hasattr(module, field.name)
    }
    return Backend(name=name, xp=xp, **functions)


@cache
def _announce_compiling() -> None:
    """Pass on what Numba reports of its compiler to whom `on_compile` named."""
    from numba.core import event

    class Announce(event.Listener):  # type: ignore[misc]  # which has no types
        depth = 0

        def on_start(self, occurrence: Any) -> None:
            if self.depth == 0:
                function = occurrence.data["dispatcher"].py_func
                operation = function.__module__.removeprefix("minidiff.kernels.").split(".")[0]
                for say in _say:
                    say(f"compiling {operation}.{function.__name__}, once on this machine")
            self.depth += 1

        def on_end(self, occurrence: Any) -> None:
            self.depth -= 1

    event.register("numba:compile", Announce())


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
    return user_folder() / f"kernels-{digest.hexdigest()[:16]}"


def user_folder() -> Path:
    """Return the folder for what minidiff keeps between its runs: in the user's cache folder, or among temporary files
    if the user has no home."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    except RuntimeError:  # neither HOME nor an entry in the list of users
        return _shared_folder()
    return home / "minidiff"


def _shared_folder() -> Path:
    """Return a folder that is named by this user, among the system's temporary files, where anybody may write."""
    return Path(tempfile.gettempdir()) / f"minidiff-{os.getuid() if os.name == 'posix' else ''}"


def _set_cache_folder() -> None:
    """Let Numba keep compiled kernels where this user alone can write: they are pickles, which run what they say.

    That is NUMBA_CACHE_DIR if it is set, else the user's cache folder.  If that folder cannot be used, one line says
    why, and a folder of the user's among the system's temporary files takes its place; if that cannot be used either,
    a new one, for this process alone.
    """
    given, ours = os.environ.get("NUMBA_CACHE_DIR"), cache_folder()
    folder, reasons = _first_usable(Path(given) if given else ours, _shared_folder() / ours.name, given=given)
    folder = folder or Path(tempfile.mkdtemp(prefix="minidiff-kernels-"))  # for this process alone
    if reasons:
        _say_reasons(f"compiled kernels are kept in {printable(folder)}, as another place cannot be used", reasons)
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    if "numba" in sys.modules:  # imported by somebody else, before the folder was known
        sys.modules["numba"].config.CACHE_DIR = str(folder)


def _cuda_folder() -> Path | None:
    """Return where kernels for a GPU are kept, chosen as for Numba; None, after a line of why, if there is no place."""
    folder, reasons = _first_usable(user_folder() / "cuda", _shared_folder() / "cuda")
    if folder is None:
        _say_reasons("kernels for the GPU are compiled anew each time, as no place for them can be used", reasons)
    elif reasons:
        said = f"kernels for the GPU are kept in {printable(folder)}, as another place cannot be used"
        _say_reasons(said, reasons)
    return folder


def _first_usable(*folders: Path, given: str | None = None) -> tuple[Path | None, list[str]]:
    """Return the first folder where this user alone can write, None if there is none, and what is wrong with those
    before it; given: the one that the user named."""
    reasons: list[str] = []
    for folder in dict.fromkeys(folders):
        reason = _unusable(folder, made_here=str(folder) != given)
        if reason is None:
            return folder, reasons
        reasons.append(reason)
    return None, reasons


def _say_reasons(said: str, reasons: list[str]) -> None:
    print(f"{said}: {'; '.join(reasons)}", file=sys.stderr)


def _unusable(folder: Path, made_here: bool) -> str | None:
    """Make sure that this user alone can write into a folder; return why that is not so, None if it is.

    made_here: it is minidiff's own, in a folder of minidiff's.
    """
    try:
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        for part in ((folder.parent, folder) if made_here else (folder,)) if os.name == "posix" else ():
            if part.lstat().st_uid != os.getuid():
                return f"{printable(part)} belongs to another user"
            if made_here:
                part.chmod(0o700)
            if part.stat().st_mode & 0o022:
                return f"other users may write into {printable(part)}"
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return one_line(error)


_BUILDERS: dict[str, Callable[[], Backend]] = {
    "numpy": _numpy,
    "numba": _numba,
    "numba-gemm": lambda: _numba(gemm=True),
    "cupy": _cupy,
    "numba-cuda": _numba_cuda,
}
_stack: list[Backend] = []
_say: list[Callable[[str], object]] = []  # empty or one
