"""The first training on a machine, whose kernels are being compiled, is the same as those that come later, to the bit.

A stopped training is begun by a process that compiles every kernel, and ended by one that finds them all on the disk.
Compiling takes a core for a minute or so.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def start(work, what):
    """Start same_bits.py with a kernel cache below `work`."""
    environment = os.environ | {"XDG_CACHE_HOME": str(work / "cache"), "PYTHONPATH": str(ROOT)}
    environment.pop("NUMBA_CACHE_DIR", None)  # this process's own
    command = [sys.executable, "-m", "tests.training.same_bits", str(work), what]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def printed(process):
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


def compiled(work):
    return {path.name: path.stat().st_mtime_ns for path in work.rglob("*.nbc")}


@pytest.mark.release
def test_kernels_just_compiled_and_kernels_kept_train_the_same_weights(tmp_path):
    printed(start(tmp_path, "begin"))
    kept = compiled(tmp_path)
    assert len(kept) > 20
    lines = printed(start(tmp_path, "end")).splitlines()
    assert kept.items() <= compiled(tmp_path).items()  # training compiled nothing again, only drawing did
    digests = [line.split()[1:] for line in lines if line.startswith("digests ")]
    assert digests and lines.count("step 20") == len(digests)
    for threads, step, resumed, whole in digests:
        assert step == "50" and resumed == whole, f"on {threads} threads"
