"""The benchmark of replay measures what it says, and notices other bits."""

import json

import pytest

from benchmarks import graphed
from minidiff import backend


@pytest.fixture(autouse=True)
def own_backend(monkeypatch):
    monkeypatch.setattr(backend, "_stack", [])


@pytest.mark.release
def test_it_runs(capsys):
    graphed.main(["--quick"])
    found = json.loads(capsys.readouterr().out)
    assert {"step/default", "step/plain", "drawing/16", "drawing/1"} < found.keys()
    for name in ("step/default", "step/plain"):
        assert found[name]["calls"] > 300 and found[name]["memory_mib"] > 0
    assert all(found[name]["ratio"] > 0 for name in found if "/" in name)


def test_other_bits_are_noticed():
    class Restless:
        def __init__(self):
            self.calls = 0

        def run(self):
            self.calls += 1

        def result(self):
            return graphed.np.array([id(self)])

    with pytest.raises(graphed.MinidiffError, match="other bits"):
        graphed.measure(Restless, 1)
