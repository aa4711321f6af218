"""Signs of life: who is silent is named, who fails says why, and who is late is waited for."""

import queue
import time

import pytest

from minidiff.errors import MinidiffError
from minidiff.processes import heartbeat
from minidiff.processes.command import reporter
from minidiff.processes.heartbeat import Heartbeat


class Wire:
    """Lines between processes that are threads of this test; some may be cut."""

    def __init__(self, size):
        self.boxes, self.cut = [queue.Queue() for _ in range(size)], set()

    def line(self, rank):
        wire, boxes = self, self.boxes

        class Line:
            size = len(boxes)

            def send(self, peer, sign):
                assert len(sign) <= heartbeat.LENGTH
                if not {rank, peer} & wire.cut:
                    boxes[peer].put((rank, sign))

            def receive(self):
                return [boxes[rank].get() for _ in range(boxes[rank].qsize())]

        Line.rank = rank
        return Line()


@pytest.fixture
def start(monkeypatch):
    """A function that starts the heartbeats of so many processes, on hosts a, b, …"""
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.01)
    monkeypatch.setattr(heartbeat, "GRACE", 0.3)
    started = []

    def start(size, silence=0.3):
        wire, gone = Wire(size), []
        for rank in range(size):
            give_up = lambda problem, rank=rank: gone.append((rank, problem))
            started.append(Heartbeat(wire.line(rank), list("abcdef"[:size]), silence, give_up))
        return started[-size:], wire, gone

    yield start
    for beat in started:
        beat.stop()


def until(holds, seconds=10):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_nothing_happens_while_all_live(start):
    beats, _, gone = start(4, silence=1.5)
    time.sleep(2)
    for beat in beats:
        beat.check()
    assert not gone


def test_all_hear_of_a_process_that_is_silent(start):
    beats, wire, gone = start(4)
    wire.cut.add(2)
    others = [beats[0], beats[1], beats[3]]
    until(lambda: all(beat.problem for beat in others))
    for beat in others:
        with pytest.raises(MinidiffError, match=r"^process 2 on c has given no sign of life for \d+ s$"):
            beat.check()
    until(lambda: beats[2].problem)
    assert "process 0 on a has given no sign" in beats[2].problem  # so it looks from there
    assert (beats[0].silent, beats[1].silent, beats[2].silent) == (2, None, 0)
    until(lambda: {rank for rank, _ in gone} == {0, 1, 2, 3})  # their main threads have not ended them


def test_all_notice_if_process_0_is_silent(start):
    beats, wire, _ = start(3)
    wire.cut.add(0)
    until(lambda: all(beat.problem for beat in beats[1:]))
    assert beats[1].silent == beats[2].silent == 0


@pytest.mark.parametrize("rank, said", [(2, "process 2 on c: no space left"), (0, "no space left")])
def test_all_hear_why_a_process_ends(start, rank, said):
    beats, _, _ = start(3, silence=60)
    beats[rank].tell("no space left")
    others = [beat for beat in beats if beat is not beats[rank]]
    until(lambda: all(beat.problem for beat in others))
    assert {beat.problem for beat in others} == {said}


def test_a_long_reason_is_cut(start):
    beats, _, _ = start(2, silence=60)
    beats[1].tell("é€" * 1000)
    until(lambda: beats[0].problem)
    assert beats[0].problem.startswith("process 1 on b: é€é€") and len(beats[0].problem) < heartbeat.LENGTH


def test_somebody_who_lives_prints_the_error():
    assert reporter(["a", "a", "b"], None) == 0 and reporter(["a", "a", "b"], 1) == 0
    assert reporter(["a", "a", "b"], 0) == 2  # the other one on a may be gone as well
    assert reporter(["a", "a"], 0) == 1
