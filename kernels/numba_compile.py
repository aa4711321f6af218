"""`kernel` and `njit` for all compiled functions: machine code is kept on disk, and checked before it runs.

Numba keeps what it compiled as pickles of machine code, and does not check them: half a file, after a power cut, would
break every later command.  Here each file begins with the SHA-256 of the rest (kept.py).  A file that does not match
its hash is ignored, and its kernel is compiled again.  If the disk is full, the next process has to compile again;
nothing else happens.

The hash does not prove who wrote a file, and a pickle runs any code that it contains.  So only the user may be able to
write into the folder; the code that chooses the folder has to ensure that (in minidiff: cache_folders.py).

A kernel is called from Python and divides its work among threads; a function inside it is called by compiled functions
alone, and has no machine code of its own (numba_nested.py):

    @njit
    def part(x, worker): ...

    @kernel
    def whole(x):
        for worker in prange(2):
            part(x, worker)
"""

import functools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import IndexDataCacheFile
from numba.core.registry import CPUDispatcher

from minidiff.kernels import graph
from minidiff.kernels.kept import opened, say_once, sealed
from minidiff.kernels.numba_nested import nested


class CheckedFiles(IndexDataCacheFile):
    """The files of one kernel: an index from argument types to file names, and a file of machine code for each."""

    def load(self, key: Any) -> Any:
        """Return what is kept for a key; None if there is nothing, or only a damaged file."""
        try:
            return super().load(key)
        except Exception:  # a damaged pickle can raise any exception
            return None

    def save(self, key: Any, data: Any) -> None:
        """Keep machine code for later; if that fails, say so once and go on."""
        try:
            super().save(key, data)
        except OSError as error:
            say_once(f"compiled kernels cannot be kept in {self._cache_path}: {error.strerror}")

    def _load_index(self) -> dict:
        try:
            version, stamp, names = self._read(self._index_path)
        except Exception:
            return {}
        return names if (version, stamp) == (self._version, self._source_stamp) else {}

    def _save_index(self, names: dict) -> None:
        self._write(self._index_path, (self._version, self._source_stamp, names))

    def _load_data(self, name: str) -> Any:
        return self._read(self._data_path(name))

    def _save_data(self, name: str, data: Any) -> None:
        self._write(self._data_path(name), data)

    def _read(self, path: str) -> Any:
        return pickle.loads(opened(Path(path).read_bytes()))

    def _write(self, path: str, data: Any) -> None:
        kept = self._dump(data)
        with self._open_for_write(path) as file:
            file.write(sealed(kept))


class Inner(CPUDispatcher):
    """A function inside kernels."""

    def compile(self, signature: Any) -> Any:
        with nested():
            return super().compile(signature)

    def __call__(self, *_: Any) -> Any:
        raise TypeError(f"{self.py_func.__qualname__} is called by compiled functions only; mark it as a kernel")


class Kernel(CPUDispatcher):
    """A function that Python calls; a call is written down by the capture that it falls into (graph.py)."""

    def compile(self, signature: Any) -> Any:
        with nested(self.py_func.__qualname__):
            return super().compile(signature)

    def __call__(self, *arguments: Any) -> Any:
        if (captured := graph.active()) is None:
            return super().__call__(*arguments)
        arguments_of_numpy = graph.plain(arguments)
        result = super().__call__(*arguments_of_numpy)
        signature = tuple(map(self.typeof_pyval, arguments_of_numpy))
        captured.add(self.overloads[signature].entry_point, arguments)
        return result


def njit(function: Callable | None = None, **options: Any) -> Any:
    """Mark a function that only compiled functions call.  options: those of `numba.njit`."""
    if function is None:
        return functools.partial(njit, **options)
    inner = numba.njit(function, **options)
    inner.__class__ = Inner
    return inner


def kernel(function: Callable | None = None, **options: Any) -> Any:
    """Mark a function that Python calls, and whose machine code is kept.  options: those of `numba.njit`."""
    if function is None:
        return functools.partial(kernel, **options)
    called = numba.njit(function, parallel=True, cache=True, **options)
    called.__class__ = Kernel
    files = called._cache._cache_file
    called._cache._cache_file = CheckedFiles.__new__(CheckedFiles)
    called._cache._cache_file.__dict__.update(files.__dict__)  # the same names, in the same folder
    return called
