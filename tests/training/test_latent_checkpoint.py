"""Checkpoints of latent models: an autoencoder within, back to the bit, and one line for what makes no sense."""

import json
import math

import numpy as np
import pytest
import tiny_model
from safetensors import safe_open
from safetensors.numpy import save_file

from minidiff import checkpoint as checkpoints
from minidiff import sample
from minidiff.autograd import no_grad
from minidiff.pipeline import loading
from tests import mistakes
from tests.mistakes import of_call as fails


@pytest.fixture
def path(tmp_path):
    return tiny_model.write_latent(tmp_path)


def rewrite(path, change):
    """Change tensors or metadata of a file; the digest does not come along, as nothing may depend on it being right."""
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        about = json.loads(file.metadata()["minidiff"])
    change(tensors, about)
    save_file(tensors, path, {"minidiff": json.dumps(about)})


def test_the_autoencoder_comes_back_to_the_bit(path):
    found, expected = checkpoints.load(path), tiny_model.make_autoencoder()
    space = checkpoints.make_space(found)
    assert found.network.channels == 4 and found.autoencoder == expected.config == space.autoencoder_config
    assert space.statistics.std == (0.5, 1.0, 0.25, 2.0) and len(space.statistics.colour) == 15
    x = np.random.default_rng(0).uniform(-1, 1, (2, 16, 24, 3)).astype(np.float32)
    with no_grad():
        mean = expected.encoder(x)[0].data
    np.testing.assert_array_equal(
        space.encode(x), (mean - np.float32([0.1, 0, -0.2, 0.3])) / np.float32([0.5, 1, 0.25, 2])
    )


def test_same_state_same_file(path, tmp_path):
    assert tiny_model.write_latent(tmp_path / "other").read_bytes() == path.read_bytes()


MEAN, BELONG = (
    "the mean and the variance of its latents make no sense",
    "the mean and the variance of latents belong to",
)
ALONE = "it describes latents without a denoiser and an autoencoder"


def latents(**change):
    return lambda tensors, about: about["latents"].update(change)


def autoencoder(**change):
    return lambda tensors, about: about["autoencoder"].update(change)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda tensors, about: about.update(autoencoder=None), ALONE),
        (lambda tensors, about: about.update(network=None, words=[]), ALONE),
        (lambda tensors, about: about.update(latents=None), f"{BELONG} a model, and to no adapter"),
        (lambda tensors, about: about["config"]["addition"].update(adapter="edges", onto="x"), BELONG),
        (latents(mean=[0.0] * 3), MEAN),
        (latents(std=[1.0] * 5), MEAN),
        (latents(mean=[], std=[]), MEAN),
        (latents(colour=[0.1] * 14), MEAN),
        (latents(std=[1.0, 1.0, 0.0, 1.0]), MEAN),
        (latents(std=[1.0, 1.0, -1.0, 1.0]), MEAN),
        (latents(std=[1.0, 1.0, math.nan, 1.0]), MEAN),
        (latents(std=[1.0, 1.0, math.inf, 1.0]), MEAN),
        (latents(mean=[math.nan, 0.0, 0.0, 0.0]), MEAN),
        (latents(colour=[math.inf] * 15), MEAN),
        (latents(std=[10**400] * 4), "metadata: [latents]: std must be a number that a float can hold"),
        (latents(mean="0000"), "metadata: [latents]: mean must be a list, got '0000'"),
        (latents(median=1), "metadata: [latents]: unknown setting 'median'; did you mean 'mean'?"),
        (lambda tensors, about: about.update(latents=3), "metadata: [latents]: expected a table of settings, got 3"),
        (lambda tensors, about: about.update(autoencoder=[]), "metadata: [autoencoder]: expected a table of settings"),
        (autoencoder(latent_channels=3), "a denoiser for (4, 6, 4), and latents of (4, 6, 3)"),
        (autoencoder(height=32), "a denoiser for (4, 6, 4), and latents of (8, 6, 4)"),
        (autoencoder(width=26), "an autoencoder whose latents are 4 times smaller needs a height and a width that 4"),
        (autoencoder(decoder_blocks=[1]), "autoencoder: decoder_blocks and encoder_channels need one entry a level"),
        (autoencoder(encoder_channels=[8] * 9999), "autoencoder: encoder_channels needs 1 to 13 entries, got 9999"),
        (autoencoder(encoder_blocks=[10**9, 0]), "metadata: [autoencoder]: encoder_blocks must be from 0 to 256"),
        (
            autoencoder(encoder_blocks=[256, 256], decoder_blocks=[256, 256]),
            "its network would have more blocks than the file has tensors",
        ),
        (autoencoder(decoder_channels=[16384, 16384]), "expected autoencoder/decoder."),
        (autoencoder(channels=1), "the mean and the variance of its latents make no sense"),
        (lambda tensors, about: tensors.pop("autoencoder/encoder.conv_in.w"), "1 tensors are missing, the first is"),
        (
            lambda tensors, about: tensors.update({"autoencoder/encoder.conv_in.b": np.zeros(9, np.float32)}),
            "expected autoencoder/encoder.conv_in.b as F32 (8,), got F32 (9,)",
        ),
        (
            lambda tensors, about: tensors["autoencoder/decoder.conv_out.w"].fill(np.nan),
            "autoencoder/decoder.conv_out.w has numbers that are not finite",
        ),
        (
            lambda tensors, about: tensors["autoencoder/decoder.conv_out.w"].fill(0.5),
            "its content does not match its digest",
        ),
        (latents(std=[1.0, 1.0, 1.0, 1.0]), "its content does not match its digest"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_one_line(path, change, line):
    rewrite(path, change)
    said = fails(checkpoints.load, path)
    assert said.startswith((f"{path} is damaged: {line}", f"{path} is damaged: metadata: {line}")) and len(said) < 400


@pytest.mark.parametrize(
    "change", [{"encoder_blocks": [256, 256]}, {"encoder_channels": [16384, 16384]}, {"latent_channels": 64}]
)
def test_sizes_of_an_autoencoder_are_not_believed(tmp_path, change):
    path = tiny_model.write_autoencoder(tmp_path)
    rewrite(path, autoencoder(**change))
    assert f"{path} is damaged: " in fails(checkpoints.load, path)


def test_float16_and_back(path, tmp_path):
    small = tmp_path / "small.safetensors"
    found = checkpoints.load(path)
    checkpoints.save_for_sampling(small, found, "")
    again = checkpoints.load(small)
    assert again.identity == found.digest and again.latents == found.latents and again.autoencoder == found.autoencoder
    assert again.tensors.keys() == {"ema", "autoencoder"}
    for group, arrays in again.tensors.items():
        for name, array in arrays.items():
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, found.tensors[group][name].astype(np.float16))


def test_an_autoencoder_draws_nothing_and_says_so(tmp_path, capsys):
    path = tiny_model.write_autoencoder(tmp_path)
    line = f"{path} is an autoencoder, which draws nothing by itself; train a model that works in its latents: "
    line += "python -m minidiff.train --autoencoder"
    found = checkpoints.load(path)
    assert found.trained == tiny_model.make_autoencoder().config and checkpoints.make_network(found)
    assert fails(loading.load, tmp_path) == line
    assert fails(tiny_load(tmp_path / "model").with_adapter, path) == f"{path} is no adapter but a model of its own"
    words = ("--checkpoint", path, "--backend", "numpy", "--out", tmp_path / "out")
    assert mistakes.of_command(sample.main, capsys, *words) == line
    assert not (tmp_path / "out").exists()


def tiny_load(run):
    return loading.load(tiny_model.write_latent(run))
