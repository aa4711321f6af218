"""Trainings of other processes, followed from outside: real ones, and folders with anything in them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minidiff.checkpoint.config import Config, OptimizerConfig, RunConfig
from minidiff.checkpoint.settings import write_toml
from minidiff.errors import MinidiffError
from minidiff.files import claimed
from minidiff.studio import runs as module
from minidiff.studio.ids import UnknownIdError, id_of
from minidiff.studio.runs import Runs, held_folders, is_training

ROOT = Path(__file__).parents[2]
LISTED = pytest.mark.skipif(not module.LOCKS.exists(), reason="the system lists no locks")
SMALL = "--patch 1 --model-channels 8 --channel-mult 1 2 --heads 2 --batch-size 4 --backend numpy --threads 1"
PROGRAM = """
import sys
from minidiff.train import main
from minidiff.training import preview
preview.PREVIEW = preview.FINAL = preview.SampleGrid(count=2, steps=2)
main(sys.argv[1:])
"""


def train(*words):
    command = [sys.executable, "-c", PROGRAM, *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def until(condition, process):
    """Wait until something is true of a training that runs."""
    for _ in range(1200):
        if condition():
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    raise AssertionError("it did not happen within a minute")


def write_run(folder, done=0, **run):
    folder.mkdir(parents=True)
    write_toml(folder / "config.toml", Config(run=RunConfig(**run)))
    if done:
        lines = ({"step": k, "loss": 1 / k, "seconds": k / 2} for k in range(1, done + 1))
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "runs")


@LISTED
def test_a_training_is_followed_while_it_runs_and_afterwards(runs, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "toy.npz", images=images, labels=np.arange(20) % 2)
    run = runs.folder / "mine"
    data = ["--data", "npz", "--data-dir", tmp_path / "toy.npz", *SMALL.split(), "--out", run]
    process = train(*data, "--steps", 1_000_000, "--preview-every", 5, "--save-every", 4)
    try:
        until(lambda: runs.list() and runs.list()[0]["step"] >= 12, process)
        (about,) = runs.list()
        assert about.items() >= {"name": "mine", "of": 1_000_000, "training": True}.items() and about["loss"] > 0
        state = runs.follow(about["id"])
        assert state["training"] and state["step"] >= 12 and state["of"] == 1_000_000 and state["rate"] > 0
        assert state["left"] == pytest.approx((1_000_000 - state["step"]) / state["rate"])
        assert state["settings"]["run"]["batch_size"] == 4 and state["rewritten"] == 0
        assert state["metrics"]["step"] == list(range(1, state["step"] + 1))
        assert {5, 10} <= set(state["previews"]) and len(state["checkpoints"]) >= 1
        with Image.open(runs.preview(about["id"], 10)) as image:
            assert min(image.size) > 8
        step = state["step"]
        until(lambda: runs.follow(about["id"])["step"] > step, process)
        assert runs.follow(about["id"], step)["metrics"]["step"][0] == step + 1
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130, process.stderr.read()
        process.stderr.close()
    state = runs.follow(about["id"])
    assert not state["training"] and state["left"] is None and state["checkpoints"][-1] == state["step"]

    first = state["step"]
    process = train("--resume", run, "--steps", first + 3)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    again = runs.follow(about["id"])
    assert again["step"] == again["of"] == first + 3 and again["rewritten"] == 1 and not again["training"]
    assert again["metrics"]["step"] == list(range(1, first + 4))
    assert again["metrics"]["loss"][:first] == state["metrics"]["loss"]


@LISTED
def test_looking_for_a_lock_does_not_take_it(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    assert not is_training(folder, held_folders())
    with claimed(folder):
        assert is_training(folder, held_folders())
        with pytest.raises(MinidiffError, match="another process is writing"), claimed(folder):
            pass  # so the lock was there, and still is
    assert not is_training(folder, held_folders())
    assert not is_training(tmp_path / "none", held_folders())


def test_where_locks_are_not_listed_the_age_of_the_metrics_counts(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOCKS", tmp_path / "no list")
    run = write_run(runs.folder / "a", 3, steps=9)
    assert held_folders() is None and runs.list()[0]["training"]
    os.utime(run / "metrics.jsonl", (time.time() - 3600,) * 2)
    assert not runs.list()[0]["training"] and not runs.follow(runs.list()[0]["id"])["training"]


def test_what_the_list_of_locks_says(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOCKS", tmp_path / "locks")
    (tmp_path / "locks").write_bytes(
        b"1: POSIX  ADVISORY  WRITE 20 fe:00:11 0 EOF\n2: FLOCK  ADVISORY  WRITE 20 fe:00:22 0 EOF\n"
        b"2: -> FLOCK  ADVISORY  WRITE 21 fe:00:33 0 EOF\n3: FLOCK  ADVISORY  READ  22 fe:00:44 0 EOF\n"
        b"4: FLOCK  ADVISORY  WRITE\n5: FLOCK  ADVISORY  WRITE 1 <none>:0 0 EOF\n\xff\n"
    )
    assert held_folders() == {0, 22}


def test_the_time_left_of_a_run_in_minutes(runs, monkeypatch):
    monkeypatch.setattr(module, "is_training", lambda run, held: True)
    write_run(runs.folder / "minutes", 8, minutes=2.0)
    write_run(runs.folder / "steps", 8, steps=20)
    write_run(runs.folder / "begun", steps=20)
    left = {about["name"]: runs.follow(about["id"]) for about in runs.list()}
    assert left["minutes"]["left"] == 120 - 4 and left["minutes"]["of"] is None
    assert left["steps"]["left"] == pytest.approx((20 - 8) / 2) and left["steps"]["rate"] == pytest.approx(2)
    assert left["begun"]["left"] is None and left["begun"]["metrics"] == {"step": [], "loss": []}


def test_runs_are_listed_the_newest_first(runs, tmp_path):
    assert runs.list() == []
    old, new = write_run(runs.folder / "old", 5, steps=9), write_run(runs.folder / "new", 2, steps=9)
    os.utime(old / "metrics.jsonl", (1e9, 1e9))
    (runs.folder / "samples").mkdir()  # what python -m minidiff.sample makes
    (runs.folder / "file").write_text("")
    first, second = runs.list()
    assert (first["name"], first["step"], second["name"], second["step"]) == ("new", 2, "old", 5)
    assert second == {
        "id": id_of("r", b"old"),
        "name": "old",
        "step": 5,
        "of": 9,
        "loss": 0.2,
        "training": False,
        "updated": second["updated"],
    }
    assert time.strptime(second["updated"], "%Y-%m-%dT%H:%M:%S").tm_year == 2001
    assert runs.path(first["id"]) == new


def test_damaged_runs_are_shown_as_far_as_they_can_be_read(runs):
    run = write_run(runs.folder / "a", 3, steps=9)
    (run / "config.toml").write_text("[run]\nsteps = 'many'")
    (about,) = runs.list()
    assert about["step"] == 3 and about["of"] is None
    (run / "metrics.jsonl").write_bytes(b"\x00\xff" * 900)
    (run / "checkpoints").write_text("no folder")
    (run / "previews").mkdir()
    for name in ("step_00000001.png.tmp", "step_1.png", "other.png"):
        (run / "previews" / name).write_text("")
    (run / "previews" / "step_00000002.png").symlink_to("/etc/hostname")
    state = runs.follow(about["id"])
    assert (state["step"], state["settings"], state["previews"], state["checkpoints"]) == (0, {}, [], [])
    with pytest.raises(UnknownIdError, match="there is no preview of step 2"):
        runs.preview(about["id"], 2)
    json.dumps(state, allow_nan=False)


def test_what_json_cannot_hold_is_sent_as_text(runs):
    for name in (b"a", b"\xff", b"line\nend"):
        folder = Path(os.fsdecode(bytes(runs.folder) + b"/" + name))
        write_run(folder, 3, steps=9)
        write_toml(folder / "config.toml", Config(optimizer=OptimizerConfig(clip=float("inf"))))
        os.utime(folder / "metrics.jsonl", (0, 2**62 if name == b"a" else 1e9))
    states = [runs.follow(about["id"]) for about in runs.list()]
    assert {state["settings"]["optimizer"]["clip"] for state in states} == {"inf"}
    json.dumps([runs.list(), states], allow_nan=False, ensure_ascii=False).encode()


def test_runs_vanish(runs):
    run = write_run(runs.folder / "a", 3, steps=9)
    id = runs.list()[0]["id"]
    assert runs.follow(id)["step"] == 3
    (run / "metrics.jsonl").unlink()
    state = runs.follow(id)
    assert state["step"] == 0 and state["rewritten"] == 1
    shutil.rmtree(run)
    with pytest.raises(UnknownIdError, match=f"there is no run {id}"):
        runs.follow(id)
    assert runs.list() == []
    write_run(run, 2, steps=9)
    assert runs.follow(id)["step"] == 2


@pytest.mark.parametrize("id", ["", "a", "r-", "../a", "/etc", "r-0123456789abcdef"])
def test_only_ids_of_runs_lead_to_folders(runs, id):
    write_run(runs.folder / "a", 3, steps=9)
    with pytest.raises(UnknownIdError, match="there is no run"):
        runs.follow(id)
    with pytest.raises(UnknownIdError):
        runs.preview(id, 1)


def test_settings_are_read_again_when_they_change(runs):
    run = write_run(runs.folder / "a", 3, minutes=5.0)
    id = runs.list()[0]["id"]
    assert runs.follow(id)["of"] is None
    write_toml(run / "config.toml", Config(run=RunConfig(steps=77)))
    assert runs.follow(id)["of"] == 77 and runs.list()[0]["of"] == 77


def test_few_runs_are_kept_in_memory(runs, monkeypatch):
    monkeypatch.setattr(module, "_MOST_FOLLOWED", 2)
    for name in "abc":
        write_run(runs.folder / name, 3, steps=9)
    for about in runs.list():
        assert runs.follow(about["id"], points=2)["metrics"]["step"] == [1, 3]
    assert len(runs._tails) == 2
