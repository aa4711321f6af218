"""A studio that several test files speak to: a tiny model that reads prompts, and one with labels, as a run."""

import json
import time
import urllib.request

import pytest

from tests import tiny_model
from tests.studio.running import PATIENCE, Studio, running


@pytest.fixture(scope="session")
def studio(tmp_path_factory):
    pytest.importorskip("uvicorn")
    folder = tmp_path_factory.mktemp("studio")
    checkpoint = tiny_model.write(folder / "words", words=tiny_model.WORDS)
    tiny_model.write(folder / "runs" / "labels")
    with running("--checkpoint", checkpoint, folder=folder) as started:
        yield started


@pytest.fixture(autouse=True)
def at_rest(request):
    """What the test before left to itself is drawn and saved before the next one looks at the pictures."""
    started = request.getfixturevalue("studio") if "studio" in request.fixturenames else None
    deadline = time.monotonic() + PATIENCE
    while isinstance(started, Studio):
        with urllib.request.urlopen(f"{started.url}/api/state") as reply:
            state = json.load(reply)
        if not state["queue"] and all(each["state"] not in ("queued", "running") for each in state["drawings"]):
            break
        assert time.monotonic() < deadline, state
        time.sleep(0.01)
