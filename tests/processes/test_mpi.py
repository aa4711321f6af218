"""Several processes under MPI train the weights of one, to the bit, and all end when one of them does."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from minidiff.checkpoint import find
from tests.needs import lacking

ROOT = Path(__file__).parents[2]
NETWORK = "--size 16 --model-channels 8 --channel-mult 1 2 --patch 1 --heads 2 --text-width 16 --backend numpy"
RUN = "--batch-size 8 --accumulate 8 --threads 1 --save-every 2 --preview-every 3"
TRAIN = f"{NETWORK} {RUN}"
LIMIT = 120  # seconds after which something hangs


def mpiexec():
    path = Path(sys.executable).with_name("mpiexec")
    found = str(path) if path.exists() else shutil.which("mpiexec")
    if found is None or find_spec("mpi4py") is None:
        lacking("mpi", "mpi4py and mpich are not installed here")
    return found


def start(n, module, options, new_session=False, **more):
    """Start n processes, or one without a launcher; new_session: in a group of processes of their own."""
    launcher = [] if n == 1 else [mpiexec(), "-n", str(n)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | more
    command = [*launcher, sys.executable, "-m", module, *options.split()]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=new_session
    )


def run(n, module, options, code=0):
    """Return what n processes print on both streams, and in how many seconds; they must end with this exit code."""
    began = time.monotonic()
    process = start(n, module, options)
    try:
        out, err = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == code, (out, err)
    return out, err, time.monotonic() - began


def train(n, options, code=0):
    return run(n, "tests.processes.small_training", options, code)


def weights(folder):
    return find(folder).path.read_bytes()


def errors(text):
    """The lines of stderr that are no progress bar, and not the launcher's own."""
    lines = [line for line in re.split(r"[\r\n]+", text) if "error" in line.lower()]
    return [line for line in lines if "application" not in line]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A training in one process, without a launcher."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    train(1, f"{TRAIN} --steps 6 --out {folder}")
    return folder


def test_two_processes_train_the_weights_of_one(alone, tmp_path):
    out, _, _ = train(2, f"{TRAIN} --steps 6 --out {tmp_path / 'run'}")
    assert weights(tmp_path / "run") == weights(alone)
    assert out.count("network") == 1 and out.count("done:") == 1
    names = lambda folder: sorted(path.relative_to(folder) for path in folder.rglob("*"))
    assert names(tmp_path / "run") == names(alone)
    losses = lambda folder: [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert losses(tmp_path / "run") == losses(alone)


@pytest.mark.release
def test_so_do_four_and_eight(alone, tmp_path):
    for n in (4, 8):
        train(n, f"{TRAIN} --steps 6 --out {tmp_path / str(n)}")
        assert weights(tmp_path / str(n)) == weights(alone)


@pytest.mark.release
def test_another_number_of_processes_goes_on_with_the_same_bits(alone, tmp_path):
    """Killed on two, resumed on four."""
    folder = tmp_path / "run"
    train(2, f"kill=5,1 {TRAIN} --steps 6 --out {folder}", code=9)
    assert find(folder).step in (2, 4)
    train(4, f"--resume {folder}")
    assert weights(folder) == weights(alone)


@pytest.mark.release
def test_a_batch_that_is_not_accumulated_is_divided(tmp_path):
    """Without --accumulate, the order of the sums depends on the number of processes, and the weights nearly agree."""
    options = f"{NETWORK} --batch-size 8 --threads 1 --steps 4 --lr 1e-4"
    for n in (1, 2, 3):
        _, err, _ = train(n, f"{options} --out {tmp_path / str(n)}", code=2 if n == 3 else 0)
    assert errors(err) == [
        "error: a batch of 8 images cannot be divided among 3 processes: take a --batch-size that 3 divides, such as 9"
    ]
    one, two = (find(tmp_path / str(n)).tensors["model"] for n in (1, 2))
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-3, atol=1e-5)


@pytest.mark.release
def test_labels_adapters_and_latents_too(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=np.arange(20) % 3)
    small = "--batch-size 8 --accumulate 4 --threads 1 --backend numpy --steps 4"
    network = "--model-channels 8 --channel-mult 1 2 --patch 1 --heads 2"
    labels = f"--data npz --data-dir {tmp_path / 'data.npz'} --flip {network} {small}"
    coder = "--network autoencoder --autoencoder-patch 1 --encoder-channels 8 8 --decoder-channels 8 8"
    coder = f"{coder} --encoder-blocks 0 0 --decoder-blocks 0 0 --size 16 --captions none {small}"
    edges = f"--adapter edges --onto {tmp_path / '1-base'} {small}"
    for n in (1, 2, 4):
        train(n, f"{labels} --out {tmp_path / f'{n}-labels'}")
        train(n, f"{coder} --out {tmp_path / f'{n}-coder'}")
        latent = f"--autoencoder {tmp_path / '1-coder'} --size 16 {network} --text-width 16 {small}"
        train(n, f"{latent} --out {tmp_path / f'{n}-base'}")
        train(n, f"{edges} --out {tmp_path / f'{n}-edges'}")
        for what in ("labels", "coder", "base", "edges"):
            assert weights(tmp_path / f"{n}-{what}") == weights(tmp_path / f"1-{what}"), (n, what)


@pytest.mark.release
def test_minutes_are_planned_by_process_0(tmp_path):
    options = f"{NETWORK} --batch-size 8 --threads 1 --warmup 20"
    out, _, _ = train(2, f"{options} --minutes 0.2 --out {tmp_path / 'run'}")
    steps = int(re.search(r"0.2 minutes are (\d+) steps", out)[1])
    assert find(tmp_path / "run").step == steps > 20


# -- one of them ends --------------------------------------------------------------------------------------------------


@pytest.mark.release
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_ends_all_after_the_same_step(tmp_path, rank):
    for name, code in (("interrupt", 130), ("terminate", 143)):
        out, err, _ = train(2, f"{name}=5,{rank} {TRAIN} --steps 60 --out {tmp_path / name}", code)
        assert "stopped after step 5; go on with" in out and errors(err) == []
        assert find(tmp_path / name).step == 5


@pytest.mark.release
@pytest.mark.parametrize("name, code", [("SIGINT", 130), ("SIGTERM", 143)])
def test_ctrl_c_in_the_terminal_of_the_launcher(tmp_path, name, code):
    """A terminal sends it to the launcher and, if they are in its group, to all processes."""
    folder = tmp_path / "run"
    process = start(2, "tests.processes.small_training", f"{TRAIN} --steps 100000 --out {folder}", new_session=True)
    while not list(folder.glob("checkpoints/*.safetensors")):
        time.sleep(0.1)
        assert process.poll() is None
    os.killpg(process.pid, getattr(signal, name))
    out, err = process.communicate(timeout=LIMIT)
    assert "stopped after step" in out and errors(err) == [], (out, err)
    assert process.returncode == code
    assert f"stopped after step {find(folder).step};" in out


@pytest.mark.release
@pytest.mark.parametrize(
    "fault, code, said",
    [
        ("nan=5,1", 2, "the loss is nan at step 5; it arose in .*; the last good checkpoint is .*step_00000004"),
        ("disk=5,0", 2, "no space left on the disk; the last good checkpoint is .*step_00000004"),
        ("drift=3,1", 2, "the weights of process 1 are not those of process 0 at step 2: .*step_00000002"),
        ("bug=5,1", 2, "process 1 on .*: list index out of range; the last good checkpoint is .*step_00000004"),
        ("exit=5,1", 3, None),
        ("exit=5,0", 3, None),
        ("kill=5,0", 9, None),
        ("kill=5,1", 9, None),
    ],
)
def test_an_error_in_one_ends_all(tmp_path, fault, code, said):
    _, err, seconds = train(2, f"{fault} {TRAIN} --steps 60 --out {tmp_path / 'run'}", code)
    assert seconds < 30
    if said is not None:
        (line,) = [line for line in errors(err) if line.startswith("error: ")]
        assert re.search(said, line)
    assert find(tmp_path / "run").step in (2, 4)


@pytest.mark.release
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_stands_still_is_named(tmp_path, rank):
    _, err, seconds = train(2, f"stand=5,{rank} {TRAIN} --steps 60 --out {tmp_path / 'run'}", 2)
    (line,) = errors(err)
    assert re.search(rf"process {rank} on \S+ has given no sign of life for 15 s", line)
    assert seconds < 45 and find(tmp_path / "run").step in (2, 4)


@pytest.mark.release
def test_a_slow_process_is_waited_for(alone, tmp_path):
    train(2, f"wait=3,1 wait=4,0 {TRAIN} --steps 6 --out {tmp_path / 'run'}")
    assert weights(tmp_path / "run") == weights(alone)


@pytest.mark.release
def test_a_mistake_is_told_once(tmp_path):
    for options in ("--steps 0", "--no-such-option 3", "--resume nowhere"):
        out, err, _ = run(2, "minidiff.train", options, 2)
        assert (out + err).count("error") + (out + err).count("Unrecognized") <= 2 and "Traceback" not in err, err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    _, err, _ = train(2, f"{TRAIN} --steps 6 --out {tmp_path / 'full'}", 2)
    assert len(errors(err)) == 1 and "is not empty" in err


def test_without_mpi4py_one_line_says_what_is_missing(tmp_path):
    (tmp_path / "mpi4py.py").write_text("raise ImportError('there is none')")
    environment = {"PMI_RANK": "0", "PMI_SIZE": "2", "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    process = start(1, "minidiff.train", "--help", **environment)
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 2 and out == ""
    assert err == (
        "error: a launcher has started several processes, which need mpi4py and an MPI library: there is none; install "
        "minidiff[mpi], or leave out the launcher\n"
    )


# -- drawing and evaluating --------------------------------------------------------------------------------------------


@pytest.mark.release
def test_pictures_are_those_of_one_process(alone, tmp_path):
    options = f"--checkpoint {alone} --count 7 --batch-size 2 --steps 3 --backend numpy --array --trace --images"
    for n in (1, 3):
        out, err, _ = run(n, "minidiff.sample", f"a dog --out {tmp_path / str(n)} {options}".replace("a dog", "dog"))
        assert out.count("grid.png") == 1 and err.count("ddim") == 1
    one, three = (np.load(tmp_path / str(n) / "trace.npz") for n in (1, 3))
    for name in one:
        np.testing.assert_array_equal(three[name], one[name])
    for path in (tmp_path / "1" / "images").iterdir():
        assert (tmp_path / "3" / "images" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.release
def test_an_evaluation_is_that_of_one_process(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=np.arange(60) % 3)
    network = "--model-channels 8 --channel-mult 1 --patch 1 --heads 2 --batch-size 6 --backend numpy"
    train(1, f"--data npz --data-dir {tmp_path / 'data.npz'} {network} --steps 4 --out {tmp_path / 'run'}")
    results = []
    for n in (1, 2):
        file = tmp_path / f"{n}.json"
        options = f"--checkpoint {tmp_path / 'run'} --count 24 --batch-size 5 --steps 3 --backend numpy --json {file}"
        out, _, _ = run(n, "minidiff.evaluate", options)
        assert out.count("written") == 1
        results.append(json.loads(file.read_text()))
        del results[-1]["seconds"], results[-1]["settings"]["threads"]  # one core each
    assert results[0] == results[1]


@pytest.mark.release
def test_random_kills_lose_nothing():
    """Ten here; `python -m tests.processes.kills 100` for more."""
    from tests.processes.kills import kill

    found = kill(10)
    assert found["kills"] == 10 and found["slowest end, seconds"] < 30
