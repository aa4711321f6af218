"""Hosts that only a network connects: the same bits, and nobody hangs when the link is cut."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.scaling.hosts import FAST, SLOW, available, hosts
from minidiff.checkpoint import find
from tests.needs import lacking
from tests.processes.test_mpi import LIMIT, TRAIN, errors, mpiexec, train, weights

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.release


def start(made, n, options):
    launcher = made.launcher(n)
    command = [*launcher, sys.executable, "-m", "tests.processes.small_training", *options.split()]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture(autouse=True)
def can_make_hosts():
    mpiexec()
    if not available():
        lacking("hosts", "hosts need Linux, root, and ip and tc of iproute2")


@pytest.mark.parametrize("n, network", [(2, FAST), (4, SLOW)], ids=["2-fast", "4-slow"])
def test_hosts_train_the_weights_of_one_process(tmp_path, n, network):
    train(1, f"{TRAIN} --steps 4 --out {tmp_path / 'alone'}")
    with hosts(n, network) as made:
        process = start(made, n, f"{TRAIN} --steps 4 --out {tmp_path / 'run'}")
        _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, err
    assert weights(tmp_path / "run") == weights(tmp_path / "alone")


def test_a_cut_link_ends_all(tmp_path):
    folder = tmp_path / "run"
    with hosts(2, FAST) as made:
        process = start(made, 2, f"{TRAIN} --steps 100000 --out {folder}")
        while not list(folder.glob("checkpoints/*.safetensors")):
            time.sleep(0.1)
            assert process.poll() is None
        made.cut(2)
        cut = time.monotonic()
        while subprocess.run(["pgrep", "-f", f"^{sys.executable} .*{folder}"], capture_output=True).stdout:
            assert time.monotonic() - cut < 30
            time.sleep(0.2)
        process.kill()  # the launcher itself would wait for the other host for ever
        _, err = process.communicate(timeout=LIMIT)
    (line,) = [line for line in errors(err) if line.startswith("error: ")]
    assert re.search(r"process 1 on \S+ has given no sign of life for 1\d s", line)
    assert find(folder).step > 0
