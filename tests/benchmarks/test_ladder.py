"""The ladder: every rung computes what the reference does, and the command prints and writes one line for each."""

import importlib.util
import json

import numpy as np
import pytest

from benchmarks import ladder
from benchmarks.peers import workers
from benchmarks.peers.problems import Convolution
from minidiff import backend
from minidiff.errors import MinidiffError

RUNGS = ["naive", "reordered", "im2col", "gemm", "winograd", "separate", "fused"]


@pytest.mark.release  # half of the rungs are compiled for this alone
@pytest.mark.parametrize("problem", [ladder.TINY, Convolution(3, 7, 5, 9)], ids=lambda problem: problem.name)
def test_every_rung_agrees_with_the_reference(problem):
    """The second one has sides, channels and images that nothing divides."""
    with backend.using("numba"):
        found = {rung.name: ladder.check(rung.name, rung.run(), rung.exact) for rung in ladder.rungs(problem)}
    assert list(found) == RUNGS
    # rounding errors of sums of 9 C_in numbers, Winograd's ten times as large; measured: 5e-7 and 2e-6
    assert max(error for name, error in found.items() if name not in ("winograd", "separate", "fused")) < 4e-6
    assert max(found.values()) < 2e-5


def test_winograds_way_is_taken_on_its_rung():
    """Otherwise two rungs would be one."""
    x, w, _ = ladder.TINY.arrays()
    assert (ladder.gemm(x, w) != ladder.winograd(x, w)).any()


def test_a_rung_that_computes_something_else_is_one_line():
    exact = np.ones((2, 3))
    with pytest.raises(MinidiffError, match=r"^ladder: im2col is off by 1.0e-01 of the largest number, at most 5e-05"):
        ladder.check("im2col", exact + 0.1, exact)
    with pytest.raises(MinidiffError, match="is off by nan"):
        ladder.check("im2col", exact * np.nan, exact)
    with pytest.raises(MinidiffError, match=r"has shape \(3,\), expected \(2, 3\)"):
        ladder.check("im2col", np.ones(3), exact)


def test_the_operations_are_counted_as_the_definition_makes_them():
    """2 operations for each of 9 positions, C_in and C_out channels and N H W pixels."""
    made = ladder.record("winograd", [2.0, 2.0, 3.0], work=4 * 10**9, of="gemm", before=[4.0, 6.0, 6.0])
    assert made["gflops"] == 2.0 and made["ratio"] == 2.0 and made["of"] == "gemm"


@pytest.mark.release
def test_the_command_without_torch(monkeypatch, tmp_path, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    monkeypatch.setattr(backend, "_stack", [])
    ladder.main(["--quick", "--json", str(tmp_path / "ladder.json")])
    lines = capsys.readouterr().out.splitlines()
    assert f"left out: {workers.MISSING}" in lines
    records = json.loads((tmp_path / "ladder.json").read_text("utf-8"))
    assert [record["what"] for record in records] == ["machine", *(f"ladder/{name}" for name in ["roof", *RUNGS])]
    for name in RUNGS:
        assert sum(line.startswith(f"{name} ") for line in lines) == 1
    assert all(record["gflops"] > 0 for record in records[1:])


@pytest.mark.parametrize(
    ("words", "line"),
    [(["--rounds", "0"], "--rounds must be 1 or more, got 0"), (["--threads", "0"], "threads must be from 1 to")],
)
def test_mistakes_are_one_line(words, line, monkeypatch, capsys):
    monkeypatch.setattr(backend, "_stack", [])
    with pytest.raises(SystemExit) as left:
        ladder.main(words)
    assert left.value.code == 2 and capsys.readouterr().err.startswith(f"error: {line}")
