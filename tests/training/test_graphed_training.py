"""Steps of every kind of training are replayed from the fourth on, and are those of Python, to the bit."""

import numpy as np
import pytest

from minidiff import backend
from minidiff.data.open import open_data
from minidiff.training import loop
from minidiff.training.autoencoder import make_trainer
from minidiff.training.loop import train_step

SCENES = dict(data="scenes", data_dir=None, size=(16,), patch=2, text_width=8, text_layers=1)
SMALL = dict(groups=4, warmup=1, steps=8, batch_size=4)
AUTOENCODER = dict(
    network="autoencoder", latent_channels=4, encoder_channels=(8, 8), decoder_channels=(8, 8), encoder_blocks=(0, 1),
    decoder_blocks=(1, 0),
)  # fmt: skip
TRANSFORMER = dict(network="dit", patch=4, hidden_size=16, num_layers=2)
TRAININGS = {
    "labels, flips": dict(flip=True),
    "EDM": dict(target="edm", weighting="edm", timestep_sampling="lognormal"),
    "captions": SCENES,
    "accumulated": dict(SCENES, accumulate=2),
    "an autoencoder": dict(SCENES, **AUTOENCODER),
    "latents": dict(SCENES, patch=1, autoencoder="an autoencoder"),
    "a transformer": dict(TRANSFORMER, schedule="flow", target="flow"),
    "a transformer with captions": {**SCENES, **TRANSFORMER},
    "edges": dict(SCENES, adapter="edges", onto="captions"),
    "reference": dict(SCENES, adapter="reference", onto="captions"),
}


@pytest.fixture(autouse=True)
def compiled(own_backend):
    with backend.using("numba"):
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_is_replayed(name, settings, runs, capsys):
    changes = {**SMALL, **TRAININGS[name]}
    for key in ("onto", "autoencoder"):
        if key in changes:
            changes[key] = trained(changes[key], settings, runs)
    config = settings(**changes)
    replayed, in_python = (make_trainer(config, open_data(config.data)) for _ in range(2))
    in_python._backward.refused = True
    for trainer in (replayed, in_python):
        trainer.parameters.w += np.float32(0.02)  # an untrained network's last layers are zero
        losses = [train_step(trainer).loss for _ in range(6)]
    np.testing.assert_array_equal(replayed.parameters.w, in_python.parameters.w)
    np.testing.assert_array_equal(replayed.parameters.ema, in_python.parameters.ema)
    assert all(np.isfinite(losses))
    states = replayed._backward.states.values()
    assert states and all(state.graph is not None for state in states)
    assert "nothing is replayed" not in capsys.readouterr().err


def trained(name, settings, runs):
    folder = runs / name
    if not folder.exists():
        assert loop.train(settings(**{**SMALL, **TRAININGS[name], "steps": 2}), folder) == 0
    return folder
