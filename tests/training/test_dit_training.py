"""A transformer from training to drawing: it learns, goes on to the bit, keeps its kind, and is refused in one line."""

import json
from functools import partial

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from minidiff import backend, export
from minidiff import checkpoint as checkpoints
from minidiff import sample as sampling
from minidiff.checkpoint.build import denoiser_config, patch_of
from minidiff.checkpoint.config import NO_ADAPTER, ModelConfig
from minidiff.data.dataset import ImageDataset
from minidiff.errors import MinidiffError
from minidiff.evaluation.heldout import held_out_loss
from minidiff.explain.recording import Recording
from minidiff.images.files import read_metadata
from minidiff.nn import DiT, DiTConfig, UNetConfig
from minidiff.pipeline import loading as models
from minidiff.training import loop
from minidiff.training.cli import parse
from minidiff.training.loop import train_step
from minidiff.training.trainer import Trainer
from tests import mistakes

SMALL = dict(network="dit", patch=4, hidden_size=16, num_layers=2)
SHORT = dict(warmup=1, steps=4, batch_size=4, save_every=2, preview_every=2)
SCENES = dict(data="scenes", data_dir=None, size=(16,), text_width=8, text_layers=1)
CODER = dict(
    latent_channels=4, encoder_channels=(8, 8), decoder_channels=(8, 8), encoder_blocks=(0, 1), decoder_blocks=(1, 0),
    groups=4,
)  # fmt: skip
TRAININGS = {
    "labels": dict(flip=True),
    "flow": dict(schedule="flow", target="flow", shift=2.0, timestep_sampling="lognormal", accumulate=2),
    "captions": SCENES,
    "latents": dict(SCENES, patch=2, autoencoder="an autoencoder"),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def changes(shared, settings):
    """A function from the name of a training to its settings; an autoencoder is trained once for all tests."""

    def of(name):
        found = {**SHORT, **SMALL, **TRAININGS[name]}
        if "autoencoder" in found:
            found["autoencoder"] = shared / "autoencoder"
            if not found["autoencoder"].exists():
                coder = settings(**SHORT, **SCENES, **CODER, network="autoencoder")
                assert loop.train(coder, found["autoencoder"]) == 0
        return found

    return of


@pytest.fixture
def run(shared, settings, changes):
    """A function from the name of a training to its run, trained once for all tests, none of which changes it."""

    def of(name):
        folder = shared / name
        if not folder.exists():
            assert loop.train(settings(**changes(name)), folder) == 0
        return folder

    return of


def weights(folder, step):
    tensors = checkpoints.load(checkpoints.path_of(folder, step)).tensors
    return {f"{group}/{name}": array for group in tensors for name, array in tensors[group].items()}


# ---- learning -------------------------------------------------------------------------------------------------------


def test_one_batch_is_overfitted(settings):
    """Two images, over and over: as in test_trainer.py, the loss falls to a tenth of what a silent network has.

    Measured with three seeds: to a fifteenth and less.
    """
    images = np.zeros((2, 8, 8, 1), np.uint8)
    images[0, 2:6, 2:6], images[1, :, 3:5] = 255, 200
    config = settings(
        **{**SMALL, "patch": 2, "hidden_size": 32}, steps=200, batch_size=16, lr=5e-3, warmup=10, cond_dropout=0.0
    )
    backend.use("numba")
    trainer = Trainer(config, ImageDataset("two", images, np.arange(2), ("square", "bar")))
    losses = [train_step(trainer).loss for _ in range(200)]
    assert 0.5 < np.mean(losses[:5]) < 2  # v has a variance of about 1
    assert np.mean(losses[-25:]) < np.mean(losses[:5]) / 10


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_resumes_to_the_bit(tmp_path, settings, changes, run, name):
    whole = weights(run(name), 4)
    assert loop.train(settings(**changes(name)), tmp_path / "run") == 0
    assert whole.keys() == weights(tmp_path / "run", 4).keys()
    checkpoints.path_of(tmp_path / "run", 4).unlink()
    half = checkpoints.load(checkpoints.path_of(tmp_path / "run", 2))
    assert loop.train(half.config, resume=half) == 0
    resumed = weights(tmp_path / "run", 4)
    assert all(np.array_equal(whole[key], resumed[key]) for key in whole)
    assert any(key.startswith("autoencoder/") for key in whole) == (name == "latents")
    moved = [np.abs(whole[f"model/blocks.0.{part}.w"]).max() for part in ("modulation", "out", "linear2")]
    assert min(moved) > 0


def test_other_settings_of_the_network_are_one_line(run):
    path = checkpoints.path_of(run("labels"), 4)
    fails = lambda *words: mistakes.of_call(parse, ["--resume", str(path), *words])
    assert fails("--num-layers", "3") == f"{path} is of another network: --num-layers 2 there, 3 asked"
    assert fails("--network", "unet") == f"{path} is of another network: --network dit there, unet asked"
    found = checkpoints.load(path)
    wider = DiTConfig(**{**vars(found.network), "hidden_size": 24})
    line = mistakes.of_call(checkpoints.restore, found, wider)
    assert line.startswith(f"{path} is of another network: expected embedding.linear1.w (6, 24), it has")
    heads = DiTConfig(**{**vars(found.network), "heads": 4})  # all shapes are the same
    assert mistakes.of_call(checkpoints.restore, found, heads).endswith("its heads is 2, expected 4")
    line = mistakes.of_call(checkpoints.restore, found, UNetConfig(8, 8, 3, attention_at=(), classes=3))
    assert line.startswith(f"{path} is of another network: expected embedding.linear1.w (32, 128), it has")


# ---- drawing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRAININGS)
def test_it_draws(run, name, tmp_path):
    model = models.load(run(name))
    assert isinstance(model.model, DiT)
    how = {"prompt": "a dog"} if name in ("captions", "latents") else {"label": 1}
    drawn = model.sample(3, steps=3, guidance_scale=2.0, **how)
    assert drawn.shape == (3, *model.shape) and drawn.dtype == np.uint8
    assert np.array_equal(drawn, model.sample(3, steps=3, guidance_scale=2.0, **how))
    assert not np.array_equal(drawn, model.sample(3, steps=3, guidance_scale=2.0, seed=1, **how))
    words = ["--checkpoint", run(name), "--count", 3, "--steps", 3, "--guidance-scale", 2, "--backend", "numpy"]
    words += ["a dog"] if "prompt" in how else ["--label", 1]
    sampling.main([str(word) for word in [*words, "--array", "--out", tmp_path / "out"]])
    with np.load(tmp_path / "out" / "samples.npz") as arrays:
        np.testing.assert_array_equal(arrays["arr_0"], drawn)
    assert read_metadata(run(name) / "grid.png")["step"] == 4


def test_it_is_judged_and_watched(run):
    model = models.load(run("labels"))
    data = ImageDataset("toy", np.zeros((4, 8, 8, 3), np.uint8), np.arange(4) % 3, ("0", "1", "2"))
    assert np.isfinite(held_out_loss(model.model, model.process, data, triples=6).losses).all()

    model = models.load(run("captions"))
    recording = Recording(model.model, model.process)
    with recording:
        for step in model.generate(2, prompt="a dog", steps=2, on_prediction=recording.on_prediction):
            recording.take(step)
    ((height, look),) = recording.frames[0].outputs.attention.items()
    assert height == 4 and look.shape[:3] == (2, 4, 4)
    assert np.abs(look.sum(-1) - 1).max() < 1e-5  # some twenty summands in float32


def test_weights_in_float16_draw_the_same(run, tmp_path):
    export.main(["--checkpoint", str(run("captions")), "--weights", str(tmp_path / "small.safetensors")])
    a, b = (
        models.load(path).sample(2, prompt="a cat", steps=3).astype(int)
        for path in (run("captions"), tmp_path / "small.safetensors")
    )
    assert np.abs(a - b).max() <= 3  # as for the U-Net: a float16 has eleven bits


# ---- files ----------------------------------------------------------------------------------------------------------


def spoilt(path, folder, change):
    """A copy of a checkpoint whose metadata are changed."""
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        about = json.loads(file.metadata()["minidiff"])
    change(about)
    save_file(tensors, folder / "spoilt.safetensors", {"minidiff": json.dumps(about)})
    return folder / "spoilt.safetensors"


def test_a_file_says_which_network_it_has(run):
    found = checkpoints.load(checkpoints.path_of(run("labels"), 4))
    assert found.network == DiTConfig(8, 8, 3, patch=4, hidden_size=16, num_layers=2, heads=2, classes=3)
    assert found.config.model.network == "dit"
    latent = checkpoints.load(checkpoints.path_of(run("latents"), 4))
    assert (latent.network.height, latent.network.channels, latent.autoencoder.height) == (4, 4, 16)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda about: about.update(dit=None), "it describes neither a denoiser nor an autoencoder"),
        (lambda about: about.update(network={"classes": 3}), "it describes a U-Net and a transformer"),
        (lambda about: about["dit"].update(num_layers=256), "its network would have more blocks than the file has"),
        (lambda about: about["dit"].update(num_layers=10**9), "metadata: [dit]: num_layers must be from 1 to 256"),
        (lambda about: about["dit"].update(hidden_size=1 << 14), "expected "),
        (lambda about: about["dit"].update(hidden_size=12), "transformer: hidden_size must be a number that 8"),
        (lambda about: about["dit"].update(patch=3), "transformer: patches of 3×3 need a height and a width that 3"),
        (lambda about: about["dit"].update(classes=4), "3 class names for 4 classes"),
        (lambda about: about["dit"].update(zzz=1), "metadata: [dit]: unknown setting 'zzz'; known are "),
        (lambda about: about["dit"].update(heads=4), "its content does not match its digest"),
    ],
)
def test_metadata_that_make_no_sense_are_one_line(run, tmp_path, change, line):
    path = spoilt(checkpoints.path_of(run("labels"), 4), tmp_path, change)
    said = mistakes.of_call(checkpoints.load, path)
    assert said.startswith((f"{path} is damaged: {line}", f"{path} is damaged: metadata: {line}"))


# ---- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "patch"), [(8, 1), (9, 2), (16, 2), (17, 4), (28, 4), (32, 4), (48, 8), (64, 8), (128, 16)]
)
def test_patches_leave_at_most_eight_along_a_side(side, patch):
    model = ModelConfig(network="dit")
    assert patch_of(model, side, side) == patch_of(model, 2 * side, side) == patch
    assert patch_of(ModelConfig(network="dit", patch=3), side, side) == 3


def test_the_command_line_makes_a_transformer():
    words = "--network dit --hidden-size 24 --num-layers 3 --heads 3 --patch 2 --text-width 12"
    model = parse(words.split()).config.model
    assert denoiser_config(model, 8, 12, 3, 5) == DiTConfig(
        8, 12, 3, patch=2, hidden_size=24, num_layers=3, heads=3, classes=5, text_width=12
    )
    assert isinstance(denoiser_config(ModelConfig(), 32, 32, 3), UNetConfig)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (dict(patch=3), "transformer: patches of 3×3 need a height and a width that 3 divides (3, 6, 9, …), got 8×8"),
        (dict(hidden_size=20), "transformer: hidden_size must be a number that 8 divides, 16 or more, got 20"),
        (dict(heads=3), "transformer: 3 heads do not divide a hidden_size of 16"),
        (dict(num_layers=0), "--num-layers must be from 1 to 256, got 0"),
        (dict(adapter="edges", onto="a/b"), f"--adapter edges: {NO_ADAPTER}"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(settings, tmp_path, changes, line):
    config = settings(**{**SHORT, **SMALL, **changes})
    assert mistakes.of_call(loop.train, config, tmp_path / "never") == line
    assert not (tmp_path / "never").exists()


def test_latents_that_patches_do_not_divide_are_one_line(settings, changes, tmp_path):
    config = settings(**{**changes("latents"), "patch": 3})
    assert mistakes.of_call(loop.train, config, tmp_path / "never") == (
        "latents of 4×4 cannot be cut into patches of 3×3: height and width of the images must be numbers that 12 "
        "divides (12, 24, 36, …), got 16×16"
    )


def test_memory_that_is_not_there_is_refused(settings, tmp_path):
    config = settings(**{**SHORT, **SMALL, "patch": 1, "num_layers": 256, "batch_size": 1 << 20})
    line = mistakes.of_call(loop.train, config, tmp_path / "never")
    assert line.startswith("a network of ") and "take fewer channels or blocks" in line


# ---- what only a U-Net has ------------------------------------------------------------------------------------------


def test_adapters_are_refused_in_one_line(settings, run, tmp_path):
    base = run("captions")
    path = checkpoints.path_of(base, 4)
    more = ["--steps", "1", "--backend", "numpy"]
    line = mistakes.of_call(parse, ["--adapter", "edges", "--onto", str(base), *more])
    assert line == f"--adapter edges: {NO_ADAPTER}"
    unet = settings(**SHORT, **SCENES, adapter="reference", onto=base, patch=1)  # what --network unet would ask for
    assert mistakes.of_call(loop.train, unet, tmp_path / "never") == f"--onto {path}: {NO_ADAPTER}"
    model = models.load(base)
    assert mistakes.of_call(model.with_adapter, path) == f"{path}: {NO_ADAPTER}"
    drawing = np.zeros((16, 16, 1), np.uint8)
    with pytest.raises(MinidiffError) as caught:
        model.sample(1, prompt="a dog", steps=1, control=drawing)
    assert str(caught.value) == f"{path}: {NO_ADAPTER}"
    with pytest.raises(MinidiffError, match=r"takes none$"):
        model.sample(1, prompt="a dog", steps=1, reference=np.zeros((16, 16, 3), np.uint8))
    assert not (tmp_path / "never").exists()


def test_a_file_that_claims_to_be_an_adapter_of_one_is_refused(run, tmp_path):
    def claim(about):
        about["config"]["addition"].update(adapter="edges", onto="x")

    path = spoilt(checkpoints.path_of(run("labels"), 4), tmp_path, claim)
    assert mistakes.of_call(checkpoints.load, path) == NO_ADAPTER


def test_diffusers_gets_none(run, tmp_path, capsys):
    fails = partial(mistakes.of_command, export.main, capsys)
    line = fails("--checkpoint", run("labels"), "--out", tmp_path / "out")
    assert line.endswith("is a transformer, and what diffusers gets is a U-Net; give --weights")
    assert not (tmp_path / "out").exists()
