"""What is added to a trained network: it is trained with the network frozen, kept by itself, and fits no other."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save as to_safetensors

from minidiff import checkpoint as checkpoints
from minidiff import export
from minidiff.data.open import open_data
from minidiff.errors import MinidiffError
from minidiff.pipeline import loading as models
from minidiff.training import loop
from minidiff.training.cli import parse
from minidiff.training.loop import train_step
from minidiff.training.optimizer import update
from minidiff.training.trainer import Trainer
from tests import mistakes

KINDS = ["edges", "segmentation", "depth", "reference"]
DIFFERENT = [  # the three kinds of drawings differ in their channels alone
    pytest.param(kind, marks=pytest.mark.release if kind in ("edges", "depth") else []) for kind in KINDS
]


@pytest.fixture(scope="module")
def small():
    """Settings of scenes small enough for a test."""
    return {
        "data": "scenes", "data_dir": None, "size": (16,), "patch": 2, "model_channels": 8, "text_width": 8,
        "text_layers": 1, "groups": 4, "warmup": 1, "steps": 4, "batch_size": 4, "save_every": 2, "preview_every": 100,
    }  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def base(shared, settings, small):
    """A network that has been trained, once for all tests, none of which changes it."""
    run = shared / "base"
    if not run.exists():
        assert loop.train(settings(**small), run) == 0
    return run


def weights(run, step):
    tensors = checkpoints.load(checkpoints.path_of(run, step)).tensors
    return {f"{group}/{name}": array for group in tensors for name, array in tensors[group].items()}


@pytest.mark.parametrize("kind", DIFFERENT)
def test_it_trains_resumes_to_the_bit_and_draws(tmp_path, settings, small, base, kind, capsys):
    before = checkpoints.path_of(base, 4).read_bytes()
    config = settings(**small, adapter=kind, onto=base)
    capsys.readouterr()
    assert loop.train(config, tmp_path / "whole") == 0
    shown = "--reference image.png" if kind == "reference" else f"--control drawing.png --control-kind {kind}"
    added = f"--checkpoint {base} --adapter {checkpoints.path_of(tmp_path / 'whole', 4)}"
    printed = capsys.readouterr().out
    assert f"minidiff.sample {added} {shown} " in printed and f"minidiff.evaluate {added}\n" in printed
    assert loop.train(settings(**{**small, "steps": 4}, adapter=kind, onto=base), tmp_path / "parts") == 0
    checkpoints.path_of(tmp_path / "parts", 4).unlink()
    half = checkpoints.load(checkpoints.path_of(tmp_path / "parts", 2))
    assert loop.train(half.config, resume=half) == 0
    one, two = (weights(tmp_path / name, 4) for name in ("whole", "parts"))
    assert one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)
    assert any(
        np.abs(one[name]).max() > 0
        for name in one
        if name.startswith("model/zero_convs" if kind != "reference" else "model/cross_attentions")
    )
    assert checkpoints.path_of(base, 4).read_bytes() == before

    plain = models.load(base)
    steered = plain.with_adapter(tmp_path / "whole")
    shown = np.full((16, 16, 3 if kind in ("segmentation", "reference") else 1), 200, np.uint8)
    name = "reference" if kind == "reference" else "control"
    how = {"prompt": "a dog", "steps": 2, name: shown}
    how |= {} if kind == "reference" else {"control_kind": kind}
    drawn, silent = (steered.sample(2, **how, **{f"{name}_scale": scale}) for scale in (5.0, 0.0))
    assert np.array_equal(silent, plain.sample(2, prompt="a dog", steps=2))
    assert not np.array_equal(drawn, silent)
    with pytest.raises(MinidiffError, match=f"this model has no adapter for {kind}, it has none; train one with"):
        plain.sample(1, **how)


def test_it_learns_on_one_batch(settings, small, base):
    """Thirty steps on the same four images, with the same noise: the loss falls though the network is frozen."""
    config = settings(**{**small, "steps": 40, "warmup": 0, "lr": 5e-3}, adapter="edges", onto=base)
    it = Trainer(config, open_data(config.data))
    for parameter in it.unet.named_parameters().values():  # a trained network is not silent
        parameter.data += 0.1 * np.random.default_rng(0).normal(size=parameter.shape).astype(np.float32)
    same = np.arange(4)

    def loss():
        it.step = 0
        return it.loss(it.training_data.batch(same, 0, same))

    first = float(loss().data)
    for step in range(1, 31):
        it.parameters.g[:] = 0
        loss().backward()
        update(it.parameters, config.optimizer, step, 5e-3, 1.0, 0.0)
    assert float(loss().data) < 0.9 * first


def test_what_does_not_fit_is_one_line(tmp_path, settings, small, base):
    def fails(line, **changes):
        error = mistakes.of_call(loop.train, settings(**{**small, "steps": 2, **changes}), tmp_path / "never")
        assert re.search(line, error) and not (tmp_path / "never").exists()

    fails("^--adapter and --onto go together", adapter="edges")
    fails("^--adapter and --onto go together", onto=base)
    fails("no checkpoint in", adapter="edges", onto=tmp_path)
    fails(
        "was trained with other settings of the network or on other labels",
        adapter="edges",
        onto=base,
        model_channels=16,
    )
    fails(
        "was trained with other settings of the network or on other labels", adapter="edges", onto=base, captions="none"
    )
    fails("--flip mirrors images, but not the maps of scenes", adapter="edges", onto=base, flip=True)
    loop.train(settings(**{**small, "steps": 1}, adapter="edges", onto=base), tmp_path / "edges")
    fails("is an adapter itself; expected the model that it was added to", adapter="depth", onto=tmp_path / "edges")
    with pytest.raises(MinidiffError, match=r"is an adapter \(edges\); load the model that it is added to"):
        models.load(tmp_path / "edges")
    loop.train(settings(**{**small, "steps": 1, "seed": 5}), tmp_path / "other")
    with pytest.raises(MinidiffError, match="was trained onto another model than"):
        models.load(tmp_path / "other").with_adapter(tmp_path / "edges")
    with pytest.raises(MinidiffError, match="is no adapter but a model of its own"):
        models.load(base).with_adapter(tmp_path / "other")


def saved(config, path):
    """Write the checkpoint of a training that has not begun."""
    it = Trainer(config, open_data(config.data))
    digests = it.base_digest, it.data_digest
    checkpoints.save(path, it.step, it.config, it.network, it.dataset.classes, it.parameters, it.words, *digests)
    return checkpoints.load(path)


def test_it_goes_on_only_with_the_model_that_it_was_added_to(tmp_path, settings, small):
    """A folder means its newest checkpoint, which is another model once that has been trained further."""
    base, other = (checkpoints.path_of(tmp_path / "base", step) for step in (1, 2))
    base.parent.mkdir(parents=True)
    was = saved(settings(**small), base).digest[:16]
    config = settings(**small, adapter="edges", onto=tmp_path / "base")
    found, data = saved(config, tmp_path / "edges.safetensors"), open_data(config.data)
    now = saved(settings(**small, seed=1), other).digest[:16]
    with pytest.raises(MinidiffError) as caught:
        Trainer(config, data, found)
    assert str(caught.value) == (
        f"{found.path} was added to the model with the digest {was}; that of {other} is {now}: "
        "name the former with --onto"
    )
    moved = base.rename(tmp_path / "moved.safetensors")
    asked = parse(["--resume", str(found.path), "--onto", str(moved)]).config
    assert Trainer(asked, data, found).base_digest == found.base


def test_an_adapter_of_another_network_is_refused_whatever_its_digest_says(tmp_path, settings, small):
    """The file claims to belong to the model; its network, whose tensors it holds, does not."""
    saved(settings(**small), tmp_path / "base.safetensors")
    wider = {**small, "model_channels": 12}
    saved(settings(**wider), tmp_path / "wider.safetensors")
    path, model = tmp_path / "edges.safetensors", models.load(tmp_path / "base.safetensors")
    saved(settings(**wider, adapter="edges", onto=tmp_path / "wider.safetensors"), path)
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict
        about = json.loads(file.metadata()[checkpoints.KEY]) | {"base": model.identity}
    about["digest"] = checkpoints.content_digest(about, tensors.items())
    path.write_bytes(to_safetensors(tensors, {checkpoints.KEY: json.dumps(about)}))
    with pytest.raises(MinidiffError) as caught:
        model.with_adapter(path)
    assert str(caught.value) == f"{path} was trained onto a network of another shape than that of {model.path}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_that_is_not_finite_names_its_layer_for_every_kind(tmp_path, settings, small, kind):
    """In the adapter, and in the model below it; layers return one Tensor, several, or what the denoiser is told."""
    saved(settings(**small), tmp_path / "base.safetensors")
    config = settings(**small, adapter=kind, onto=tmp_path / "base.safetensors")
    it = Trainer(config, open_data(config.data))
    layer, name = (
        (it.model.encoder.linear1, "encoder.linear1") if kind == "reference" else (it.model.hint_in, "hint_in")
    )
    whole = it.unet.middle[0].block.conv1.w.data.copy()
    it.unet.middle[0].block.conv1.w.data[:] = np.nan
    with pytest.raises(MinidiffError) as caught:
        train_step(it)
    assert str(caught.value) == "the loss is nan at step 1; it arose in the base's middle.0.block.conv1 (Conv2d)"
    it.unet.middle[0].block.conv1.w.data[:] = whole
    layer.w.data[:] = np.nan
    with pytest.raises(MinidiffError) as caught:
        train_step(it)
    assert str(caught.value) == f"the loss is nan at step 1; it arose in {name} ({type(layer).__name__})"


def test_a_network_without_words_takes_drawings_but_no_references(tmp_path, settings, small):
    plain = {**small, "captions": "none", "steps": 1}
    assert loop.train(settings(**plain), tmp_path / "plain") == 0
    assert loop.train(settings(**plain, adapter="edges", onto=tmp_path / "plain"), tmp_path / "edges") == 0
    with pytest.raises(MinidiffError, match="a reference image is attended to like words; this network has no"):
        loop.train(settings(**plain, adapter="reference", onto=tmp_path / "plain"), tmp_path / "never")


def test_the_command_line_starts_from_the_settings_of_the_network(base):
    """Whoever names the network need not repeat how it was made."""
    request = parse(["--adapter", "edges", "--onto", str(base), "--steps", "3"])
    trained = checkpoints.find(base).config
    assert (request.config.model, request.config.data, request.config.diffusion) == (
        trained.model, trained.data, trained.diffusion,
    )  # fmt: skip
    assert (request.config.run.steps, request.config.run.batch_size) == (3, 32)


# -- weights to draw with ---------------------------------------------------------------------------------------------


def test_weights_for_drawing_draw_the_same_within_float16(tmp_path, base, settings, small, capsys):
    loop.train(settings(**{**small, "steps": 2}, adapter="edges", onto=base), tmp_path / "edges")
    for source, name in ((base, "w.safetensors"), (tmp_path / "edges", "w-edges.safetensors")):
        export.main(["--checkpoint", str(source), "--weights", str(tmp_path / name)])
    whole, small_one = models.load(base), models.load(tmp_path / "w.safetensors")
    assert (tmp_path / "w.safetensors").stat().st_size < checkpoints.path_of(base, 4).stat().st_size / 6
    how = {"prompt": "a cat", "steps": 3}
    a, b = (model.sample(2, **how).astype(int) for model in (whole, small_one))
    assert np.abs(a - b).max() <= 3

    shown = np.full((16, 16, 1), 255, np.uint8)
    adapted = small_one.with_adapter(tmp_path / "w-edges.safetensors").sample(2, **how, control=shown).astype(int)
    expected = whole.with_adapter(tmp_path / "edges").sample(2, **how, control=shown).astype(int)
    assert np.abs(adapted - expected).max() <= 3

    given_away = checkpoints.load(tmp_path / "w-edges.safetensors").config
    assert given_away.addition.onto == Path(base.name)  # and not where that lies
    found = checkpoints.load(tmp_path / "w.safetensors")
    with pytest.raises(MinidiffError, match="holds weights for sampling only; a training cannot go on from it"):
        loop.train(found.config, resume=found)
    with pytest.raises(SystemExit):
        export.main(["--checkpoint", str(base), "--weights", str(tmp_path / "w.safetensors")])
    assert "exists, and nothing is overwritten" in capsys.readouterr().err


def test_weights_take_the_place_of_no_file_that_came_meanwhile(tmp_path, base, monkeypatch):
    path, honest = tmp_path / "w.safetensors", checkpoints.find
    monkeypatch.setattr(checkpoints, "find", lambda *a: path.write_text("another's") and honest(*a))
    with pytest.raises(MinidiffError, match=r"w\.safetensors exists, and nothing is overwritten; name another file$"):
        export.write_weights(base, path)
    assert path.read_text() == "another's"


def test_weights_that_are_damaged_are_one_line(tmp_path, base):
    path = tmp_path / "w.safetensors"
    export.main(["--checkpoint", str(base), "--weights", str(path)])
    whole = bytearray(path.read_bytes())
    whole[-5] ^= 1
    path.write_bytes(whole)
    with pytest.raises(MinidiffError, match="does not match its digest"):
        models.load(path)


def test_weights_that_minidiff_comes_with(tmp_path, base, settings, small, monkeypatch):
    """Beside the model lie its adapters; without the model there is one line."""
    monkeypatch.setattr(models, "WEIGHTS", tmp_path / "none.safetensors")
    with pytest.raises(MinidiffError, match="this minidiff comes without weights"):
        models.load()
    loop.train(settings(**{**small, "steps": 2}, adapter="reference", onto=base), tmp_path / "reference")
    monkeypatch.setattr(models, "WEIGHTS", tmp_path / "w.safetensors")
    export.main(["--checkpoint", str(base), "--weights", str(tmp_path / "w.safetensors")])
    export.main(["--checkpoint", str(tmp_path / "reference"), "--weights", str(tmp_path / "w-reference.safetensors")])
    model = models.load()
    assert set(model.adapters) == {"reference"}
    assert model.sample(1, prompt="a dog", steps=2).shape == (1, 16, 16, 3)
