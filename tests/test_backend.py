"""Choosing a backend, and the line that a missing or broken one gets."""

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest

from minidiff import backend
from minidiff.backend import AUTO  # as it was before the tests chose
from minidiff.errors import MinidiffError
from tests.backends import RUN_HERE


def test_using_is_undone():
    before = backend.current().name
    with backend.using("numpy") as table:
        assert backend.current() is table and table.name == "numpy"
        with backend.using("numba"):
            assert backend.current().name == "numba"
        assert backend.current() is table
    assert backend.current().name == before


def test_a_table_is_frozen():
    with pytest.raises(FrozenInstanceError):
        backend.get("numpy").name = "other"


def test_auto_takes_a_gpu_where_one_answers(monkeypatch, capsys):
    gpu = replace(backend.get("numpy"), name="cupy")
    monkeypatch.setattr(backend, "AUTO", AUTO)
    monkeypatch.setattr(backend, "find_spec", lambda module: f"where {module} lies")
    monkeypatch.setitem(backend._BUILDERS, "cupy", lambda: gpu)
    assert backend.get("auto") is gpu and capsys.readouterr().err == ""


def test_auto_goes_on_to_numba(monkeypatch, capsys):
    """With a line where CuPy is installed and finds no GPU; without a word where it is not."""

    def none():
        raise OSError("no GPU can be used")

    monkeypatch.setattr(backend, "AUTO", AUTO)
    monkeypatch.setitem(backend._BUILDERS, "cupy", none)
    monkeypatch.setattr(backend, "find_spec", lambda module: f"where {module} lies")
    assert backend.get("auto").name == "numba"
    said = "backend cupy is not used: backend 'cupy' cannot run here: no GPU can be used; try numba, numpy\n"
    assert capsys.readouterr().err == said
    monkeypatch.setattr(backend, "find_spec", lambda module: None)
    assert backend.get("auto").name == "numba" and capsys.readouterr().err == ""


@pytest.mark.parametrize("name", RUN_HERE)
def test_threads_are_used_and_kept(name, monkeypatch):
    monkeypatch.setattr(backend, "_stack", [])
    before = backend.get(name).threads()
    if before is None:
        pytest.skip("threadpoolctl cannot set this machine's BLAS")
    try:
        assert backend.use(name, 1).threads() == 1
        assert backend.use(name).threads() == 1  # none given: as before
        with pytest.raises(MinidiffError, match=r"^threads must be from 1 to \d+, as many as .*, got 0$"):
            backend.use(name, 0)
        assert backend.current().threads() == 1
    finally:
        backend.get(name).threads(before)


def test_an_unknown_backend_is_one_line():
    known = "auto, numpy, numba, numba-gemm, cupy, numba-cuda"
    with pytest.raises(MinidiffError, match=rf"^backend 'cuda' is not known; expected one of {known}$"):
        backend.get("cuda")


def test_the_old_name_of_a_backend_is_refused_with_the_new_one():
    with pytest.raises(MinidiffError, match=r"^backend 'numba-direct' is now called 'numba-gemm'$"):
        backend.get("numba-direct")


@pytest.mark.parametrize("what", ["raise ImportError('no such library')", "raise OSError('libsvml is broken\\nmore')"])
def test_a_broken_numba_is_one_line_and_auto_goes_on(tmp_path, what):
    (tmp_path / "numba.py").write_text(what)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.modules['cupy'] = None\n"
        "from minidiff import backend\n"
        "try:\n    backend.use('numba')\nexcept backend.MinidiffError as error:\n    print(error)\n"
        "print(backend.get('auto').name)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    line, name = run.stdout.splitlines()
    assert line.startswith("backend 'numba' cannot run here: ") and line.endswith("; try numpy")
    assert name == "numpy" and len(run.stderr.splitlines()) == 1


def test_compiled_kernels_are_announced(tmp_path):
    """A cold cache announces a kernel once; a warm one does not."""
    program = (
        "import numpy as np\n"
        "from minidiff import backend\n"
        "backend.on_compile(print)\n"
        "backend.use('numba')\n"
        "backend.current().square_sum(np.ones(8, np.float32))\n"
        "backend.current().square_sum(np.ones(8, np.float32))\n"
    )
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PATH": "", "HOME": str(tmp_path)}
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
        for _ in range(2)
    ]
    assert all(run.returncode == 0 for run in runs), runs[0].stderr
    assert runs[0].stdout == "compiling optimizer.add_squares, once on this machine\n"
    assert runs[1].stdout == ""


def test_the_cache_follows_the_sources(tmp_path):
    """The cache folder is named by all kernel sources, so an edit of any of them leads to another one."""
    folder = backend.cache_folder()
    assert folder.name.startswith("kernels-") and len(folder.name) == len("kernels-") + 16
    source = tmp_path / "conv2d" / "numba_cpu.py"
    source.parent.mkdir()
    source.write_text("a = 1")
    first = backend.cache_folder(tmp_path)
    source.write_text("a = 2")
    assert backend.cache_folder(tmp_path) != first


def test_to_numpy_passes_host_arrays_through():
    x = np.ones(3)
    assert backend.to_numpy(x) is x


# ---- where compiled kernels are kept ----


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    """A function that lets the backend choose the folder, as a new process would; it returns the folder."""
    config = sys.modules["numba"].config if backend.get("numba") else None
    monkeypatch.setattr(config, "CACHE_DIR", config.CACHE_DIR)  # put back in the end
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()

    def choose():
        backend._set_cache_folder()
        folder = Path(os.environ["NUMBA_CACHE_DIR"])
        assert str(folder) == config.CACHE_DIR and folder.is_dir()
        return folder

    return choose


def test_kernels_are_kept_in_the_users_cache(chosen, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert chosen() == tmp_path / "minidiff" / backend.cache_folder().name
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "mine"))
    assert chosen() == tmp_path / "mine" and capsys.readouterr().err == ""


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_a_folder_of_minidiffs_becomes_its_owners_alone(chosen, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "minidiff" / backend.cache_folder().name
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    folder.parent.chmod(0o755)
    assert chosen() == folder
    assert [path.stat().st_mode & 0o777 for path in (folder, folder.parent)] == [0o700, 0o700]


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
@pytest.mark.parametrize("case", ["no folder", "given, no folder", "no home", "another's", "given, and open to all"])
def test_where_kernels_cannot_be_kept_another_folder_serves_and_is_named(case, chosen, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    reason = ""
    if case == "no folder":
        monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
        reason = "Not a directory: /dev/null/minidiff.*"
    elif case == "given, no folder":
        monkeypatch.setenv("NUMBA_CACHE_DIR", "/dev/null/here")
        reason = "Not a directory: /dev/null/here"
    elif case == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr("pwd.getpwuid", lambda _: {}["nobody"])
    elif case == "another's":
        there = tmp_path / "minidiff" / backend.cache_folder().name
        there.mkdir(parents=True)
        mine, lstat = os.getuid(), Path.lstat
        monkeypatch.setattr(Path, "lstat", lambda path: Owned(lstat(path), mine + (path == there)))
        reason = f"{there} belongs to another user"
    else:
        (tmp_path / "open").mkdir()
        (tmp_path / "open").chmod(0o777)
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "open"))
        reason = f"other users may write into {tmp_path / 'open'}"
    folder = chosen()
    assert folder == tmp_path / "temporary" / f"minidiff-{os.getuid()}" / backend.cache_folder().name
    assert folder.stat().st_mode & 0o777 == 0o700
    said = f"^compiled kernels are kept in {folder}, as another place cannot be used: {reason}\n$"
    assert re.match(said if reason else "^$", capsys.readouterr().err)
    if "given" not in case:
        monkeypatch.delenv("NUMBA_CACHE_DIR")
        assert chosen() == folder  # the next process finds it again


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_kernels_for_a_gpu_are_kept_where_their_user_alone_can_write(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert backend._cuda_folder() == tmp_path / "home" / "minidiff" / "cuda"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}["nobody"])
    shared = tmp_path / f"minidiff-{os.getuid()}"
    shared.mkdir(mode=0o777)
    assert backend._cuda_folder() == shared / "cuda" and capsys.readouterr().err == ""
    assert [path.stat().st_mode & 0o777 for path in (shared, shared / "cuda")] == [0o700, 0o700]
    mine, lstat = os.getuid(), Path.lstat
    monkeypatch.setattr(Path, "lstat", lambda path: Owned(lstat(path), mine + (path == shared)))
    assert backend._cuda_folder() is None  # whoever made it could put there what we run
    said = "kernels for the GPU are compiled anew each time, as no place for them can be used"
    assert capsys.readouterr().err == f"{said}: {shared} belongs to another user\n"
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    monkeypatch.setattr(Path, "lstat", lstat)
    assert backend._cuda_folder() == shared / "cuda"
    assert capsys.readouterr().err.startswith(f"kernels for the GPU are kept in {shared / 'cuda'}, as another place ")


class Owned:
    """The status of a file, as if it belonged to that user."""

    def __init__(self, status, owner):
        self.st_mode, self.st_uid = status.st_mode, owner


def test_numba_without_its_compiler_is_one_line(monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    backend._numba.cache_clear()
    try:
        with pytest.raises(MinidiffError, match=r"^backend 'numba' cannot run here: NUMBA_DISABLE_JIT is set"):
            backend.get("numba")
    finally:
        backend._numba.cache_clear()
