"""A studio that several test files speak to: a tiny model that reads prompts, and one with labels, as a run."""

import pytest

from tests import tiny_model
from tests.studio.running import running


@pytest.fixture(scope="session")
def studio(tmp_path_factory):
    pytest.importorskip("uvicorn")
    folder = tmp_path_factory.mktemp("studio")
    checkpoint = tiny_model.write(folder / "words", words=tiny_model.WORDS)
    tiny_model.write(folder / "runs" / "labels")
    with running("--checkpoint", checkpoint, folder=folder) as started:
        yield started
