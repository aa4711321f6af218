"""Compiled kernels are kept on the disk, checked before they run, and compiled again where they are damaged."""

import errno
import importlib.util
import itertools
import os
import stat
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from numba import prange

from minidiff import backend
from minidiff.kernels import numba_compile
from minidiff.kernels.numba_nested import Nested

SOURCE = """
from numba import prange
from minidiff.kernels.numba_compile import kernel, njit

@njit
def same(x):
    return x

@kernel
def double(x):
    total = 0
    for _ in prange(2):
        total += same(x)
    return total
"""
numbers = itertools.count()


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """A function that returns a small kernel as a new process would find it; and the folder of its files."""
    source, kept = tmp_path / "kernel.py", tmp_path / "kept"
    source.write_text(SOURCE)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(kept))
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(kept))

    def find():
        spec = importlib.util.spec_from_file_location(f"kernel_{next(numbers)}", source)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.double

    return find, kept


def compiled(found):
    """Call a kernel; return whether it was compiled, and not read."""
    assert found(21) == 42
    assert sum(found.stats.cache_hits.values()) + sum(found.stats.cache_misses.values()) == 1
    return bool(found.stats.cache_misses)


DAMAGES = {
    "emptied": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "zeroed": lambda data: bytes(len(data)),
    "zeroed from the middle": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    "one bit": lambda data: data[:-9] + bytes([data[-9] ^ 4]) + data[-8:],
    "longer": lambda data: data + b"more",
    "another's": lambda data: b"\x80\x04N.",
}


@pytest.mark.parametrize("kind", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_compiled_again_and_kept_anew(kernel, damage, kind):
    find, kept = kernel
    assert compiled(find()) and not compiled(find())
    (file,) = kept.rglob(f"*{kind}")
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    assert compiled(find())
    assert not compiled(find())


def test_a_full_disk_is_said_once_and_costs_nothing_else(kernel, monkeypatch, capsys):
    find, kept = kernel

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(numba_compile.CheckedFiles, "_open_for_write", full)
    monkeypatch.setattr(numba_compile, "say_once", print)
    assert compiled(find())
    assert compiled(find())
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and all(f"cannot be kept in {kept}" in line and "No space left" in line for line in said)


@numba_compile.njit
def inner(x):
    return np.full(2, x).sum()


@numba_compile.kernel
def outer(x):
    total = 0.0
    for i in prange(3):
        total += inner(x + i)
    return total


def test_only_kernels_have_machine_code(kernel):
    find, _ = kernel
    found = find()
    assert compiled(found)
    (part,) = found.py_func.__globals__["same"].overloads.values()
    assert isinstance(part.library, Nested)
    assert part.library.get_pointer_to_function(part.fndesc.llvm_cpython_wrapper_name) == 0


def test_python_cannot_call_what_has_no_machine_code():
    with pytest.raises(TypeError, match="inner is called by compiled functions only"):
        inner(1.0)


def test_a_kernel_is_no_part_of_another():
    @numba_compile.kernel
    def around(x):
        total = 0.0
        for _ in prange(2):
            total += outer(x)
        return total

    with pytest.raises(TypeError, match="outer is a kernel, which only Python calls"):
        around(2.5)


def test_others_compile_with_numba_as_before():
    """What was linked into our kernels, as here numpy's functions, is complete for those who compile something else."""
    assert outer(2.5) == 21

    @numba.njit
    def filled(x):
        return np.full(2, x).sum()

    @numba.njit
    def with_ours(x):
        return inner(x) + filled(x)

    assert filled(2.5) == 5 and with_ours(3.5) == 14


def test_no_kernel_lets_the_compiler_choose_how_to_round():
    """What it may reorder or fuse as it likes has other bits inside of another function than alone."""
    backend.get("numba"), backend.get("numba-gemm")
    kernels = [
        (name, value)
        for name, module in list(sys.modules.items())
        if name.startswith("minidiff.kernels.")
        for value in vars(module).values()
        if isinstance(value, numba.core.dispatcher.Dispatcher)
    ]
    assert len(kernels) > 50
    assert [kernel for kernel in kernels if kernel[1].targetoptions.get("fastmath")] == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_the_folder_of_this_processs_kernels_is_its_users_alone():
    backend.get("numba")
    status = Path(os.environ["NUMBA_CACHE_DIR"]).stat()
    assert status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) & 0o022 == 0
