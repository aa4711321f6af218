"""A short run of the fuzzer: nothing is found but the faults that were planted, and each of those is."""

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from minidiff import backend
from tests.fuzz import kills, kinds  # noqa: F401  # fills the table
from tests.fuzz.case import KINDS
from tests.fuzz.kinds.known import KNOWN
from tests.fuzz.kinds.options import MUCH, WORK, is_work
from tests.fuzz.kinds.planted import PLANTED
from tests.fuzz.samples import Samples
from tests.fuzz.table import Findings, planned
from tests.fuzz.verdict import FAULTS, Ended, tree
from tests.training.make_checkpoint import CHECKPOINT

ROOT = Path(__file__).parents[2]
SLOW = ("kernel cache", "mirror")  # kernels are compiled anew, a server is waited for: for the long run
MIXED = [name for name, each in KINDS.items() if each.weight and name not in SLOW]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run in a process of its own, as kernels may have run in this one: its folder, and what it counted."""
    folder = tmp_path_factory.mktemp("fuzz")
    words = [
        "--cases",
        "12",
        "--known",
        "--planted",
        "--megabytes",
        "300",
        "--seconds",
        "10",
        "--keep",
        folder / "work",
    ]
    words += ["--json", folder / "counts.json", *(word for name in MIXED for word in ("--kind", name))]
    command = [sys.executable, "-m", "tests.fuzz", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr  # it says that it found the planted ones
    return folder / "work", json.loads((folder / "counts.json").read_text())


@pytest.mark.release
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_seen(run, name):
    counts, expected = run[1]["counts"][name], PLANTED[name][1]
    assert [fault for fault in FAULTS if counts.get(fault)] == ([expected] if expected else [])
    assert counts["ok"] == (not expected)


@pytest.mark.release
@pytest.mark.parametrize("name", [*MIXED, *KNOWN])
def test_no_other_fault_is_found(run, name):
    counts = run[1]["counts"][name]
    assert counts["cases"] and not any(counts.get(fault) for fault in FAULTS), run[1]["causes"]


@pytest.mark.release
def test_a_case_follows_from_its_number(run, tmp_path):
    """The same number makes the same words and files; another number others."""
    samples, made = Samples(run[0] / "samples"), []
    for place, seed in (("a", 3), ("b", 3), ("c", 4)):
        for name in MIXED:
            folder = tmp_path / place / name
            folder.mkdir(parents=True)
            case = KINDS[name].make(Random(f"{name} {seed}"), folder, samples)
            words = [word.replace(str(tmp_path / place), "") for word in case.words]
            made.append((words, {path: each for path, each in tree(folder).items() if not path.endswith(".npz")}))
    first, second, third = (made[k * len(MIXED) : (k + 1) * len(MIXED)] for k in range(3))
    assert first == second
    assert sum(one != other for one, other in zip(first, third)) > 0.8 * len(MIXED)


def test_cases_are_shared_by_weight():
    plan = planned(1000, KINDS, first=5)
    counts = {name: sum(kind == name for kind, _ in plan) for name in KINDS if KINDS[name].weight}
    assert counts["checkpoint"] == pytest.approx(2 * counts["adapter"], abs=1)
    assert all(min(seed for kind, seed in plan if kind == name) == 5 for name in counts)


def test_the_table_has_a_line_a_kind_and_one_for_all():
    findings = Findings(None)
    for seed, code in enumerate([0, 2, 3]):
        err = b"error: no\n" if code == 2 else b""
        findings.take(Ended("npz", seed, "train", [], code, (0, 2), False, 1.0, 1.0, 1 << 20, b"", err))
    head, row, total = findings.table().splitlines()
    assert head.split()[:4] == ["kind", "cases", "ok", "refused"]
    assert row.split()[:4] == ["npz", "3", "1", "1"] and total.split()[:4] == ["all", "3", "1", "1"]
    assert findings.found == 1 and '--kind "npz" --seed 2' in findings.list_of_causes()


@pytest.mark.parametrize("name", sorted(WORK))
def test_options_ask_for_nothing_or_for_too_much(name):
    """What a number within the limits would cost hours is not tried; what is beyond them is."""
    assert is_work(name, "16") and not is_work(name, "-1") and not is_work(name, "1" + 30 * "0")
    assert name == "minutes" or not is_work(name, str(MUCH))


# -- trainings that are killed ----------------------------------------------------------------------------------------


@pytest.fixture
def killed(tmp_path):
    """A function that makes the folder of a training that was killed, with these steps in its metrics."""

    def make(steps, whole=True):
        path = tmp_path / "checkpoints" / "step_00000020.safetensors"
        path.parent.mkdir(exist_ok=True)
        data = CHECKPOINT.read_bytes()
        path.write_bytes(data if whole else data[:-1])
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps({"step": k}) + "\n" for k in steps))
        return tmp_path

    return make


@pytest.mark.parametrize(
    "steps, whole, code, said, expected",
    [
        ([*range(1, 22)], True, -9, "", ""),
        ([*range(1, 21)], True, 143, "", ""),
        ([*range(1, 22)], True, 143, "", "steps are lost"),
        ([*range(1, 24)], True, -9, "", "steps are lost"),
        ([*range(1, 21)], False, -9, "", "a checkpoint is lost"),
        ([*range(1, 21)], True, 1, "", "exit code 1"),
        ([*range(1, 21)], True, -9, "Traceback (most recent call last)\n", "a traceback"),
    ],
)
def test_what_a_killed_training_lost_is_seen(killed, steps, whole, code, said, expected):
    number = 15 if code == 143 else 9
    with backend.using("numpy"):
        wrong = kills.wrong_at_once(killed(steps, whole), kills.Done(code, said), number, True, False)
    assert wrong.startswith(expected) and bool(wrong) == bool(expected)
