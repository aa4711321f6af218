"""The benchmark of latent diffusion: the steady state that it times, its ratios, its checks, its one-line errors."""

import json

import numpy as np
import pytest

from benchmarks import latent
from minidiff import backend
from minidiff.checkpoint.config import ModelConfig
from minidiff.data.encoded import LAG, STEPS_AHEAD, USES
from minidiff.errors import MinidiffError
from minidiff.latent.space import LatentStatistics
from minidiff.nn.autoencoder import AutoencoderConfig
from minidiff.scenes.captions import TOKENIZER

TINY = ModelConfig(patch=1, model_channels=8, channel_mult=(1, 2), heads=2)
CODED = AutoencoderConfig(
    32, 32, encoder_channels=(8, 8), decoder_channels=(8, 8), encoder_blocks=(0, 1), decoder_blocks=(0, 1)
)


pytestmark = pytest.mark.release  # what it measures has tests of its own


@pytest.fixture
def models(monkeypatch):  # made for each test: trainings and drawings leave traces
    """Tiny models on NumPy's backend: of latents 8 × 8 of 32 pixels, and of 16 pixels."""
    monkeypatch.setattr(backend, "_stack", [])
    backend.use("numpy")
    return latent.untrained(32, CODED, TINY), latent.untrained(16, None, TINY)


# ---- what is timed --------------------------------------------------------------------------------------------------


def test_the_untrained_models_are_the_defaults_with_captions(monkeypatch):
    monkeypatch.setattr(latent, "fit", lambda *_: LatentStatistics((0.0,), (1.0,), (0.0,)))
    monkeypatch.setattr(latent, "filled", lambda module: module)
    in_latents, in_pixels = latent.models(latent.Arguments())
    assert in_latents.shape == (128, 128, 3) and in_latents.noise_shape == (16, 16, 8)
    assert in_pixels.shape == in_pixels.noise_shape == (32, 32, 3)
    assert (in_latents.model.config.patch, in_pixels.model.config.patch) == (1, 2)
    assert in_latents.model.config.vocab_size == in_pixels.model.config.vocab_size == len(TOKENIZER)
    assert in_latents.space.autoencoder.config == AutoencoderConfig(128, 128)
    assert latent.Work() == latent.Work(count=16, steps=50, batch=32, trained=32)


def test_drawing_is_guided_and_ends_with_the_decoder(models, monkeypatch):
    in_latents, in_pixels = models
    for model in models:
        images, whole, decoder = latent.draw(model, latent.Work(count=2, steps=2))
        expected = model.sample(2, prompt=latent.PROMPT, guidance_scale=3.0, steps=2)
        assert np.array_equal(latent.to_uint8(images), expected) and 0 < decoder < whole
    assert in_latents.shape == (32, 32, 3) and in_pixels.shape == (16, 16, 3)
    decoded = []
    monkeypatch.setattr(latent.Latents, "decode", lambda self, x: decoded.append(x.shape) or np.zeros((2, 32, 32, 3)))
    latent.draw(in_latents, latent.Work(count=2, steps=2))
    assert decoded == [(2, 8, 8, 8)]


@pytest.fixture
def blank(monkeypatch):
    """Scenes that nothing is drawn for."""

    def render(self, index, depth):
        nothing = np.zeros((len(index), self.height, self.width, 3), np.uint8)
        rendering = latent.Rendering(nothing, nothing[..., 0].astype(np.float32), nothing[..., 0])
        return rendering, np.zeros((len(index), TOKENIZER.max_tokens), np.int64)

    monkeypatch.setattr(latent.Scenes, "_render", render)


def test_in_the_steady_state_a_step_encodes_a_quarter_of_its_images(blank, models):
    """Of 32 images eight are new: one group, which is encoded with those of the next steps."""
    trainer = latent.make_trainer(models[0], 32)
    watch, scenes = trainer.space.watch, trainer.dataset.watch
    latent.reach_steady_state(trainer)
    assert trainer.step == LAG * (USES - 1)
    for _ in range(3):
        before, rendered = watch.times, scenes.times
        for _ in range(STEPS_AHEAD):
            trainer.batches()
            trainer.step += 1
        assert (watch.times - before, scenes.times - rendered) == (STEPS_AHEAD, 1)


def test_rendering_and_encoding_are_parts_of_a_step(blank, models):
    trainers = {kind: latent.make_trainer(model, 8) for kind, model in zip(latent.KINDS, models)}
    latent.reach_steady_state(trainers[latent.LATENT])
    took = {kind: latent.train(trainer, 1) for kind, trainer in trainers.items()}
    assert took[latent.LATENT].keys() == {"step", "rendering", "encoding"}
    assert took[latent.PIXEL].keys() == {"step", "rendering"}
    for parts in took.values():
        assert 0 < sum(seconds for name, seconds in parts.items() if name != "step") < parts["step"]
    assert trainers[latent.LATENT].step == LAG * (USES - 1) + 1 and trainers[latent.PIXEL].step == 1


def test_no_gradient_of_the_checked_step_is_zero(models):
    """Otherwise the check would hold whatever is computed below a layer of zeros."""
    trainer = latent.make_trainer(models[1], 4)
    found = latent.first_step(trainer, trainer.batches())
    assert found["loss"] > 0 and len(found) == 1 + len(trainer.parameters.parameters)
    assert all(array.any() for name, array in found.items() if "text" not in name and ".k.b" not in name)
    assert not trainer.parameters.g.any()  # the steps that are timed start from nothing


def test_numbers_that_are_not_numpys_end_the_run(models, monkeypatch):
    def drawn(model, work):
        return np.full((work.count, 2, 2, 3), next(values)), 0.0, 0.0

    values = iter([1.0, 1.5])
    monkeypatch.setattr(latent, "draw", drawn)
    with pytest.raises(MinidiffError, match=r"^drawing in pixels: numpy and ours disagree: images differs by 5"):
        latent.check(models[1], latent.make_trainer(models[1], 4), latent.PIXEL, latent.QUICK)


# ---- rounds ---------------------------------------------------------------------------------------------------------


def test_both_take_turns_there_and_back(capsys):
    asked = []
    found = latent.in_turn(3, lambda kind: asked.append(kind) or {"step": float(len(asked))}, "training")
    assert asked == ["latents", "pixels", "pixels", "latents", "latents", "pixels"]
    assert [each["step"] for each in found["latents"]] == [1.0, 4.0, 5.0]
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines()[-1] == "training, round 3 of 3: latents step 5.000 s; pixels step 6.000 s"


def test_ratios_are_of_latents_to_pixels_within_rounds():
    found = {
        kind: [{"step": seconds} for seconds in times]
        for kind, times in zip(latent.KINDS, ([3.0, 6.0, 9.0], [1.0, 2.0, 4.0]))
    }
    assert latent.compared(found, "step") == {"latents": 6.0, "pixels": 2.0, "ratio": 3.0}


def test_the_whole_is_measured(blank, models, capsys):
    work = latent.Work(count=2, steps=2, batch=4, trained=1)
    results = json.loads(json.dumps(latent.measure(*models, work, 1)))
    assert set(results) == {"models", "difference", "drawing", "decoder", "training", "data", "rounds"}
    assert 0 < results["decoder"]["share"] < 1 and results["drawing"]["ratio"] > 0 < results["training"]["ratio"]
    assert set(results["data"]["latents"]) == {"rendering", "encoding"} and set(results["data"]["pixels"]) == {
        "rendering"
    }
    assert max(results["difference"].values()) == 0  # NumPy beside itself
    assert len(results["difference"]) == 5 and capsys.readouterr().out == ""


# ---- the command ----------------------------------------------------------------------------------------------------


def test_a_model_of_the_other_kind_is_one_line(models, monkeypatch, tmp_path):
    for model, kind, other in zip(models, latent.KINDS, latent.KINDS[::-1]):
        monkeypatch.setattr(latent, "load", lambda path: model)  # noqa: B023
        assert latent.trained(tmp_path, kind) is model
        with pytest.raises(MinidiffError, match=f"expected a model that works with {other}, got .* with {kind}$"):
            latent.trained(tmp_path, other)


@pytest.mark.parametrize(
    ("words", "line"),
    [(["--rounds", "0"], "--rounds must be 1 or more, got 0"), (["--threads", "0"], "threads must be from 1 to")],
)
def test_mistakes_are_one_line(words, line, monkeypatch, capsys):
    monkeypatch.setattr(backend, "_stack", [])
    with pytest.raises(SystemExit) as left:
        latent.main(words)
    assert left.value.code == 2 and capsys.readouterr().err.startswith(f"error: {line}")
