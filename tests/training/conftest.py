"""A training small enough for a test: 36 images of 8×8 in three classes, a network of five thousand weights."""

import dataclasses

import numpy as np
import pytest

from minidiff import backend
from minidiff.checkpoint.config import Config, DiffusionConfig, ModelConfig, OptimizerConfig, RunConfig
from minidiff.data.config import DataConfig
from minidiff.data.open import open_data
from minidiff.scenes import scenes
from minidiff.training import preview
from minidiff.training.trainer import Trainer


@pytest.fixture(autouse=True)
def own_backend(monkeypatch):
    """A command selects a backend for its whole process, which here is the tests'; most tests want the plain one."""
    monkeypatch.setattr(backend, "_stack", [])
    backend.use("numpy")


@pytest.fixture(autouse=True)
def small_sheets(monkeypatch):
    """Sheets of samples that are drawn in milliseconds; what is tested is when they come and what they leave alone."""
    monkeypatch.setattr(preview, "PREVIEW", preview.SampleGrid(count=3, steps=2))
    monkeypatch.setattr(preview, "FINAL", preview.SampleGrid(count=6, steps=3))


@pytest.fixture(autouse=True)
def few_scenes_ahead(monkeypatch):
    """Scenes are rendered 16 at once, not 256: runs of a few steps need no more, and the plain rasteriser is slow."""
    monkeypatch.setattr(scenes, "_AHEAD", 16)


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """An .npz of 40 images: a bright square, red, green or blue, somewhere on a dark ground."""
    random = np.random.default_rng(0)
    labels = np.arange(40) % 3
    images = np.zeros((40, 8, 8, 3), np.uint8)
    for image, label in zip(images, labels):
        x, y = random.integers(0, 5, 2)
        image[:] = random.integers(0, 60, 3)
        image[y : y + 3, x : x + 3, label] = 255
    path = tmp_path_factory.mktemp("toy") / "toy.npz"
    np.savez(path, images=images, labels=labels)
    return path


@pytest.fixture
def settings(toy):
    """A function from what a test cares about to a whole Config; names are those of the command line."""

    def make(**changes):
        config = Config(
            data=DataConfig(data="npz", data_dir=toy),
            model=ModelConfig(patch=1, model_channels=8, channel_mult=(1, 2), heads=2),
            diffusion=DiffusionConfig(target="v", cond_dropout=0.1),
            optimizer=OptimizerConfig(lr=2e-3, warmup=10),
            run=RunConfig(steps=6, batch_size=8, backend="numpy"),
        )
        for concern in dataclasses.fields(config):
            part = getattr(config, concern.name)
            own = {name: changes.pop(name) for name in list(changes) if hasattr(part, name)}
            config = dataclasses.replace(config, **{concern.name: dataclasses.replace(part, **own)})
        assert not changes, f"no such settings: {changes}"
        return config

    return make


@pytest.fixture
def trainer(settings):
    """A function from settings to a Trainer on the toy images."""

    def make(checkpoint=None, **changes):
        config = settings(**changes)
        return Trainer(config, open_data(config.data), checkpoint)

    return make
