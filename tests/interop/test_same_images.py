"""Same weights, same scheduler, same seed: the images that diffusers draws, 50 steps later."""

import itertools
import json

import numpy as np
import pytest

from minidiff import backend, export
from minidiff import checkpoint as checkpoints
from minidiff import sample as command
from minidiff.checkpoint.config import Config, DiffusionConfig
from minidiff.nn.flat_parameters import FlatParameters
from minidiff.pipeline import loading as models
from tests.backends import WITH_A_GPU
from tests.interop.drawings import COUNT, DRAWN, IMAGES, SEED, STEPS, calm_weights, ours, theirs
from tests.interop.foreign import OURS, PLAIN, our_network, write_folder

LEVELS = 2  # of 255; rounding alone can make 1, and float32 through fifty steps moves what lies near an edge


def difference(found, expected):
    assert found.shape == expected.shape and found.dtype == expected.dtype == np.uint8
    assert expected.std() > 10  # images, not one colour
    return np.abs(found.astype(int) - expected).max()


@pytest.mark.parametrize(
    "name, chosen",
    [*((name, "numba") for name in DRAWN), *itertools.product(("ddim", "ddpm, small"), ("numpy", *WITH_A_GPU))],
)
def test_recorded_images(name, chosen, tmp_path):
    network, *how = DRAWN[name]
    with backend.using(chosen), np.load(IMAGES) as file:
        assert difference(ours(tmp_path, network, *how, calm_weights(network, how[1])), file[name]) <= LEVELS


@pytest.mark.parametrize("name", DRAWN)
def test_live_images(name, tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("diffusers", reason="diffusers is not installed")
    network, *how = DRAWN[name]
    noise = np.random.RandomState(sum(map(ord, name)))
    weights = calm_weights(network, how[1])
    weights = {key: (w * noise.uniform(0.9, 1.1, w.shape)).astype(np.float32) for key, w in weights.items()}
    assert difference(ours(tmp_path, network, *how, weights), theirs(network, *how, weights)) <= LEVELS


@pytest.fixture
def run(tmp_path):
    """A checkpoint of a network that diffusers can have."""

    def write(config=None, classes=(), **diffusion):
        config = config or OURS["no attention"]
        path = checkpoints.path_of(tmp_path / "run", 1)
        path.parent.mkdir(parents=True)
        settings = Config(diffusion=DiffusionConfig(**diffusion))
        model = our_network(config)
        model.conv_out.w.data = np.float32(0.05) * model.conv_out.w.data  # calm, as in drawings.py
        checkpoints.save(path, 1, settings, config, classes, FlatParameters(model))
        return path

    return write


@pytest.mark.parametrize("diffusion", [{}, {"schedule": "linear", "target": "eps"}, {"zero_snr": True}])
def test_a_model_of_ours_draws_the_same_in_diffusers(run, tmp_path, diffusion):
    """Exported, loaded by diffusers, and drawn with 50 steps of its DDIM from its noise."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    export.main(["--checkpoint", str(run(**diffusion)), "--out", str(tmp_path / "out")])
    net = diffusers.UNet2DModel.from_pretrained(tmp_path / "out")
    noise = diffusers.DDIMScheduler.from_pretrained(tmp_path / "out")
    pipeline = diffusers.DDIMPipeline(unet=net, scheduler=noise)
    pipeline.scheduler = noise
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(SEED)
    drawn = pipeline(batch_size=COUNT, generator=generator, num_inference_steps=STEPS, output_type="np").images
    found = models.load_diffusers(tmp_path / "out").sample(COUNT, steps=STEPS, seed=SEED)
    assert difference(found, np.rint(drawn * 255).astype(np.uint8)) <= LEVELS


def test_an_exported_model_comes_back_as_it_was(run, tmp_path, capsys):
    path = run()
    export.main(["--checkpoint", str(path), "--out", str(tmp_path / "out")])
    names = ["config.json", "diffusion_pytorch_model.safetensors", "scheduler_config.json"]
    assert capsys.readouterr().out.split() == [str(tmp_path / "out" / name) for name in names]
    before, after = models.load(path), models.load_diffusers(tmp_path / "out")
    assert (after.process.target, after.shape, after.defaults.spacing) == ("v", before.shape, "trailing")
    assert np.abs(after.process.schedule.alpha_bar - before.process.schedule.alpha_bar).max() < 1e-12
    x, t = np.random.default_rng(0).standard_normal((2, *before.shape)).astype(np.float32), np.array([3.0, 800.0])
    one, two = (model.model(x, t).data for model in (before, after))
    assert np.abs(one - two).max() < 1e-5 * np.abs(one).max()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"target": "flow", "schedule": "flow"}, "schedule must be one of linear, scaled_linear, cosine, sigmoid"),
        ({"target": "edm"}, "target must be one of eps, x0, v, got 'edm'"),
        ({"config": OURS["no attention"].__class__(**{**OURS["no attention"].__dict__, "classes": 2})}, "train with"),
    ],
)
def test_what_diffusers_cannot_have_is_one_line(run, tmp_path, capsys, setting, message):
    classes = ("a", "b") if "config" in setting else ()
    with pytest.raises(SystemExit) as caught:
        export.main(["--checkpoint", str(run(**setting, classes=classes)), "--out", str(tmp_path / "out")])
    assert caught.value.code == 2
    text = capsys.readouterr().err
    assert message in text and text.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        export.main(["--checkpoint", str(run()), "--out", str(tmp_path)])
    assert "is not empty, and nothing is overwritten" in capsys.readouterr().err


def test_batches_draw_the_images_of_one_batch(tmp_path, native_backend):
    """PyTorch's noise is one stream, step after step for all images, so a batch needs to know how many there are."""
    folder = write_folder(tmp_path / "net", PLAIN, calm_weights("plain", {}))
    model = models.load_diffusers(folder)
    whole, parts = (model.sample(5, batch_size=size, sampler="ddpm", steps=3, seed=SEED) for size in (5, 2))
    assert difference(parts, whole) <= 1


def test_the_command_draws_and_repeats(tmp_path, capsys):
    folder = write_folder(tmp_path / "net", PLAIN, calm_weights("plain", {}))
    words = ["--diffusers", str(folder), "--count", "2", "--steps", "3", "--backend", "numpy", "--array", "--out"]
    command.main([*words, str(tmp_path / "one")])
    command.main(["--like", str(tmp_path / "one" / "grid.png"), "--array", "--out", str(tmp_path / "two")])
    one, two = (np.load(tmp_path / name / "samples.npz")["arr_0"] for name in ("one", "two"))
    assert np.array_equal(one, two)
    (folder / "config.json").write_text(json.dumps(PLAIN | {"norm_eps": 1e-5}))
    with pytest.raises(SystemExit):
        command.main(["--like", str(tmp_path / "one" / "grid.png"), "--out", str(tmp_path / "three")])
    assert "was drawn with another config.json: its SHA-256 is" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main([*words, str(tmp_path / "three"), "--checkpoint", "run"])
    assert "which model? give --checkpoint or --diffusers, not both" in capsys.readouterr().err
