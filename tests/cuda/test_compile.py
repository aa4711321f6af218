"""Every .cu file compiles for GPUs, spills nothing, and takes no more of one than its budget says.

budget.json: for each kernel the most registers of a thread and bytes of shared memory of a block, on any architecture
here. A change that needs more is a decision: it goes there by hand.
"""

import json
import re
from pathlib import Path

import pytest

from minidiff.kernels import cuda_compile, cuda_launch
from tests.needs import lacking

KERNELS = Path(cuda_compile.__file__).parent
FILES = sorted(KERNELS.glob("*/*.cu"))
BUDGET = json.loads(Path(__file__).with_name("budget.json").read_text("utf-8"))
ARCHITECTURES = ("sm_80", "sm_90")


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


def test_a_cubin_is_kept_and_made_anew_when_the_source_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "one.cu"
    path.write_text('extern "C" __global__ void one(float* x) { x[threadIdx.x] = 1; }')
    first = cuda_compile.cubin(path, "sm_80")
    compiled = []
    honest = cuda_compile.compile_source
    monkeypatch.setattr(cuda_compile, "compile_source", lambda *a: compiled.append(a) or honest(*a))
    assert cuda_compile.cubin(path, "sm_80") == first and not compiled
    cuda_compile.cubin(path, "sm_90")
    path.write_text(re.sub("= 1", "= 2", path.read_text()))
    assert cuda_compile.cubin(path, "sm_80") != first and len(compiled) == 2
    assert len(list((tmp_path / "minidiff" / "cuda").glob("*.cubin"))) == 3


def test_no_compiler_is_one_line(monkeypatch):
    monkeypatch.setattr(cuda_compile, "PACKAGES", ())
    monkeypatch.setattr(cuda_compile, "NAMES", ("libnothing.so",))
    cuda_compile.compiler.cache_clear()
    try:
        with pytest.raises(OSError, match=r"^NVIDIA's compiler NVRTC is not installed: pip install nvidia-cuda-nvrtc$"):
            cuda_compile.compiler()
    finally:
        cuda_compile.compiler.cache_clear()
