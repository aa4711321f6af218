"""Choosing a backend, and the line that a missing or broken one gets."""

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

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


def test_to_numpy_passes_host_arrays_through():
    x = np.ones(3)
    assert backend.to_numpy(x) is x


def test_numba_without_its_compiler_is_one_line(monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    backend._numba.cache_clear()
    try:
        with pytest.raises(MinidiffError, match=r"^backend 'numba' cannot run here: NUMBA_DISABLE_JIT is set"):
            backend.get("numba")
    finally:
        backend._numba.cache_clear()
