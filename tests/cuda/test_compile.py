"""Every .cu file compiles for GPUs, spills nothing, and takes no more of one than its budget says.

budget.json: for each kernel the most registers of a thread and bytes of shared memory of a block, on any architecture
here. A change that needs more is a decision: it goes there by hand.
"""

import errno
import json
import os
import re
from pathlib import Path

import pytest

from minidiff.kernels import cuda_compile, cuda_launch
from tests.needs import lacking

KERNELS = Path(cuda_compile.__file__).parent
FILES = sorted(KERNELS.glob("*/*.cu"))
BUDGET = json.loads(Path(__file__).with_name("budget.json").read_text("utf-8"))
ARCHITECTURES = (pytest.param("sm_80", marks=pytest.mark.release), "sm_90")


@pytest.fixture(autouse=True)
def nvrtc():
    """NVIDIA's compiler, which there is for Linux and Windows only."""
    try:
        cuda_compile.compiler()
    except OSError as error:
        lacking("nvrtc", str(error))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_compiles_within_its_budget(path, architecture):
    cubin, log = cuda_compile.compile_source(path.read_text("utf-8"), path.name, architecture)
    assert cubin.startswith(b"\x7fELF")
    used = cuda_compile.usage(log)
    assert set(used) == set(cuda_launch.declared(path)), "the log speaks of other kernels than the launcher knows"
    for name, usage in used.items():
        assert usage.spilled == 0 and usage.stack == 0, f"{name}: {usage}"
        assert 0 < usage.registers <= BUDGET[name]["registers"], f"{name}: {usage}"
        assert usage.shared <= BUDGET[name]["shared"], f"{name}: {usage}"


def test_the_budget_is_of_these_kernels():
    assert set(BUDGET) == {name for path in FILES for name in cuda_launch.declared(path)}
    assert len(FILES) >= 6


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_needs_another(path):
    assert "#include" not in path.read_text("utf-8")


def test_spills_would_show():
    """A kernel with more numbers than registers: the log must say so, or the test above could not fail."""
    many = "".join(f"a{i} = a{i} * a{(i + 7) % 300} + x[{i}];" for i in range(300))
    source = (
        'extern "C" __global__ void __launch_bounds__(1024) greedy(float* x, int n) {'
        + "".join(f"float a{i} = x[threadIdx.x + {i}];" for i in range(300))
        + "for (int i = 0; i < n; i++) {" + many + "}"
        + "".join(f"x[threadIdx.x * 300 + {i}] = a{i};" for i in range(300)) + "}"
    )  # fmt: skip
    _, log = cuda_compile.compile_source(source, "greedy.cu", "sm_80")
    assert cuda_compile.usage(log)["greedy"].spilled > 0


def test_an_error_is_one_line():
    with pytest.raises(ValueError, match=r"^bad\.cu does not compile for sm_80: .*bad\.cu\(1\).*error") as caught:
        cuda_compile.compile_source("int f() { return x; }", "bad.cu", "sm_80")
    assert "\n" not in str(caught.value)


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """The calls of the compiler; what they make is kept in tmp_path / "kept"."""
    calls, honest = [], cuda_compile.compile_source
    monkeypatch.setattr(cuda_compile, "compile_source", lambda *a: calls.append(a) or honest(*a))
    monkeypatch.setattr(cuda_compile, "_folder", [])
    cuda_compile.keep_in(tmp_path / "kept")
    return calls


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "one.cu"
    path.write_text('extern "C" __global__ void one(float* x) { x[threadIdx.x] = 1; }')
    return path


def test_a_cubin_is_kept_and_made_anew_when_the_source_changes(tmp_path, compiled, path):
    first = cuda_compile.cubin(path, "sm_80")
    compiled.clear()
    assert cuda_compile.cubin(path, "sm_80") == first and not compiled
    cuda_compile.cubin(path, "sm_90")
    path.write_text(re.sub("= 1", "= 2", path.read_text()))
    assert cuda_compile.cubin(path, "sm_80") != first and len(compiled) == 2
    assert len(list((tmp_path / "kept").glob("*.cubin"))) == len(list((tmp_path / "kept").iterdir())) == 3


def damage(data, how):
    if how == "a bit":
        return data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]
    return data[: {"half": len(data) // 2, "empty": 0}[how]]


@pytest.mark.parametrize("how", ["a bit", "half", "empty"])
def test_a_damaged_cubin_is_made_anew(tmp_path, compiled, path, how):
    first = cuda_compile.cubin(path, "sm_80")
    (kept,) = (tmp_path / "kept").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole, how))
    assert cuda_compile.cubin(path, "sm_80") == first and len(compiled) == 2
    assert kept.read_bytes() == whole


def test_where_nothing_can_be_kept_kernels_are_compiled_all_the_same(tmp_path, compiled, path, monkeypatch, capsys):
    monkeypatch.setattr(cuda_compile, "say_once", print)
    (tmp_path / "kept").write_text("no folder")
    first = cuda_compile.cubin(path, "sm_80")
    said = f"compiled kernels cannot be kept in {tmp_path / 'kept'}: "
    assert first.startswith(b"\x7fELF") and capsys.readouterr().out == f"{said}File exists\n"
    (tmp_path / "kept").unlink()

    def full(self, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        assert cuda_compile.cubin(path, "sm_80") == first
    assert capsys.readouterr().out == f"{said}No space left on device\n"
    assert list((tmp_path / "kept").iterdir()) == []  # nor is half a file left behind
    cuda_compile.keep_in(None)
    assert cuda_compile.cubin(path, "sm_80") == first and len(compiled) == 3
    assert list((tmp_path / "kept").iterdir()) == []


def test_no_compiler_is_one_line(monkeypatch):
    monkeypatch.setattr(cuda_compile, "PACKAGES", ())
    monkeypatch.setattr(cuda_compile, "NAMES", ("libnothing.so",))
    cuda_compile.compiler.cache_clear()
    try:
        with pytest.raises(OSError, match=r"^NVIDIA's compiler NVRTC is not installed: pip install nvidia-cuda-nvrtc$"):
            cuda_compile.compiler()
    finally:
        cuda_compile.compiler.cache_clear()
