"""The whole run: what it writes, and that nothing which happens to it changes where it arrives."""

import contextlib
import errno
import io
import json
import math
import os
import shlex
import signal
import sys
import threading
import time
import tracemalloc
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from tqdm import tqdm

from minidiff import backend, files, sample
from minidiff import checkpoint as checkpoints
from minidiff.checkpoint import build
from minidiff.checkpoint.config import Config
from minidiff.checkpoint.settings import read_toml
from minidiff.errors import MinidiffError
from minidiff.images.animation import Animation
from minidiff.images.files import make_grid, read_metadata, to_uint8
from minidiff.sampling import outputs
from minidiff.training import budget as pace
from minidiff.training import console, loop, preview
from minidiff.training import run_dir as folders
from minidiff.training import signals as stopping
from tests import mistakes
from tests.backends import BACKENDS, WITH_A_GPU


def weights(run, step):
    """All four groups of a checkpoint as one array: whatever the next step depends on."""
    tensors = checkpoints.load(checkpoints.path_of(run, step)).tensors
    return np.concatenate([tensors[g][name].reshape(-1) for g in checkpoints.GROUPS for name in sorted(tensors[g])])


@contextlib.contextmanager
def after_step(monkeypatch, step, action):
    """Do something at the end of a step, as if it came from outside."""
    log = loop.TrainingRun.log

    def then(run, record):
        if record.step == step:
            action(run.trainer)
        log(run, record)

    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainingRun, "log", then)
        yield


def stop_after(monkeypatch, step, number=signal.SIGINT):
    return after_step(monkeypatch, step, lambda _: signal.raise_signal(number))


fails = partial(mistakes.of_call, loop.train)


# -- what a run leaves ------------------------------------------------------------------------------------------------


def test_what_a_run_writes_and_says(tmp_path, settings, capsys):
    run = tmp_path / "deep" / "run"
    config = settings(preview_every=2, save_every=4, steps=6)
    assert loop.train(config, run) == 0
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoints", "config.toml", "grid.png", "loss.png", "metrics.jsonl", "noise_to_image.gif", "previews",
    ]  # fmt: skip
    assert [p.name for p in sorted((run / "previews").iterdir())] == [f"step_0000000{n}.png" for n in (2, 4, 6)]
    assert [checkpoints.step_of(path) for path in checkpoints.paths_in(run)] == [4, 6]
    threads = backend.current().threads()
    assert read_toml(Config, run / "config.toml") == settings(preview_every=2, save_every=4, steps=6, threads=threads)
    text = capsys.readouterr()
    last = checkpoints.path_of(run, 6)
    for command in (
        f"python -m minidiff.sample --checkpoint {last} --label 1 --guidance-scale 3",
        f"python -m minidiff.evaluate --checkpoint {last}",
        f"python -m minidiff.train --resume {run} --steps 12",
    ):
        assert command in text.out
    assert "loss" in text.err
    assert "images/s" in text.err


def test_metrics_tell_each_step(tmp_path, settings):
    loop.train(settings(lr=0.5, warmup=4), tmp_path / "run")
    lines = folders.read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["lr"] for line in lines[:4]] == [0.125, 0.25, 0.375, 0.5]
    assert set(lines[0]) == {"step", "loss", "lr", "grad_norm", "images_per_second", "seconds"}
    assert all(line["loss"] > 0 and line["grad_norm"] > 0 for line in lines)
    assert all(a["seconds"] < b["seconds"] for a, b in pairwise(lines))


def test_the_final_images(tmp_path, settings, monkeypatch):
    monkeypatch.setattr(preview, "FINAL", preview.SampleGrid(count=20, steps=5))
    loop.train(settings(), tmp_path / "run")
    about = read_metadata(tmp_path / "run" / "grid.png")
    assert about["step"] == 6
    assert about["columns"] == ["0", "1", "2"]
    with Image.open(tmp_path / "run" / "grid.png") as grid:
        assert grid.width * 6 < grid.height * 4  # three columns, six rows
    with Image.open(tmp_path / "run" / "noise_to_image.gif") as animation:
        assert animation.n_frames == 5 + 1
        assert animation.width == 2 * animation.height  # x_t and x0_hat
    with Image.open(tmp_path / "run" / "loss.png") as chart:
        assert chart.width > chart.height


def test_images_without_labels(tmp_path, settings, capsys):
    path = tmp_path / "plain.npz"
    np.savez(path, np.zeros((20, 8, 8, 1), np.uint8))
    assert loop.train(settings(data_dir=path), tmp_path / "run") == 0
    out = capsys.readouterr().out
    assert "8×8 in grey, no labels" in out
    assert "--label" not in out
    assert "minidiff.evaluate" not in out


def test_previews_start_from_the_same_noise_and_show_the_average(settings, trainer, tmp_path):
    it = trainer()
    first = next(preview.draw(it, preview.PREVIEW))[1].x_t
    for _ in range(3):
        loop.train_step(it)
    assert np.array_equal(next(preview.draw(it, preview.PREVIEW))[1].x_t, first)
    own = it.parameters.w.copy()
    it.parameters.ema[:] = 0  # a network of zeros says v = 0
    preview.Samples(it).save_preview(tmp_path / "p.png")
    assert np.array_equal(it.parameters.w, own)
    expected = make_grid(to_uint8(no_v(it)), preview.PREVIEW.columns(3))
    with Image.open(tmp_path / "p.png") as image:
        assert np.array_equal(np.asarray(image), expected)


def no_v(it):
    """What sampling comes to if v is always 0."""
    before, it.model.forward = it.model.forward, lambda x, t, cond: type(it.model.conv_out.b)(x.shape)
    zeros = np.zeros((2 * preview.PREVIEW.size(3), 8, 8, 3), np.float32)

    def nothing(x, t, labels):
        out = before(x, t, labels)
        out.data = zeros[: len(out.data)]
        return out

    it.model.forward = nothing
    *_, (_, last) = preview.draw(it, preview.PREVIEW)
    it.model.forward = before
    return last.x_prev


@pytest.mark.parametrize(
    ("count", "classes", "columns", "size"),
    [
        (64, 10, 10, 60),
        (64, 11, 11, 55),
        (64, 0, 8, 64),
        (64, 3, 6, 60),
        (64, 100, 8, 64),
        (20, 11, 11, 11),
        (4, 1, 2, 4),
    ],
)
def test_a_sheet_has_full_rows_and_a_column_shows_one_class(count, classes, columns, size):
    sheet = preview.SampleGrid(count, steps=10)
    assert (sheet.columns(classes), sheet.size(classes)) == (columns, size)
    assert sheet.passes(classes) == size * 10 * (2 if classes else 1)


# -- going on, to the bit ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, accumulate", [*((name, 4) for name in (*BACKENDS, "numba-gemm", *WITH_A_GPU)), ("numba", 1)]
)
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, settings, monkeypatch, name, accumulate):
    """Stopped in an epoch's middle (36 images, 8 a step), with flips, hidden labels and checkpoints on the way."""
    config = settings(steps=7, accumulate=accumulate, flip=True, save_every=2, backend=name, warmup=3)
    with backend.using(name):
        assert loop.train(config, tmp_path / "whole") == 0
        with stop_after(monkeypatch, 3):
            assert loop.train(config, tmp_path / "parts") == 130
        with stop_after(monkeypatch, 5, signal.SIGTERM):
            assert loop.train(config, resume=checkpoints.find(tmp_path / "parts")) == 143
        assert loop.train(config, resume=checkpoints.find(tmp_path / "parts")) == 0
    assert np.array_equal(weights(tmp_path / "parts", 7), weights(tmp_path / "whole", 7))
    for file in ("grid.png", "noise_to_image.gif"):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    ours, theirs = (folders.read_metrics(tmp_path / run / "metrics.jsonl") for run in ("parts", "whole"))
    values = ("step", "loss", "lr", "grad_norm")
    assert [[line[v] for v in values] for line in ours] == [[line[v] for v in values] for line in theirs]


def test_previews_and_checkpoints_change_nothing(tmp_path, settings):
    loop.train(settings(), tmp_path / "quiet")
    loop.train(settings(preview_every=1, save_every=1), tmp_path / "busy")
    assert np.array_equal(weights(tmp_path / "quiet", 6), weights(tmp_path / "busy", 6))


def test_minutes_are_steps_to_the_bit(tmp_path, settings, monkeypatch):
    """--minutes fixes a number of steps, keeps it, and does what --steps with that number does."""
    asked, start = [], time.perf_counter()

    def five_more(budget, step, *seconds):
        asked.append((time.perf_counter() - start, *seconds))
        return step + 5

    monkeypatch.setattr(pace, "MEASURED_SECONDS", 0.05)
    monkeypatch.setattr(pace.Budget, "steps", five_more)
    config = settings(steps=None, minutes=5.0, warmup=10)
    assert loop.train(config, tmp_path / "minutes") == 0
    [(now, elapsed, shown, every, final)] = asked
    assert 0 < elapsed < now and every == loop.PREVIEW_SECONDS and shown > 0
    assert final / shown == pytest.approx(preview.FINAL.passes(3) / preview.PREVIEW.passes(3))
    stored = read_toml(Config, tmp_path / "minutes" / "config.toml").run
    assert stored.minutes is None
    assert 8 <= stored.steps <= 15
    found = checkpoints.find(tmp_path / "minutes")
    assert (found.config.run, found.step) == (stored, stored.steps)
    loop.train(settings(steps=stored.steps, warmup=10), tmp_path / "steps")
    assert np.array_equal(weights(tmp_path / "minutes", stored.steps), weights(tmp_path / "steps", stored.steps))


@pytest.mark.release  # by the clock, which must have the machine for itself
def test_minutes_end_in_time(tmp_path, settings):
    start = time.perf_counter()
    assert loop.train(settings(steps=None, minutes=4 / 60, warmup=10), tmp_path / "run") == 0
    seconds = time.perf_counter() - start
    assert 2 < seconds < 8, "4 seconds were asked for; a busy machine gets twice that"


def test_minutes_stopped_before_they_are_steps_are_minutes_again(tmp_path, settings, monkeypatch):
    config = settings(steps=None, minutes=5.0, warmup=10)
    with stop_after(monkeypatch, 2):
        loop.train(config, tmp_path / "run")
    found = checkpoints.find(tmp_path / "run")
    assert (found.config.run.steps, found.config.run.minutes) == (None, 5.0)
    monkeypatch.setattr(pace.Budget, "steps", lambda self, step, *_: step + 1)
    assert loop.train(found.config, resume=found) == 0


def test_minutes_neither_given_are_eight_and_a_half(tmp_path, settings, monkeypatch):
    with stop_after(monkeypatch, 1):
        loop.train(settings(steps=None), tmp_path / "run")
    assert read_toml(Config, tmp_path / "run" / "config.toml").run.minutes == 8.5


def test_minutes_for_a_run_whose_rate_falls_are_one_line(tmp_path, settings):
    loop.train(settings(steps=10, warmup=10), tmp_path / "run")
    line = fails(settings(steps=None, minutes=1.0, warmup=10), resume=checkpoints.find(tmp_path / "run"))
    assert line == "--minutes sets the end while the learning rate warms up; this run is at step 10: give --steps"


def test_metrics_go_back_to_the_step_resumed_from(tmp_path, settings, monkeypatch):
    """Killed after step 5, with a checkpoint of step 4 and half a line: step 5 is computed, and told, once more."""

    def die(_):
        raise ZeroDivisionError

    run = tmp_path / "run"
    with after_step(monkeypatch, 6, die), pytest.raises(ZeroDivisionError):
        loop.train(settings(steps=8, save_every=4), run)
    path = run / "metrics.jsonl"
    assert [line["step"] for line in folders.read_metrics(path)] == [1, 2, 3, 4, 5]
    with path.open("a") as file:
        file.write('{"step": 6, "lo')
    (run / "checkpoints" / ".step_00000005.safetensors.0123abcd.tmp").write_bytes(b"half")
    loop.train(settings(steps=8), resume=checkpoints.find(run))
    lines = folders.read_metrics(path)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert all(a["seconds"] < b["seconds"] for a, b in pairwise(lines))
    assert not list((run / "checkpoints").glob(".*"))


def test_a_damaged_newest_checkpoint_is_put_aside(tmp_path, settings, capsys):
    run = tmp_path / "run"
    loop.train(settings(save_every=2), run)
    newest = checkpoints.path_of(run, 6)
    good = weights(run, 6)
    newest.write_bytes(newest.read_bytes()[:1000])
    loop.train(settings(), resume=checkpoints.find(run))
    assert f"skipped: {newest} is damaged" in capsys.readouterr().out
    assert np.array_equal(weights(run, 6), good)
    assert (run / "checkpoints" / f"{newest.name}.damaged").stat().st_size == 1000


def test_going_on_from_the_middle_asks_to_move_what_is_newer(tmp_path, settings):
    run = tmp_path / "run"
    loop.train(settings(save_every=2), run)
    line = fails(settings(), resume=checkpoints.load(checkpoints.path_of(run, 2)))
    newer = checkpoints.path_of(run, 4)
    assert line == f"{newer} is newer than step 2; to go on from there, move the newer ones away"
    assert len(checkpoints.paths_in(run)) == 3


def test_a_finished_run_draws_again_and_goes_further_if_asked(tmp_path, settings):
    run = tmp_path / "run"
    loop.train(settings(), run)
    (run / "grid.png").unlink()
    assert loop.train(settings(), resume=checkpoints.find(run)) == 0
    assert (run / "grid.png").exists()
    assert loop.train(settings(steps=8), resume=checkpoints.find(run)) == 0
    assert checkpoints.find(run).step == 8
    line = fails(settings(steps=7), resume=checkpoints.find(run))
    assert line == "--steps 7: the run is at step 8 already"


# -- leaving ----------------------------------------------------------------------------------------------------------


def test_a_stopped_run_saves_and_says_how_to_go_on(tmp_path, settings, monkeypatch, capsys):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_after(monkeypatch, 3):
        assert loop.train(settings(), tmp_path / "run") == 130
    assert checkpoints.find(tmp_path / "run").step == 3
    assert not (tmp_path / "run" / "grid.png").exists()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"stopped after step 3; go on with: python -m minidiff.train --resume {tmp_path / 'run'}"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_second_ctrl_c_does_not_wait(tmp_path, settings, monkeypatch, request):
    # a shell starts what runs in its background deaf to Ctrl-C, these tests too
    request.addfinalizer(partial(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(stopping, "MOMENT", -1.0)
    with stop_after(monkeypatch, 3), stop_after(monkeypatch, 3), pytest.raises(KeyboardInterrupt):
        loop.train(settings(), tmp_path / "run")


def test_two_signals_at_once_are_one_wish(tmp_path, settings, monkeypatch):
    """A terminal and a supervisor both pass it on, or each has its own: the run still saves, and says which came."""

    def both(_):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)

    monkeypatch.setattr(stopping, "MOMENT", math.inf)
    with after_step(monkeypatch, 3, both):
        assert loop.train(settings(), tmp_path / "run") == 130
    assert checkpoints.find(tmp_path / "run").step == 3


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_a_closed_terminal_stops_a_run_unless_it_was_told_to_outlive_it(tmp_path, settings, monkeypatch, request):
    request.addfinalizer(partial(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP)))
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with stop_after(monkeypatch, 3, signal.SIGHUP):
        assert loop.train(settings(), tmp_path / "run") == 129
    assert checkpoints.find(tmp_path / "run").step == 3
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with stop_after(monkeypatch, 3, signal.SIGHUP):
        assert loop.train(settings(), tmp_path / "nohup") == 0


class HungUp(io.StringIO):
    """A stream whose reader leaves after step 3."""

    gone = False

    def write(self, text):
        if self.gone:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        return len(text)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_run_that_nobody_reads_any_more_saves_and_leaves(tmp_path, settings, monkeypatch, stream):
    """With `2>&1 | head` the bar is what fails, with `| head` a line on the way or, at the latest, the last one."""
    pipe = HungUp()
    monkeypatch.setattr(sys, stream, pipe)
    at_each_step = lambda name, **options: tqdm(desc=name, mininterval=0, miniters=1, **options)
    monkeypatch.setattr(console, "progress_bar", at_each_step)
    with after_step(monkeypatch, 3, lambda _: setattr(HungUp, "gone", True)):
        code = loop.train(settings(steps=9), tmp_path / "run")
    HungUp.gone = False
    assert code == 141
    assert checkpoints.find(tmp_path / "run").step == (9 if stream == "stdout" else 3)


def test_a_run_has_its_folder_to_itself(tmp_path, settings):
    pytest.importorskip("fcntl", reason="Windows has no such locks")
    run = tmp_path / "run"
    loop.train(settings(save_every=2), run)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    with files.claimed(run):
        line = fails(settings(steps=8), resume=checkpoints.find(run))
        assert line == f"another process is writing into {run}; stop it, or wait for it"
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_a_run_stopped_while_it_draws_has_its_weights(tmp_path, settings, monkeypatch):
    draw = preview.draw

    def interrupted(trainer, sheet):
        for step in draw(trainer, sheet):
            signal.raise_signal(signal.SIGTERM)
            yield step

    with monkeypatch.context() as patch:
        patch.setattr(preview, "draw", interrupted)
        assert loop.train(settings(), tmp_path / "run") == 143
    assert checkpoints.find(tmp_path / "run").step == 6
    assert not (tmp_path / "run" / "grid.png").exists()


# -- previews ----------------------------------------------------------------------------------------------------------


def test_a_sheet_says_how_many_steps_a_short_schedule_had(tmp_path, trainer):
    preview.Samples(trainer(num_timesteps=2)).save_preview(tmp_path / "sheet.png")
    assert read_metadata(tmp_path / "sheet.png")["steps"] == 2


def test_sheets_are_drawn_in_parts_no_larger_than_trainings(trainer):
    """The noise of an image is its own, so the parts come to the sheet that one part would."""
    sheets = []
    for batch in ({"batch_size": 6}, {"batch_size": 8, "accumulate": 4}):
        it, animation = trainer(**batch), Animation()
        it.parameters.w[:] += 0.05  # a network that says something
        parts = []
        for part, step in preview.draw(it, preview.FINAL):
            assert len(step.x_t) == part.stop - part.start <= preview.part_size(it)
            animation.add(part, step)
            if step.index == step.steps - 1:
                parts.append(to_uint8(step.x_prev))
        assert len(parts) * preview.FINAL.steps == preview.total_steps(it, preview.FINAL)
        sheets.append(np.concatenate(parts))
        frames = [np.concatenate([pair[0] for pair in animation.frames[index]]) for index in sorted(animation.frames)]
        assert len(frames) == 1 + preview.FINAL.steps and np.array_equal(frames[-1], sheets[-1])
    assert np.abs(sheets[0].astype(int) - sheets[1]).max() <= 1  # a matrix product of another size rounds otherwise
    assert sheets[0].std() > 10


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOSPC, "full"), ValueError("a bug\nof two lines")])
def test_a_preview_that_fails_is_said_and_ends_no_training(tmp_path, settings, monkeypatch, capsys, error):
    def fail(*_):
        raise error

    config = settings(steps=None, minutes=5.0, warmup=10, preview_every=1, save_every=1, keep=99)
    monkeypatch.setattr(preview.Samples, "save_preview", fail)
    monkeypatch.setattr(pace, "MEASURED_SECONDS", 0.01)
    monkeypatch.setattr(pace.Budget, "steps", lambda self, step, *_: step + 1)
    assert loop.train(config, tmp_path / "run") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("no preview of step 1: ")]
    said = {
        "MemoryError": "out of memory",
        "OSError": "no space left on the disk",
        "ValueError": "ValueError: a bug of",
    }
    assert len(lines) == 1 and lines[0].startswith(f"no preview of step 1: {said[type(error).__name__]}")
    assert checkpoints.step_of(checkpoints.paths_in(tmp_path / "run")[0]) == 1


def test_final_images_that_fail_leave_the_checkpoint_and_name_it(tmp_path, settings, monkeypatch):
    def fail(*_):
        raise MemoryError
        yield

    monkeypatch.setattr(preview, "draw", fail)
    line = fails(settings(), tmp_path / "run")
    assert line == f"out of memory; the last good checkpoint is {checkpoints.path_of(tmp_path / 'run', 6)}"


# -- what can go wrong ------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_names_step_layer_and_checkpoint(tmp_path, settings, monkeypatch):
    def poison(it):
        it.model.up[0].block.conv1.w.data[:] = np.nan

    with after_step(monkeypatch, 5, poison):
        line = fails(settings(save_every=2, steps=9), tmp_path / "run")
    good = checkpoints.path_of(tmp_path / "run", 4)
    assert line == (
        f"the loss is nan at step 6; it arose in up.0.block.conv1 (Conv2d); the last good checkpoint is {good}"
    )
    assert checkpoints.find(tmp_path / "run").path == good


def test_weights_that_are_not_finite_are_not_saved(tmp_path, settings, monkeypatch):
    def poison(it):
        it.parameters.w[7] = np.inf

    with after_step(monkeypatch, 4, poison):
        line = fails(settings(save_every=2, steps=9), tmp_path / "run")
    good = checkpoints.path_of(tmp_path / "run", 2)
    assert line == f"the weights are not finite after step 4; the last good checkpoint is {good}"
    assert checkpoints.find(tmp_path / "run").path == good


def test_a_wild_learning_rate_ends_in_one_line(tmp_path, settings):
    line = fails(settings(lr=1e12, warmup=0, steps=9), tmp_path / "run")
    assert "at step 2; it arose in " in line or "at step 3; it arose in " in line
    assert line.endswith(f"no checkpoint had been written to {tmp_path / 'run'} yet")


def test_a_full_disk_is_one_line_and_the_last_checkpoint_is_whole(tmp_path, settings, monkeypatch):
    run, real = tmp_path / "run", os.fsync

    def fill(_):
        def full(descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)

    with after_step(monkeypatch, 5, fill):
        line = fails(settings(save_every=2, steps=9), run)
    monkeypatch.setattr(os, "fsync", real)
    path, good = checkpoints.path_of(run, 6), checkpoints.path_of(run, 4)
    assert line == f"no space left on the disk: {path}; the last good checkpoint is {good}"
    assert checkpoints.find(run).path == good
    assert sorted(path.name for path in good.parent.iterdir()) == ["step_00000002.safetensors", good.name]


def test_a_full_disk_while_metrics_are_written_is_one_line(tmp_path, settings, monkeypatch):
    def full(self, **values):
        if values["step"] == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        write(self, **values)

    write = folders.Metrics.write
    monkeypatch.setattr(folders.Metrics, "write", full)
    line = fails(settings(save_every=2), tmp_path / "run")
    good = checkpoints.path_of(tmp_path / "run", 2)
    metrics = tmp_path / "run" / "metrics.jsonl"
    assert line == f"no space left on the disk: {metrics}; the last good checkpoint is {good}"


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path, settings):
    (tmp_path / "mine.txt").write_text("mine")
    line = fails(settings(), tmp_path)
    assert line == (
        f"--out {tmp_path} is not empty, and nothing is overwritten; take another --out, or go on with --resume "
        f"{tmp_path}"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert fails(settings(), tmp_path / "mine.txt").startswith(f"--out {tmp_path / 'mine.txt'} is a file")
    below = tmp_path / "mine.txt" / "run"
    assert fails(settings(), below) == f"cannot make the folder {below}: Not a directory"


def test_an_unwritable_folder_is_one_line(tmp_path, settings, monkeypatch):
    def forbidden(self, *_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(type(tmp_path), "mkdir", forbidden)
    line = fails(settings(), tmp_path / "run")
    assert line == f"cannot make the folder {tmp_path / 'run'}: Permission denied"


@pytest.mark.parametrize("command", ["train", "sample"])
def test_of_many_who_ask_for_one_folder_at_once_one_gets_it(tmp_path, command):
    pytest.importorskip("fcntl", reason="Windows has no such locks")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "new", tmp_path / "empty"):
        got, at_once, everybody = [], threading.Barrier(8), threading.Barrier(8)

        def ask(path=path, got=got, at_once=at_once, everybody=everybody):
            at_once.wait()
            with contextlib.suppress(MinidiffError):
                with outputs.new_folder(path) if command == "sample" else folders.created(path) as made:
                    got.append(made)
                    everybody.wait()
                return
            everybody.wait()

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert got == [path]


def test_a_warm_up_longer_than_the_run_is_said(tmp_path, settings, capsys):
    loop.train(settings(steps=3, warmup=12), tmp_path / "run")
    line = (
        "note     3 steps end within the 12 of the warm-up, at a learning rate of 0.0005 instead of 0.002; --warmup 1 "
    )
    assert line in capsys.readouterr().out
    loop.train(settings(steps=3, warmup=3), tmp_path / "other")
    assert "note" not in capsys.readouterr().out


def test_more_memory_than_there_is_is_refused_before_it_is_taken(tmp_path, settings, trainer, monkeypatch):
    line = fails(settings(model_channels=1 << 14, channel_mult=(1, 256)), tmp_path / "run")
    assert line.startswith("a network of ") and "; this machine has " in line
    monkeypatch.setattr(build, "memory", lambda: 1 << 20)
    line = fails(settings(batch_size=64), tmp_path / "run")
    assert "trained on 64 images of 8×8 at once, needs more than " in line and not (tmp_path / "run").exists()
    trainer(batch_size=64, accumulate=64)


@pytest.mark.parametrize(
    "bad",
    [
        '{"step": 3, "loss": 1.0}', '{"step": 3, "seconds": 1.0}', '{"step": true, "loss": 1.0, "seconds": 1.0}',
        '{"step": 3, "loss": "1", "seconds": 1.0}', '{"step": 3, "loss": NaN, "seconds": 1.0}', '{"step": 3, "lo',
        '{"step": 3, "loss": 1.0, "seconds": 1' + "0" * 400 + "}", "[" * 10**5, "9" * 5000, "\xff", "3", "",
        '{"step": 3, "loss": 1.0, "seconds": 1.0, "more": ' + "[" * 900 + "]" * 900 + "}",
        '{"step": 1, "loss": 1.0, "seconds": 1.0}', '{"step": -3, "loss": 1.0, "seconds": 1.0}',
    ],
)  # fmt: skip
def test_metrics_that_make_no_sense_are_passed_over(tmp_path, bad):
    path = tmp_path / "metrics.jsonl"
    good = [{"step": step, "loss": 0.5, "seconds": 1.0} for step in (1, 2, 4)]
    lines = [json.dumps(line) for line in good]
    path.write_text("\n".join([*lines[:2], bad, lines[2]]) + "\n", encoding="latin-1")
    assert folders.read_metrics(path) == good
    with contextlib.closing(folders.Metrics(tmp_path, 4)) as metrics:
        assert metrics.seconds == 1.0


def test_metrics_are_bounded(tmp_path, monkeypatch):
    """In all, and in each line, of which a file may have one without end."""
    path, line = tmp_path / "metrics.jsonl", '{"step": 1, "loss": 1.0, "seconds": 1.0}'
    with path.open("w") as file:
        file.write(f"{line}\n")
        file.truncate(8 << 20)
    tracemalloc.start()
    try:
        assert folders.read_metrics(path) == [json.loads(line)]
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    monkeypatch.setattr(folders, "MAX_METRICS", 100)
    with pytest.raises(MinidiffError, match=rf"^{path} holds {8 << 20} bytes; expected at most 100$"):
        folders.read_metrics(path)


def test_nothing_is_written_for_settings_that_make_no_network(tmp_path, settings):
    assert "attention_at: no level has height 5" in fails(settings(attention_at=(5,)), tmp_path / "run")
    assert "4 levels need a height and a width that 8 divides" not in fails(settings(batch_size=0), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_runs_without_a_name_are_dated_and_never_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = []
    for _ in range(3):
        with folders.created(None) as run:
            made.append(run)
    assert len(set(made)) == 3
    assert {path.parent.name for path in made} == {"runs"}


def test_a_checkpoint_outside_a_run_cannot_be_gone_on_with(tmp_path, settings):
    loop.train(settings(), tmp_path / "run")
    lone = tmp_path / "lone.safetensors"
    checkpoints.path_of(tmp_path / "run", 6).rename(lone)
    line = fails(settings(), resume=checkpoints.load(lone))
    assert line == f"{lone} does not lie in a run's folder; expected RUN/checkpoints/lone.safetensors"


# -- what is printed, and comes from files ----------------------------------------------------------------------------


def test_the_command_that_comes_next_draws(tmp_path, toy, settings, capsys):
    """Also where the schedule is short, and the label's name is one that a shell or a terminal stumbles over."""
    with np.load(toy) as file:
        np.savez(tmp_path / "toy\x1b.npz", **file, classes=["--help", "\x1b[2Jgone", "c"])
    loop.train(settings(num_timesteps=5, data_dir=tmp_path / "toy\x1b.npz"), tmp_path / "run")
    text = capsys.readouterr().out
    assert "\x1b" not in text
    _, words = next(line for line in text.splitlines() if "minidiff.sample" in line).split(" -m minidiff.sample ")
    small = ["--count", "1", "--backend", "numpy", "--out", str(tmp_path / "drawn")]
    sample.main([*shlex.split(words), *small])
    about = read_metadata(tmp_path / "drawn" / "grid.png")["settings"]
    assert (about["steps"], about["label"], about["guidance_scale"]) == (5, [r"\x1b[2Jgone"], 3)
