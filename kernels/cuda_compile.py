"""Compiling CUDA C++ for a GPU with NVRTC, NVIDIA's run-time compiler, and a cache folder for the results.

NVRTC is a library that also works on a machine without a GPU. It is called here through ctypes, by eight C functions,
so that the program and the tests compile in the same way, wherever the library was installed from. A result ("cubin")
is kept in the folder that the caller names. The name of its file contains a hash of everything that it depends on:
source, options, architecture and compiler version.

Leaves out headers: every .cu file is complete, so there is nothing to search for.
"""

import contextlib
import ctypes
import functools
import hashlib
import importlib.metadata
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from minidiff.kernels.kept import opened, say_once, sealed

OPTIONS = ("-std=c++17", "-Xptxas=-v")  # the second writes registers and spills to the log
PACKAGES = ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu13", "nvidia-cuda-nvrtc-cu12")  # of PyPI that contain the library
NAMES = ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so")


@dataclass(frozen=True)
class Usage:
    """What one kernel uses of a GPU: registers of a thread; bytes of stack, of spilled registers, of shared memory."""

    registers: int
    stack: int
    spilled: int
    shared: int


@functools.cache
def compiler() -> ctypes.CDLL:
    """NVIDIA's run-time compiler.  Raises OSError in one line if it is not found."""
    for package in PACKAGES:
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        # the library needs the built-ins to be loaded first
        for name in ("libnvrtc-builtins.so", "libnvrtc.so"):
            found = [file for file in files if file.name.startswith(name)]
            loaded = [ctypes.CDLL(str(file.locate()), ctypes.RTLD_GLOBAL) for file in found]
        return loaded[-1]
    for name in NAMES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise OSError("NVIDIA's compiler NVRTC is not installed: pip install nvidia-cuda-nvrtc")


def version() -> tuple[int, int]:
    """The compiler's version."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    compiler().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def compile_source(source: str, name: str, architecture: str) -> tuple[bytes, str]:
    """Compile CUDA C++ for an architecture such as "sm_90"; return the cubin and the compiler's log.

    name: of the file, for messages. Raises ValueError with the compiler's first error in one line.
    """
    library, program = compiler(), ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), name.encode(), 0, None, None)
    try:
        options = [option.encode() for option in (f"-arch={architecture}", *OPTIONS)]
        failed = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        log = _get(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
        if failed:
            first = next((line for line in log.splitlines() if "error" in line), log.strip() or f"error {failed}")
            raise ValueError(f"{name} does not compile for {architecture}: {first}")
        return _get(program, "CUBIN"), log
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _get(program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    getattr(compiler(), f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    getattr(compiler(), f"nvrtcGet{what}")(program, buffer)
    return buffer.raw


def usage(log: str) -> dict[str, Usage]:
    """What each kernel of a compilation uses, by name, from the log."""
    found = {}
    for entry in log.split("Compiling entry function '")[1:]:
        numbers = {
            what: int(match[1]) if (match := re.search(pattern, entry)) else 0
            for what, pattern in (
                ("registers", r"Used (\d+) registers"),
                ("stack", r"(\d+) bytes stack frame"),
                ("spilled", r"(\d+) bytes spill stores"),
                ("shared", r"(\d+) bytes smem"),
            )
        }
        found[entry.split("'")[0]] = Usage(**numbers)
    return found


_folder: list[Path] = []  # empty or one


def keep_in(folder: Path | None) -> None:
    """Keep what is compiled from now on in this folder, which must be its owner's alone; None: keep nothing."""
    _folder[:] = [] if folder is None else [folder]


def cubin(path: Path, architecture: str) -> bytes:
    """Return the compiled file: the kept one if there is one and it is not damaged, else a new one."""
    source = path.read_text("utf-8")
    if not _folder:
        return compile_source(source, path.name, architecture)[0]
    parts = (source, architecture, *OPTIONS, *map(str, version()))
    kept = _folder[0] / f"{path.stem}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}.cubin"
    with contextlib.suppress(OSError, ValueError):  # there is none, or it is damaged
        return opened(kept.read_bytes())
    made, _ = compile_source(source, path.name, architecture)
    try:
        _write(kept, sealed(made))
    except OSError as error:  # a full disk costs the next process the time to compile, and nothing else
        say_once(f"compiled kernels cannot be kept in {kept.parent}: {error.strerror}")
    return made


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as beside:
        try:
            beside.write(data)
            beside.close()  # a full disk may show only here, and Windows renames no open file
            Path(beside.name).replace(path)
        except BaseException:
            Path(beside.name).unlink()
            raise
