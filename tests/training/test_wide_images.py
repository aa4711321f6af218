"""A folder's images of two sizes, height and width, from training to drawing."""

from functools import partial

import numpy as np
import pytest
from PIL import Image

from minidiff import checkpoint as checkpoints
from minidiff import sample as sampling
from minidiff import train as command
from minidiff.checkpoint.config import Config
from minidiff.checkpoint.settings import read_toml
from tests import mistakes

SMALL = ["--model-channels", 8, "--channel-mult", 1, 2, "--heads", 2, "--groups", 2, "--batch-size", 4]
SMALL += ["--backend", "numpy"]
fails = partial(mistakes.of_command, command.main)


@pytest.fixture
def photos(tmp_path):
    """Twelve noisy images, some wide and some tall."""
    folder, random = tmp_path / "photos", np.random.default_rng(0)
    folder.mkdir()
    for i in range(12):
        shape = (20, 30, 3) if i % 2 else (30, 20, 3)
        Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(folder / f"{i:02d}.png")
    return folder


def train(*words):
    command.main([str(word) for word in words])


def test_a_resumed_training_of_wide_images_is_the_whole_one(photos, tmp_path, capsys):
    run, data = tmp_path / "run", ["--data", "folder", "--data-dir", photos, "--size", 8, 12]
    train(*data, *SMALL, "--steps", 2, "--out", run)
    assert "data     photos, 8×12 in colour, no labels: " in capsys.readouterr().out
    assert read_toml(Config, run / "config.toml").data.size == (8, 12)
    line = fails(capsys, "--resume", run, "--steps", 4, "--size", 12, 8)
    assert line == f"{checkpoints.path_of(run, 2)} was trained with other settings: --size 8 12 there, 12 8 asked"
    train("--resume", run, "--steps", 4)
    train(*data, *SMALL, "--steps", 4, "--out", tmp_path / "alone")
    resumed, whole = (checkpoints.load(checkpoints.path_of(tmp_path / name, 4)).tensors for name in ("run", "alone"))
    for name, weights in whole["model"].items():
        np.testing.assert_array_equal(weights, resumed["model"][name])


def test_wide_images_are_drawn(photos, tmp_path):
    run = tmp_path / "run"
    train("--data", "folder", "--data-dir", photos, "--size", 8, 12, *SMALL, "--steps", 1, "--out", run)
    words = [
        "--checkpoint",
        run,
        "--count",
        3,
        "--steps",
        2,
        "--array",
        "--backend",
        "numpy",
        "--out",
        tmp_path / "drawn",
    ]
    sampling.main([str(word) for word in words])
    with np.load(tmp_path / "drawn" / "samples.npz") as arrays:
        assert arrays["arr_0"].shape == (3, 8, 12, 3)


def test_a_size_that_the_network_cannot_have_is_one_line(photos, tmp_path, capsys):
    words = ["--data", "folder", "--data-dir", photos, "--size", 8, 13, *SMALL, "--steps", 1, "--out", tmp_path / "run"]
    line = fails(capsys, *words)
    assert line.endswith("need a height and a width that 2 divides (2, 4, 6, …), got 8×13")
    assert not (tmp_path / "run").exists()
