"""The second process that compiles kernels: started once a machine, and what it compiles is what commands need."""

import os
import subprocess
import sys

import pytest

from minidiff import backend, compile_beside


@pytest.fixture
def started(monkeypatch, tmp_path):
    """The commands that were started, on a machine with two cores whose kernels would be kept in tmp_path."""
    commands = []
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compile_beside.subprocess, "Popen", lambda command, **_: commands.append(command[2]))
    monkeypatch.setattr(compile_beside.cores, "available", lambda: [0, 1])
    return commands


def test_it_is_started_once(started):
    with backend.using("numba"):
        for what in ("drawing", "drawing", "training", "training", "drawing"):
            compile_beside.start(what)
    assert [command.partition("main(")[2] for command in started] == ["'drawing')", "'training')"]


def test_a_training_compiles_what_a_drawing_needs(started):
    with backend.using("numba"):
        compile_beside.start("training")
        compile_beside.start("drawing")
    assert len(started) == 1 and "'training'" in started[0]


def test_it_is_not_started_where_it_would_be_of_no_use(started, monkeypatch, tmp_path):
    with backend.using("numpy"):
        compile_beside.start("drawing")
    with backend.using("numba"):
        monkeypatch.setattr(compile_beside.cores, "available", lambda: [0])
        compile_beside.start("drawing")
        monkeypatch.setattr(compile_beside.cores, "available", lambda: [0, 1])
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "missing"))
        compile_beside.start("drawing")
    assert started == []


@pytest.mark.release
def test_it_compiles_all_kernels_that_a_training_and_its_previews_need(tmp_path):
    """Arrays of other types or numbers of dimensions than a command's would be compiled in vain."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kernels"), "XDG_CACHE_HOME": str(tmp_path)}
    (tmp_path / "kernels").mkdir(mode=0o700)

    def run(*words):
        return subprocess.run(
            [sys.executable, *words], env=environment, check=True, capture_output=True, text=True
        ).stderr

    run("-c", "from minidiff.compile_beside import main; main('training')")
    said = run("-m", "minidiff.train", "--steps", "4", "--batch-size", "8", "--out", str(tmp_path / "run"))
    assert "compiling" not in said, said
