"""A metrics.jsonl that grows, stops in the middle of a line, and is written anew; and curves of fewer points."""

import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff.errors import MinidiffError
from minidiff.files import write_atomically
from minidiff.studio import metrics
from minidiff.studio.metrics import MetricsTail, chosen, last_line
from minidiff.training.run_dir import read_metrics


def line(step, loss=1.0, **more):
    values = {"step": step, "loss": loss, "lr": 1e-3, "grad_norm": 0.5, "images_per_second": 9.0, "seconds": step / 4}
    return (json.dumps(values | more) + "\n").encode()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def append(path, data):
    with path.open("ab") as file:
        file.write(data)


def steps(tail):
    tail.read()
    return [int(step) for step in tail.columns["step"]]


def test_only_what_was_added_is_read(path, monkeypatch):
    tail = MetricsTail(path)
    parsed = []
    parse = metrics.parse_line
    monkeypatch.setattr(metrics, "parse_line", lambda text: parsed.append(text) or parse(text))
    append(path, line(1) + line(2))
    assert steps(tail) == [1, 2] and steps(tail) == [1, 2]
    append(path, line(3))
    assert steps(tail) == [1, 2, 3] and len(parsed) == 3 and tail.rewritten == 0
    assert (tail.step, tail.seconds, tail.rate()) == (3, 0.75, 4.0)


def test_a_half_written_line_waits_for_its_end(path):
    tail, whole = MetricsTail(path), line(1) + line(2)
    for end in range(len(whole) + 1):  # byte by byte
        path.write_bytes(b"")
        append(path, whole[:end])
        assert steps(MetricsTail(path)) == [1, 2][: whole[:end].count(b"\n")]
    path.write_bytes(whole[:-5])
    assert steps(tail) == [1]
    append(path, whole[-5:])
    assert steps(tail) == [1, 2]


@given(st.lists(st.integers(1, 400), max_size=12), st.integers(1, 50))
def test_however_it_grows_the_lines_are_those_of_the_whole_file(tmp_path_factory, pieces, chunk):
    path = tmp_path_factory.mktemp("run") / "metrics.jsonl"
    whole = b"".join([line(1), b"not a line\n", line(3), b"x" * 5000 + b"\n", b"\xff\n", line(3), line(2), line(7)])
    path.touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "_CHUNK", 97 * chunk)
        tail = MetricsTail(path)
        start = 0
        for size in [*(13 * piece for piece in pieces), len(whole)]:
            append(path, whole[start : start + size])
            start += size
            tail.read()
    assert steps(tail) == [1, 3, 7] == [each["step"] for each in read_metrics(path)]


def test_a_file_that_was_written_anew_is_read_anew(path):
    tail = MetricsTail(path)
    append(path, b"".join(line(k) for k in range(1, 9)))
    assert len(steps(tail)) == 8
    write_atomically(path, b"".join(line(k) for k in range(1, 5)))  # as --resume does
    assert steps(tail) == [1, 2, 3, 4] and tail.rewritten == 1
    append(path, line(5, loss=9.0))
    assert steps(tail) == [1, 2, 3, 4, 5] and tail.columns["loss"][-1] == 9 and tail.rewritten == 1


@pytest.mark.parametrize("length", [3, 8, 20])
def test_a_file_that_was_written_anew_in_its_place_is_read_anew(path, length):
    """The inode of a file may be that of the one before it."""
    tail = MetricsTail(path)
    path.write_bytes(b"".join(line(k, loss=1.0) for k in range(1, 9)))
    assert len(steps(tail)) == 8
    path.write_bytes(b"".join(line(k, loss=2.0) for k in range(1, length + 1)))
    assert len(steps(tail)) == length and set(tail.columns["loss"]) == {2.0} and tail.rewritten == 1


def test_a_file_that_is_gone_or_no_file(path):
    tail = MetricsTail(path)
    for make in (lambda: None, path.mkdir, lambda: (path.rmdir(), os.mkfifo(path))):
        make()
        with pytest.raises((FileNotFoundError, MinidiffError)):
            tail.read()
    assert tail.step == 0 and tail.rate() is None
    assert tail.thinned(0, 10) == {"step": [], "loss": []}


def test_a_number_that_lines_lack_is_none(path):
    short = json.dumps({"step": 2, "loss": 3, "seconds": 1, "another": 7}).encode() + b"\n"
    path.write_bytes(line(1) + short)
    tail = MetricsTail(path)
    tail.read()
    thin = tail.thinned(0, 10)
    assert thin["step"] == [1, 2] and thin["lr"] == [1e-3, None] and "another" not in thin
    path.write_bytes(short)
    tail.read()
    assert tail.thinned(0, 10) == {"step": [2], "loss": [3], "seconds": [1]}
    json.dumps(thin, allow_nan=False)


def test_the_speed_is_that_of_the_last_minute(path):
    slow = b"".join(line(k, seconds=10.0 * k) for k in range(1, 101))
    fast = b"".join(line(k, seconds=1000 + (k - 100) / 2) for k in range(101, 301))
    path.write_bytes(slow + fast)
    tail = MetricsTail(path)
    tail.read()
    assert tail.rate() == pytest.approx(2)
    path.write_bytes(line(1) + line(2, seconds=0.25))
    tail.read()
    assert tail.rate() is None  # a coarse clock


@given(st.lists(st.floats(-1e6, 1e6), max_size=300), st.integers(-3, 60))
def test_thinning_keeps_the_ends_and_the_extremes(values, points):
    values = np.array(values)
    rows = chosen(values, points)
    most = max(points, 2)
    assert len(rows) == min(len(values), most) or len(rows) <= most < len(values)
    assert (np.diff(rows) > 0).all()
    if len(values):
        assert rows[0] == 0 and rows[-1] == len(values) - 1
        if most >= 4:
            assert values[rows].min() == values.min() and values[rows].max() == values.max()


def test_metrics_are_thinned_after_a_step(path):
    path.write_bytes(b"".join(line(k, loss=100.0 if k == 777 else 1.0) for k in range(1, 2001)))
    tail = MetricsTail(path)
    tail.read()
    thin = tail.thinned(500, 40)
    assert thin["step"][0] == 501 and thin["step"][-1] == 2000 and len(thin["step"]) <= 40
    assert thin["loss"][thin["step"].index(777)] == 100
    assert {len(column) for column in thin.values()} == {len(thin["step"])}
    assert tail.thinned(1999, 40)["step"] == [2000] and tail.thinned(2000, 40)["step"] == []


def test_the_last_line_is_found_from_the_end(path):
    path.write_bytes(b"")
    assert last_line(path) is None
    path.write_bytes(b"".join(line(k) for k in range(1, 500)) + line(500)[:-9])
    assert last_line(path)["step"] == 499
    append(path, b"\n" + b"junk\n")
    assert last_line(path)["step"] == 499
