"""The GPU's benchmark without a GPU: all of it at tiny shapes, and what fails is said and written."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import sections
from benchmarks.gpu.bench import open_bench
from minidiff import backend

ROOT = Path(__file__).parents[2]
ABSENT = ("threadpoolctl", "tyro", "tomli_w", "hypothesis", "pytest_benchmark", "setuptools")


@pytest.fixture(autouse=True)
def own_backend(monkeypatch):
    """The command selects a backend for its whole process, which here is the tests'."""
    monkeypatch.setattr(backend, "_stack", [])
    monkeypatch.setattr(command, "emulate", lambda: None)  # the tests' device is there already


@pytest.mark.release
def test_dry_run(tmp_path):
    """As on a machine that has what the command says it needs, and nothing else that minidiff or its tests have."""
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({ABSENT}))\n"
        "from benchmarks.gpu.__main__ import main\n"
        f"sys.exit(main(['--out', {str(tmp_path)!r}, '--dry-run']))"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    records = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    found = [record["what"] for record in records]
    for beginning in ("machine", "ceilings", "compile/conv2d_tiled/sm_90", "correctness/cupy", "conv/grad_w", "step/"):
        assert any(what.startswith(beginning) for what in found), beginning
    assert not any("error" in record for record in records)
    assert ", 0 failures" in run.stdout.splitlines()[-1]


@pytest.mark.release
def test_what_fails_is_written_and_the_rest_goes_on(tmp_path, monkeypatch, capsys):
    def broken(bench):
        raise RuntimeError("out of\nluck")

    monkeypatch.setattr(sections, "ceilings", broken)
    monkeypatch.setattr(command, "ORDER", ("machine", "ceilings", "correctness"))
    assert command.main(["--out", str(tmp_path), "--dry-run"]) == 1
    records = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    assert {"what": "ceilings", "error": "RuntimeError: out of luck"} in records
    assert records[-1]["what"] == "correctness/cupy_cuda" and records[-1]["wrong"] == {}
    assert "FAILED ceilings: RuntimeError: out of luck" in capsys.readouterr().out


def test_nothing_begins_after_the_deadline(tmp_path, capsys):
    assert command.main(["--out", str(tmp_path), "--dry-run", "--deadline", "-1"]) == 1
    assert "  FAILED networks: no time left\n" in capsys.readouterr().out
    assert not (tmp_path / "gpu.json").exists()


def test_a_clock_takes_turns(tmp_path):
    bench, calls = open_bench(tmp_path, True, 10.0), []
    times = bench.in_turn({"a": lambda: calls.append("a"), "b": lambda: (calls.append("b"), time.sleep(0.01))})
    assert calls == ["a", "b", "a", "b"] and times["b"][0] > 0.01 > times["a"][0]
