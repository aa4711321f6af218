"""Latent diffusion from an autoencoder to drawing: both are trained, resumed to the bit, and refused in one line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minidiff import backend, export
from minidiff import checkpoint as checkpoints
from minidiff.checkpoint.config import check
from minidiff.data.open import open_data
from minidiff.images.files import to_float
from minidiff.latent.space import fit
from minidiff.pipeline import loading as models
from minidiff.training import loop, preview
from minidiff.training.autoencoder import AutoencoderTrainer, contact_sheet, make_trainer
from minidiff.training.cli import parse
from minidiff.training.optimizer import update
from minidiff.training.trainer import Trainer
from tests import mistakes

# Latents are four times smaller than images.  Each entry: settings of data, and the shape of their images.
AUTOENCODER = dict(
    latent_channels=4, encoder_channels=(8, 8), decoder_channels=(8, 8), encoder_blocks=(0, 1), decoder_blocks=(1, 0)
)
SHORT = dict(groups=4, warmup=1, steps=4, batch_size=4, save_every=2, preview_every=2)
SHAPES = {"captions": (16, 16, 3), "labels": (8, 8, 3), "folder": (16, 24, 3)}
KINDS = list(SHAPES)


@pytest.fixture(autouse=True)
def compiled(own_backend):
    with backend.using("numba"):
        yield


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def data(shared):
    """A function from a kind of dataset to its settings."""
    photos, random = shared / "photos", np.random.default_rng(0)
    if not photos.exists():
        photos.mkdir()
        for i in range(12):
            Image.fromarray(random.integers(0, 256, (20, 30, 3), np.uint8)).save(photos / f"{i:02d}.png")
    own = {
        "captions": dict(data="scenes", data_dir=None, size=(16,), text_width=8, channel_mult=(1, 2)),
        "labels": dict(flip=True, channel_mult=(1,)),
        "folder": dict(data="folder", data_dir=photos, size=(16, 24), channel_mult=(1, 2)),
    }
    return lambda kind: {**SHORT, **own[kind]}


@pytest.fixture
def autoencoder(shared, settings, data):
    """A function from a kind of dataset to a run of an autoencoder, trained once for all tests."""

    def run(kind):
        folder = shared / f"autoencoder-{kind}"
        if not folder.exists():
            assert loop.train(settings(**data(kind), **AUTOENCODER, network="autoencoder"), folder) == 0
        return folder

    return run


@pytest.fixture
def base(shared, settings, data, autoencoder):
    """A function from a kind of dataset to a run of a model that works in latents, trained once for all tests."""

    def run(kind):
        folder = shared / f"base-{kind}"
        if not folder.exists():
            assert loop.train(settings(**data(kind), autoencoder=autoencoder(kind)), folder) == 0
        return folder

    return run


def weights(run, step):
    tensors = checkpoints.load(checkpoints.path_of(run, step)).tensors
    return {f"{group}/{name}": array for group in tensors for name, array in tensors[group].items()}


def resumed(config, run):
    """Train in one go, then go on from the middle as another process would; return both runs' last weights."""
    assert loop.train(config, run) == 0
    whole = weights(run, 4)
    checkpoints.path_of(run, 4).unlink()
    half = checkpoints.load(checkpoints.path_of(run, 2))
    assert loop.train(half.config, resume=half) == 0
    return whole, weights(run, 4)


def equal(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def size_of(path):
    with Image.open(path) as image:
        return image.size


# -- an autoencoder ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_autoencoder_trains_and_resumes_to_the_bit(tmp_path, settings, data, kind, capsys):
    run = tmp_path / "run"
    whole, again = resumed(settings(**data(kind), **AUTOENCODER, network="autoencoder", edge_weight=0.5), run)
    assert equal(whole, again)
    assert {name.split("/")[0] for name in whole} == set(checkpoints.GROUPS)
    height, width, _ = SHAPES[kind]
    sheets = [run / "grid.png", *sorted((run / "previews").iterdir())]
    assert [path.name for path in sheets[1:]] == ["step_00000002.png", "step_00000004.png"]
    heights = [size_of(path)[1] for path in sheets]
    assert size_of(sheets[0])[0] >= 8 * width and heights[0] >= 12 * height > heights[1] >= 6 * height
    printed = capsys.readouterr().out
    assert f"minidiff.evaluate --checkpoint {run}\n" in printed and f"minidiff.train --autoencoder {run} " in printed
    assert "minidiff.sample" not in printed and not (run / "noise_to_image.gif").exists()


def test_an_autoencoder_learns_one_batch(settings, data):
    """Forty steps on the same four images: the loss falls by half, which neither the mean colour nor grey would do."""
    config = settings(**{**data("labels"), "flip": False}, **AUTOENCODER, network="autoencoder", kl_weight=1e-6)
    it = make_trainer(config, open_data(config.data))
    assert isinstance(it, AutoencoderTrainer)
    same = np.arange(4)

    def loss():
        return it.loss(it.training_data.batch(same, 0, same))

    first = float(loss().data)
    for step in range(1, 61):
        it.parameters.g[:] = 0
        loss().backward()
        update(it.parameters, config.optimizer, step, 1e-2, 1.0, 0.0)
    assert float(loss().data) < 0.5 * first


def test_a_batch_in_parts_has_the_loss_of_the_whole(settings, data):
    """The noise of an image is its own, so only sums are rounded otherwise."""
    losses = []
    for parts in (1, 4):
        it = make_trainer(
            config := settings(**data("labels"), **AUTOENCODER, network="autoencoder", accumulate=parts),
            open_data(config.data),
        )
        losses.append(np.mean([float(it.loss(batch).data) for batch in it.batches()]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_each_step_has_noise_of_its_own(settings, data):
    config = settings(**data("labels"), **AUTOENCODER, network="autoencoder")
    it = make_trainer(config, open_data(config.data))
    (batch,) = it.batches()
    losses = []
    for it.step in (0, 1, 0):
        losses.append(float(it.loss(batch).data))
    assert losses[0] == losses[2] != losses[1]


def test_a_sheet_shows_images_decoded_ones_and_their_difference():
    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1) + 100
    sheet = contact_sheet(images, images + np.array([0, 5, 0, 60], np.uint8).reshape(4, 1, 1, 1), 2)
    assert sheet.ravel().tolist() == [100, 101, 100, 106, 128, 148, 102, 103, 102, 163, 128, 255]


# -- a denoiser in latents ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_denoiser_in_latents_trains_resumes_to_the_bit_and_draws(tmp_path, settings, data, autoencoder, kind, capsys):
    run, ae, (height, width, channels) = tmp_path / "run", autoencoder(kind), SHAPES[kind]
    capsys.readouterr()
    whole, again = resumed(settings(**data(kind), autoencoder=ae), run)
    assert equal(whole, again)
    assert f"latents  {height // 4}×{width // 4} of 4 channels\n" in capsys.readouterr().out
    before = weights(ae, 4)
    inside = {name: array for name, array in whole.items() if name.startswith("autoencoder/")}
    assert inside and all(np.array_equal(before[f"ema/{name.partition('/')[2]}"], w) for name, w in inside.items())

    grid = preview.FINAL
    count = 3 if kind == "labels" else 8 if kind == "captions" else grid.columns(0)
    for path in (run / "grid.png", *sorted((run / "previews").iterdir())):
        assert size_of(path)[0] >= min(count, 2) * width
    assert size_of(run / "noise_to_image.gif")[0] >= width
    model = models.load(run)
    assert (model.shape, model.noise_shape) == ((height, width, channels), (height // 4, width // 4, 4))
    drawn = model.sample(2, steps=2)
    assert drawn.shape == (2, height, width, channels) and drawn.dtype == np.uint8
    assert not np.array_equal(drawn, model.sample(2, steps=2, seed=1))


def test_a_resumed_training_needs_no_file_of_the_autoencoder(tmp_path, settings, data, autoencoder):
    ae = tmp_path / "ae.safetensors"
    ae.write_bytes(checkpoints.path_of(autoencoder("labels"), 4).read_bytes())
    assert loop.train(settings(**{**data("labels"), "steps": 2}, autoencoder=ae), tmp_path / "run") == 0
    ae.unlink()
    request = parse(["--resume", str(tmp_path / "run"), "--steps", "3"])
    assert loop.train(request.config, resume=request.resume) == 0


def test_latents_are_measured_on_the_images_of_the_training(settings, data, autoencoder):
    """With the averaged weights of the autoencoder, which may have been trained on images of another size."""
    config = settings(**data("folder"), autoencoder=autoencoder("labels"))
    images = open_data(config.data)
    it = Trainer(config, images)
    pixels = to_float(images.images)
    assert it.space.autoencoder.config.latent_shape == (4, 6, 4)
    expected = fit(it.space.autoencoder, lambda k: pixels[8 * k : 8 * k + 8], 2)
    assert it.space.statistics == expected
    x0 = np.concatenate([part.x0 for part in it.training_data.batches(0, 12)])
    assert x0.shape == (12, 4, 6, 4) and abs(x0.std() - 1) < 0.3
    found = checkpoints.make_network(checkpoints.find(autoencoder("labels"))).named_parameters()
    for name, parameter in it.space.autoencoder.named_parameters().items():
        np.testing.assert_array_equal(parameter.data, found[name].data)


def test_finite_images_are_encoded_before_the_first_step(tmp_path, settings, data, autoencoder, monkeypatch):
    config, honest, known = settings(**data("folder"), autoencoder=autoencoder("folder")), Trainer.batches, []

    def batches(self):
        known.append(len(self.training_data.encoded._groups))
        return honest(self)

    monkeypatch.setattr(Trainer, "batches", batches)
    assert loop.train(config, tmp_path / "run") == 0
    assert known == [2] * 4  # eleven images, and one held out


# -- an adapter of one -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["edges", "reference"])
def test_an_adapter_trains_resumes_to_the_bit_and_draws(tmp_path, settings, data, base, kind):
    below, run = base("captions"), tmp_path / "run"
    before = checkpoints.path_of(below, 4).read_bytes()
    whole, again = resumed(settings(**data("captions"), adapter=kind, onto=below), run)
    assert equal(whole, again) and not any(name.startswith("autoencoder/") for name in whole)
    assert checkpoints.path_of(below, 4).read_bytes() == before
    assert (run / "grid.png").exists() and len(list((run / "previews").iterdir())) == 2

    plain = models.load(below)
    steered = plain.with_adapter(run)
    shown = np.full((16, 16, 3 if kind == "reference" else 1), 200, np.uint8)
    name = "reference" if kind == "reference" else "control"
    how = {"prompt": "a dog", "steps": 2, name: shown}
    how |= {} if kind == "reference" else {"control_kind": kind}
    drawn, silent = (steered.sample(2, **how, **{f"{name}_scale": scale}) for scale in (50.0, 0.0))
    assert drawn.shape == (2, 16, 16, 3)
    assert np.array_equal(silent, plain.sample(2, prompt="a dog", steps=2))
    assert not np.array_equal(drawn, silent)


# -- what does not fit is one line -------------------------------------------------------------------------------------


def test_settings_that_exclude_each_other_are_one_line(settings):
    fails = lambda **changes: mistakes.of_call(check, settings(**changes))
    line = "--network autoencoder is trained by itself; leave out {} a/b"
    assert fails(network="autoencoder", autoencoder="a/b") == line.format("--autoencoder")
    assert fails(network="autoencoder", adapter="edges", onto="a/b") == line.format("--onto")
    assert fails(adapter="edges", onto="base", autoencoder="a/b") == (
        "--autoencoder: an adapter works in the latents of base; leave it out"
    )


def test_a_model_in_latents_lends_its_autoencoder(settings, data, base):
    config = settings(**data("folder"), autoencoder=base("folder"))
    it, found = Trainer(config, open_data(config.data)), checkpoints.find(base("folder"))
    for name, parameter in it.space.autoencoder.named_parameters().items():
        np.testing.assert_array_equal(parameter.data, found.tensors["autoencoder"][name])


def test_what_does_not_fit_is_one_line(tmp_path, settings, data, autoencoder, base, trainer):
    ae, unet = autoencoder("labels"), base("labels")

    def fails(kind="labels", **changes):
        line = mistakes.of_call(loop.train, settings(**{**data(kind), **changes}), tmp_path / "never")
        assert not (tmp_path / "never").exists()
        return line

    it, path = trainer(), tmp_path / "pixels.safetensors"
    checkpoints.save(path, 0, it.config, it.network, it.dataset.classes, it.parameters)
    assert fails(autoencoder=path) == f"--autoencoder {path} has no autoencoder; train one with --network autoencoder"
    assert fails(autoencoder=tmp_path).startswith(f"no checkpoint in {tmp_path}: expected ")
    path = checkpoints.path_of(ae, 4)
    assert fails(autoencoder=ae, grey=True) == (
        f"--autoencoder {path} is for images of 3 channels; those of toy.npz have 1"
    )
    drawn = "is an autoencoder, which draws nothing by itself; train a model that works in its latents: "
    assert fails(adapter="edges", onto=ae) == f"{path} {drawn}python -m minidiff.train --autoencoder"

    needs = "an autoencoder whose latents are 4 times smaller needs a height and a width that 4 divides (4, 8, 12, …), "
    assert fails("folder", network="autoencoder", size=(16, 18), **AUTOENCODER) == f"{needs}got 16×18"
    assert fails("folder", autoencoder=ae, size=(18, 24)) == f"{needs}got 18×24"
    assert fails("folder", adapter="edges", onto=unet, size=(18, 24)) == f"{needs}got 18×24"
    line = fails("folder", autoencoder=ae, size=(16, 20))
    assert line == (
        "latents of 4×5 cannot be halved for 2 levels of a U-Net: height and width of the images must be numbers that "
        "8 divides (8, 16, 24, …), got 16×20"
    )


def test_a_resumed_training_keeps_its_autoencoder(tmp_path, settings, base, trainer, autoencoder):
    path, other = checkpoints.path_of(base("labels"), 4), autoencoder("folder")
    line = mistakes.of_call(parse, ["--resume", str(path), "--autoencoder", str(other)])
    assert line == (
        f"{path} was trained with other settings: --autoencoder {autoencoder('labels')} there, {other} asked"
    )
    it, pixels = trainer(), tmp_path / "pixels.safetensors"
    checkpoints.save(pixels, 0, it.config, it.network, it.dataset.classes, it.parameters)
    line = mistakes.of_call(parse, ["--resume", str(pixels), "--autoencoder", str(other)])
    assert line == f"{pixels} was trained with other settings: --autoencoder None there, {other} asked"


# -- exported weights --------------------------------------------------------------------------------------------------


def test_weights_in_float16_draw_the_same_and_serve_as_an_autoencoder(tmp_path, settings, data, autoencoder, base):
    below, small = base("folder"), tmp_path / "small.safetensors"
    export.main(["--checkpoint", str(below), "--weights", str(small)])
    assert small.stat().st_size < checkpoints.path_of(below, 4).stat().st_size / 4
    a, b = (models.load(path).sample(2, steps=3).astype(int) for path in (below, small))
    assert np.abs(a - b).max() <= 4  # a float16 has eleven bits
    assert checkpoints.load(small).config.autoencoder.autoencoder == Path(autoencoder("folder").name)

    export.main(["--checkpoint", str(autoencoder("folder")), "--weights", str(tmp_path / "ae.safetensors")])
    config = settings(**{**data("folder"), "steps": 1}, autoencoder=tmp_path / "ae.safetensors")
    assert loop.train(config, tmp_path / "run") == 0


def test_the_format_of_diffusers_has_no_place_for_latents(tmp_path, base, autoencoder, capsys):
    line = mistakes.of_command(export.main, capsys, "--checkpoint", base("folder"), "--out", tmp_path / "out")
    assert line.endswith("denoises latents, and diffusers has no decoder like theirs; give --weights")
    line = mistakes.of_command(export.main, capsys, "--checkpoint", autoencoder("folder"), "--out", tmp_path / "out")
    assert "is an autoencoder, which draws nothing by itself" in line
    assert not (tmp_path / "out").exists()
