"""One step, and what many of them come to: learning, exact repetition, and a name for what goes wrong."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from minidiff import backend
from minidiff import checkpoint as checkpoints
from minidiff.checkpoint.config import Config
from minidiff.data.dataset import ImageDataset
from minidiff.data.open import open_data
from minidiff.errors import MinidiffError
from minidiff.nn import on_forward
from minidiff.training import loop
from minidiff.training.loop import train_step
from minidiff.training.nonfinite import tensors
from minidiff.training.optimizer import gradient_norm
from minidiff.training.resume import check_resumable, check_settings
from minidiff.training.trainer import Trainer


def run(trainer, steps):
    return [train_step(trainer) for _ in range(steps)]


def test_each_setting_is_compared_on_resuming_but_those_that_may_change():
    """A setting that is added is compared, until somebody says here that it may change."""
    may_change = {
        "data_dir", "download", "onto",  # where things are; their content is compared
        "steps", "minutes", "backend", "threads", "save_every", "keep", "preview_every",
    }  # fmt: skip
    before = SimpleNamespace(path="a.safetensors", config=Config())
    compared, names = set(), set()
    for concern in dataclasses.fields(Config):
        part = getattr(before.config, concern.name)
        for field in dataclasses.fields(part):
            names.add(field.name)
            changed = dataclasses.replace(part, **{field.name: "another"})
            try:
                check_settings(before, dataclasses.replace(before.config, **{concern.name: changed}))
            except MinidiffError as error:
                assert f"--{field.name.replace('_', '-')} " in str(error)
                compared.add(field.name)
    assert compared == names - may_change and may_change < names


def test_one_batch_is_overfitted(settings):
    """Two images, over and over: the loss falls to a tenth of what it is for a network that says nothing.

    Measured: a fourteenth. An error in a gradient, the update or the noising leaves it far above.
    """
    images = np.zeros((2, 8, 8, 1), np.uint8)
    images[0, 2:6, 2:6], images[1, :, 3:5] = 255, 200
    config = settings(steps=120, batch_size=16, lr=1e-2, warmup=10, cond_dropout=0.0)
    backend.use("numba")  # in a third of the time
    trainer = Trainer(config, ImageDataset("two", images, np.arange(2), ("square", "bar")))
    records = run(trainer, 120)
    first, last = (np.mean([r.loss for r in part]) for part in (records[:5], records[-25:]))
    assert 0.5 < first < 2  # v has a variance of about 1
    assert last < first / 10


def test_same_settings_same_bits(trainer):
    one, other = trainer(), trainer()
    assert run(one, 3) == run(other, 3)
    assert np.array_equal(one.parameters.w, other.parameters.w)


@pytest.mark.parametrize("number", [1, 2])
def test_same_threads_same_bits(trainer, threads, number):
    """With the compiled kernels, and a network wide enough that they share its work out."""
    threads(number)
    with backend.using("numba"):
        one, other = trainer(model_channels=32, accumulate=2), trainer(model_channels=32, accumulate=2)
        assert run(one, 3) == run(other, 3)
        assert np.array_equal(one.parameters.w, other.parameters.w)


def test_another_seed_is_another_training(trainer):
    one, other = trainer(seed=1), trainer(seed=2)
    assert run(one, 1) != run(other, 1)


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_is_the_same_batch(trainer, parts):
    """Accumulated gradients differ from whole ones by the order of float32 sums alone: 2e-6 of the largest."""
    whole, cut = trainer(flip=True), trainer(flip=True, accumulate=parts)
    whole_record, cut_record = train_step(whole), train_step(cut)
    assert cut_record.loss == pytest.approx(whole_record.loss, rel=1e-6)
    assert cut_record.grad_norm == pytest.approx(whole_record.grad_norm, rel=1e-5)
    g = whole.parameters.g
    assert np.abs(cut.parameters.g / parts - g).max() < 2e-6 * np.abs(g).max()


def test_flips_mirror_half_of_the_images(trainer):
    plain, flipping = trainer(), trainer(flip=True)
    index = np.arange(len(plain.dataset))
    whole, flipped = (it.training_data.batch(index, 0, index) for it in (plain, flipping))
    (x0, labels), (mirrored, same_labels) = ((each.x0, each.labels) for each in (whole, flipped))
    assert np.array_equal(labels, same_labels)
    kinds = {(np.array_equal(m, x), np.array_equal(m, x[:, ::-1])) for m, x in zip(mirrored, x0)}
    assert (True, False) in kinds
    assert (False, True) in kinds
    assert (False, False) not in kinds


def test_images_reach_the_loss_as_floats_in_minus_one_to_one(trainer, monkeypatch):
    it, seen = trainer(), []
    monkeypatch.setattr(type(it.process), "training_examples", lambda self, model, x0, *rest: seen.append(x0) or ())
    index = np.arange(len(it.dataset))
    it.examples(it.training_data.batch(index, 0, index))
    (x0,) = seen
    assert x0.dtype == np.float32
    assert (x0.min(), x0.max()) == (-1, 1)


def test_a_nan_is_traced_to_its_layer(trainer):
    it = trainer()
    run(it, 2)
    it.model.middle[0].block.conv1.w.data[0, 0, 0, 0] = np.nan
    before = it.parameters.w.copy(), it.parameters.m.copy()
    with pytest.raises(MinidiffError) as caught:
        train_step(it)
    assert str(caught.value) == "the loss is nan at step 3; it arose in middle.0.block.conv1 (Conv2d)"
    assert np.array_equal(it.parameters.w, before[0], equal_nan=True)
    assert np.array_equal(it.parameters.m, before[1])
    assert it.step == 2


def test_the_first_of_several_layers_is_named(trainer):
    it = trainer()
    for layer in (it.model.conv_out, it.model.down[0].block.conv2, it.model.up[0].block.conv1):
        layer.w.data[:] = np.inf
    with pytest.raises(MinidiffError, match=r"at step 1; it arose in down\.0\.block\.conv2 \(Conv2d\)"):
        train_step(it)


def test_an_overflow_in_the_loss_itself_is_said(trainer):
    """Outputs of 1e30 are numbers, their squares are not."""
    it = trainer()
    it.model.conv_out.b.data[:] = 1e30
    with pytest.raises(MinidiffError, match="the loss is inf at step 1; it arose in the loss itself"):
        train_step(it)


def test_a_gradient_that_overflows_is_traced_to_the_parameter_nearest_the_loss(monkeypatch, trainer):
    """Gradients flow from the end of the network to its beginning, so the last one that is not finite was the first."""
    it = trainer()

    def overflow(parameters, losses, parts):
        for name in ("conv_in.w", "middle.1.block.conv1.b", "down.0.block.norm1.gain"):
            parameters.split(parameters.g)[name].flat[0] = np.inf
        return gradient_norm(parameters, losses, parts)

    monkeypatch.setattr(loop, "gradient_norm", overflow)
    before = it.parameters.w.copy()
    with pytest.raises(MinidiffError) as caught:
        train_step(it)
    assert str(caught.value) == "the gradient is inf at step 1; it arose in middle.1.block.conv1.b"
    assert np.array_equal(it.parameters.w, before)


def test_other_images_than_the_checkpoints_are_one_line(tmp_path, trainer, settings):
    it = trainer()
    path = tmp_path / "step_00000000.safetensors"
    checkpoints.save(path, 0, it.config, it.network, it.dataset.classes, it.parameters)
    found = checkpoints.load(path)
    images, labels = np.zeros((9, 8, 8, 3), np.uint8), np.arange(9) % 3
    with pytest.raises(MinidiffError) as caught:
        Trainer(settings(), ImageDataset("other", images, labels, ("x", "y", "z")), found)
    assert str(caught.value) == f"{path} was trained on the labels 0 1 2; the data has x y z"
    larger = ImageDataset("larger", images.repeat(2, axis=1), labels, it.dataset.classes)
    with pytest.raises(MinidiffError) as caught:
        Trainer(settings(), larger, found)
    assert str(caught.value) == f"{path} was trained on images of 8×8×3; the data has 16×8×3"


def test_a_loss_that_is_not_finite_names_the_layer_that_reads_captions(settings):
    config = settings(data="scenes", data_dir=None, size=(16,), patch=2, text_width=8, text_layers=1, groups=4)
    it = Trainer(config, open_data(config.data))
    seen = []
    with on_forward(lambda module, output: seen.append((type(module).__name__, len(list(tensors(output)))))):
        it.loss(it.training_data.batch(np.arange(2), 0, np.arange(2)))
    assert ("TextEncoder", 2) in seen and all(count for _, count in seen)  # none is passed over
    it.model.text.layers[0].linear1.w.data[:] = np.inf
    with pytest.raises(MinidiffError) as caught:
        train_step(it)
    assert str(caught.value) == "the loss is nan at step 1; it arose in text.layers.0.linear1 (Linear)"


def test_an_update_that_overflows_prints_no_warning(trainer):
    it = trainer()
    it.parameters.m[:] = 1e38
    with backend.using("numpy"):
        train_step(it)  # warnings are errors here
    assert not np.isfinite(it.parameters.w).all()


def test_other_images_are_told_by_their_digest(trainer, tmp_path):
    it = trainer()
    object.__setattr__(it.dataset, "digest", "a" * 64)
    path = tmp_path / "step_00000000.safetensors"
    checkpoints.save(path, 0, it.config, it.network, it.dataset.classes, it.parameters, data=it.dataset.digest)
    found = checkpoints.load(path)
    check_resumable(found, it.config, it.network, it.dataset, None)
    object.__setattr__(it.dataset, "digest", "b" * 64)
    with pytest.raises(MinidiffError) as caught:
        Trainer(it.config, it.dataset, found)
    assert str(caught.value) == (
        f"{path} was trained on other images than {it.dataset.name} now holds: their digest was {'a' * 16}, "
        f"it is {'b' * 16}; put the images back as they were, or train anew"
    )
