"""`python -m minidiff.train` as a user meets it: a process, its exit code, its one line, and what survives a kill."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from minidiff import backend
from minidiff import checkpoint as checkpoints
from minidiff import train as command
from minidiff.training import loop, preview
from minidiff.training import run_dir as folders
from tests import mistakes

ROOT = Path(__file__).parents[1]
SMALL = [
    "--patch",
    "1",
    "--model-channels",
    "8",
    "--channel-mult",
    "1",
    "2",
    "--heads",
    "2",
    "--batch-size",
    "4",
    "--backend",
    "numpy",
]
# The command, drawing less at its end, so that a test does not wait for images.
QUICK = """
import os, signal, sys
from minidiff.train import main
from minidiff.checkpoint import write as writing
from minidiff.training import preview
preview.FINAL = preview.SampleGrid(count=2, steps=2)
"""
# The same, killed when half of the checkpoint of step 4 is on the disk.
KILLED = """
whole = writing.write_atomically

def half(path, data):
    def write(file):
        file.write(data[: len(data) // 2])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    whole(path, write if path.name == "step_00000004.safetensors" else data)

writing.write_atomically = half
"""


@pytest.fixture(autouse=True)
def own_backend(monkeypatch):
    """The command selects a backend for its whole process, which here is the tests'."""
    monkeypatch.setattr(backend, "_stack", [])
    backend.use("numpy")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    path = tmp_path_factory.mktemp("toy") / "toy.npz"
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    np.savez(path, images=images, labels=np.arange(20) % 2)
    return ["--data", "npz", "--data-dir", str(path)]


def start(code, *words):
    """Start a process; `code` None is the plain command, else a program that ends with the command."""
    program = ["-m", "minidiff.train"] if code is None else ["-c", code + "\nmain(sys.argv[1:])"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    words = [str(word) for word in words]
    return subprocess.Popen([sys.executable, *program, *words], env=environment, text=True, **pipes)


def finish(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def weights(run, step):
    tensors = checkpoints.load(checkpoints.path_of(run, step)).tensors
    return np.concatenate([tensors[g][name].reshape(-1) for g in checkpoints.GROUPS for name in sorted(tensors[g])])


fails = partial(mistakes.of_command, command.main)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_killed_in_the_middle_of_writing_a_checkpoint(tmp_path, toy):
    """The previous checkpoint is whole, and the run that goes on from it ends with the bits of one left alone."""
    words = [*toy, *SMALL, "--steps", 5, "--save-every", 2, "--accumulate", 2, "--flip"]
    alone = start(QUICK, *words, "--out", tmp_path / "alone")
    killed = start(QUICK + KILLED, *words, "--out", tmp_path / "killed")
    assert finish(alone)[0] == 0
    assert finish(killed)[0] == -signal.SIGKILL
    folder = tmp_path / "killed" / "checkpoints"
    assert [path.suffix for path in sorted(folder.iterdir())] == [".tmp", ".safetensors"]
    assert checkpoints.find(tmp_path / "killed").step == 2
    code, out, err = finish(start(QUICK, "--resume", tmp_path / "killed"))
    assert (code, "from step 2" in out) == (0, True), err
    assert sorted(path.name for path in folder.iterdir()) == [f"step_0000000{step}.safetensors" for step in (2, 4, 5)]
    assert np.array_equal(weights(tmp_path / "killed", 5), weights(tmp_path / "alone", 5))


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send a process these signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_from_outside(tmp_path, toy, number, code):
    run = tmp_path / "run"
    process = start(None, *toy, *SMALL, "--steps", 10**6, "--out", run)
    wait_for_step(process, run)
    process.send_signal(number)
    returned, out, err = finish(process)
    step = checkpoints.find(run).step
    assert returned == code
    assert out.splitlines()[-1] == f"stopped after step {step}; go on with: python -m minidiff.train --resume {run}"
    assert "Traceback" not in err
    assert folders.read_metrics(run / "metrics.jsonl")[-1]["step"] == step


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send a process these signals")
@pytest.mark.parametrize("name", ["train", "sample"])
def test_ctrl_c_while_a_command_begins_is_silent(tmp_path, name, request):
    """Nothing has begun while modules are imported, and nobody is there to catch KeyboardInterrupt."""
    request.addfinalizer(partial(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT)))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts its background deaf to Ctrl-C
    (tmp_path / "tyro.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nraise SystemExit(99)\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, "-m", f"minidiff.{name}"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
def test_a_reader_that_hangs_up_ends_the_run_with_its_work_saved(tmp_path, toy):
    """As with `2>&1 | head -1`: both streams are one pipe, whose other end closes."""
    run = tmp_path / "run"
    code = """
from tqdm import tqdm
from minidiff.training import console
console.progress_bar = lambda name, **options: tqdm(desc=name, mininterval=0, **options)
"""
    words = [*toy, *SMALL, "--steps", str(10**6), "--out", str(run)]
    process = subprocess.Popen(
        [sys.executable, "-c", QUICK + code + "main(sys.argv[1:])", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    for _ in range(4):
        process.stdout.readline()
    assert process.stdout.read(1)  # the bar, which moves after the first step
    process.stdout.close()
    assert process.wait(timeout=120) == 141
    assert checkpoints.find(run).step == folders.read_metrics(run / "metrics.jsonl")[-1]["step"]


def wait_for_step(process, run, seconds=60.0):
    end = time.monotonic() + seconds
    while not folders.read_metrics(run / "metrics.jsonl"):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_training_from_the_command_line(tmp_path, toy, capsys, monkeypatch):
    monkeypatch.setattr(preview, "FINAL", preview.SampleGrid(count=2, steps=2))
    monkeypatch.setattr(loop, "FIRST_PREVIEW_SECONDS", 0.0)
    command.main([*toy, *SMALL, "--steps", "3", "--out", str(tmp_path / "run")])
    out = capsys.readouterr().out
    assert "8×8 in colour, 2 labels" in out
    assert "on numpy" in out
    assert [path.name for path in (tmp_path / "run" / "previews").iterdir()] == ["step_00000001.png"]
    monkeypatch.chdir(tmp_path)
    command.main(["--config", "run/config.toml", "--out", "again"])
    assert np.array_equal(weights(Path("again"), 3), weights(Path("run"), 3))


def test_one_line_for_each_mistake(tmp_path, toy, capsys):
    run = tmp_path / "run"
    make = [*toy, *SMALL, "--steps", 1, "--out", run]
    assert fails(capsys, *make, "--batch-size", 0) == "--batch-size must be from 1 to 1048576, got 0"
    assert fails(capsys, *make, "--lr", "nan") == "--lr must be above 0, at most 1e+12, got nan"
    line = fails(capsys, *make, "--backend", "abacus")
    assert line == "backend 'abacus' is not known; expected one of auto, numpy, numba, numba-gemm, cupy, numba-cuda"
    line = fails(capsys, *make, "--channel-mult", 1, 2, 2, 2, 2)
    assert line.startswith("U-Net: 5 levels need a height and a width that 16 divides")
    assert fails(capsys, *SMALL, "--data", "npz", "--data-dir", tmp_path / "no.npz").count("no.npz") == 1
    (tmp_path / "mine.toml").write_text("[run]\nbacth_size = 3\n")
    line = fails(capsys, "--config", tmp_path / "mine.toml")
    assert line == f"{tmp_path / 'mine.toml'}: [run]: unknown setting 'bacth_size'; did you mean 'batch_size'?"
    (tmp_path / "x.safetensors").write_bytes(b"x")
    assert fails(capsys, "--resume", tmp_path / "x.safetensors").startswith(f"{tmp_path / 'x.safetensors'} is damaged")
    assert not run.exists()


def test_a_mistyped_option_exits_with_2_too(capsys):
    with pytest.raises(SystemExit) as caught:
        command.main(["--bacth", "3"])
    assert caught.value.code == 2
    assert "--bacth" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limits")
def test_too_little_memory_is_one_line():
    program = 'ulimit -v 400000; exec "$0" -m minidiff'
    run = subprocess.run(["sh", "-c", program, sys.executable], cwd=ROOT, capture_output=True, text=True)
    said = "error: this process may use 390 MiB of memory (ulimit -v); at least 1200 are needed\n"
    assert (run.returncode, run.stderr) == (2, said)
