"""A checkpoint becomes pictures: labels in every form, seeds, batches, and mistakes in one line."""

import numpy as np
import pytest
import tiny_model

from minidiff import backend, models
from minidiff.diffusion.spacing import trailing
from minidiff.errors import MinidiffError
from minidiff.training import checkpoint as checkpoints
from tests.backends import RUN_HERE

FEW = {"steps": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    tiny_model.write(folder, step=10)
    tiny_model.write(folder, step=20)
    return folder


@pytest.fixture(scope="module")
def model(run):
    return models.load(run)


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    return models.load(tiny_model.write(tmp_path_factory.mktemp("run"), classes=(), channels=1, times=20))


def test_a_folder_gives_its_newest_checkpoint_and_a_file_itself(run):
    assert models.load(run).step == 20
    older = models.load(checkpoints.where(run, 10))
    assert older.step == 10
    assert older.classes == tiny_model.CLASSES
    assert older.shape == (8, 8, 3)


def test_the_averaged_weights_draw(model):
    tensors = checkpoints.load(model.path).tensors
    for name, parameter in model.model.named_parameters().items():
        assert np.array_equal(parameter.data, tensors["ema"][name])
    assert any(not np.array_equal(tensors["ema"][name], tensors["model"][name]) for name in tensors["ema"])


def test_pictures_are_bytes_and_repeat(each_backend, run):
    model = models.load(run)
    pictures = model.sample(4, **FEW)
    assert pictures.shape == (4, 8, 8, 3)
    assert pictures.dtype == np.uint8
    assert np.array_equal(pictures, model.sample(4, **FEW))
    assert not np.array_equal(pictures, model.sample(4, seed=1, **FEW))
    assert pictures.std() > 10  # something is on them


def test_backends_draw_the_same_pictures(run):
    drawn = []
    for name in RUN_HERE:
        with backend.using(name):
            drawn.append(models.load(run).sample(2, steps=2).astype(int))
    for other in drawn[1:]:
        # float32 in another order: 1e-5 of the range, which may tip a rounding to the next grey level
        assert np.abs(other - drawn[0]).max() <= 1


def test_a_picture_does_not_depend_on_count_or_batch(each_backend, run):
    model = models.load(run)
    whole = model.sample(5, **FEW).astype(int)
    assert np.abs(model.sample(5, batch=2, **FEW) - whole).max() <= 1  # sums in another order, as above
    assert np.abs(model.sample(2, **FEW) - whole[:2]).max() <= 1


def test_labels_by_name_number_and_in_turns(model):
    assert model.labels(4).tolist() == [0, 1, 2, 0]
    assert model.labels(2, "dog").tolist() == [1, 1]
    assert model.labels(2, 2).tolist() == [2, 2]
    assert model.labels(2, np.int64(2)).tolist() == [2, 2]
    assert model.labels(1, "2").tolist() == [2]
    assert model.labels(5, ["owl", 0]).tolist() == [2, 0, 2, 0, 2]
    assert model.labels(2, ["owl", 0], first=3).tolist() == [0, 2]
    assert model.labels(2, []).tolist() == [0, 1]
    assert model.labels(2).dtype == np.int64


def test_a_name_that_looks_like_a_number_is_a_name(tmp_path):
    digits = models.load(tiny_model.write(tmp_path, classes=("5", "7", "0")))
    assert digits.labels(1, "0").tolist() == [2]
    assert digits.labels(1, 0).tolist() == [0]
    assert digits.labels(1, "1").tolist() == [1]


def test_labels_and_guidance_reach_the_network(model):
    at = lambda **how: model.sample(1, seed=3, **FEW, **how)
    assert not np.array_equal(at(label="dog"), at(label="cat"))
    assert np.array_equal(at(label="dog"), at(label=1))
    assert np.array_equal(at(label="dog"), at(label="dog", guidance_scale=3))
    assert not np.array_equal(at(label="dog"), at(label="dog", guidance_scale=1))
    assert np.array_equal(at(label="dog", guidance_scale=0), at(label="cat", guidance_scale=0))  # labels forgotten


def test_a_model_without_labels(unlabelled):
    assert unlabelled.labels(3) is None
    assert unlabelled.guidance() == 1
    assert unlabelled.sample(2, **FEW).shape == (2, 8, 8, 1)


def test_generate_yields_the_steps_of_the_same_pictures(model):
    steps = list(model.generate(2, "owl", sampler="ddpm", seed=5, **FEW))
    assert [step.t for step in steps] == trailing(1000, 4)
    pictures = model.sample(2, "owl", sampler="ddpm", seed=5, **FEW)
    last = np.clip(np.rint((steps[-1].x_prev + 1) * 127.5), 0, 255)
    assert np.array_equal(last, pictures)


def test_settings_reach_the_sampler(model):
    # only to the bit: any of these may change little in a network that was never trained
    base = list(model.generate(1, **FEW))[-1].x_prev
    for settings in ({"sampler": "ddpm"}, {"eta": 1.0}, {"clip": "none"}, {"steps": 5}):
        assert not np.array_equal(list(model.generate(1, **{**FEW, **settings}))[-1].x_prev, base)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "count must be 1 or more, got 0"),
        ({"batch": 0}, "batch must be 1 or more, got 0"),
        ({"seed": -1}, "seed must be from 0 to 2^64 - 1, got -1"),
        ({"steps": 0}, "steps must be from 1 to 1000, the schedule's length, got 0"),
        ({"steps": 1001}, "steps must be from 1 to 1000, the schedule's length, got 1001"),
        (
            {"sampler": "leap"},
            "sampler must be one of ddpm, ddim, euler, euler-ancestral, heun, dpm-solver, dpm-solver-sde, unipc, "
            "got 'leap'",
        ),
        ({"sampler": "ddpm", "eta": 0.5}, "eta is a setting of ddim; ddpm has none, got 0.5"),
        ({"eta": -1.0}, "eta must be in [0, 1], got -1"),
        ({"clip": "hard"}, "clip must be one of none, clip, dynamic, got 'hard'"),
        ({"guidance_scale": float("inf")}, "guidance_scale must be a finite number, got inf"),
        ({"label": "dgo"}, "no label 'dgo'; did you mean 'dog'?; known are cat, dog, owl"),
        ({"label": ["cat", "zebra"]}, "no label 'zebra'; known are cat, dog, owl"),
        ({"label": 3}, "a label's number must be from 0 to 2, got 3"),
        ({"label": "-1"}, "no label '-1'; known are cat, dog, owl"),
    ],
)
def test_mistakes_are_named(model, settings, message):
    with pytest.raises(MinidiffError) as caught:
        model.sample(**{"count": 1, **settings})
    assert str(caught.value) == message


def test_mistakes_with_a_model_without_labels(unlabelled):
    with pytest.raises(MinidiffError, match=r"^this model was trained without labels; it cannot draw 'dog'$"):
        unlabelled.sample(1, "dog")
    with pytest.raises(MinidiffError, match=r"must be 1 for this model, which was trained without labels, got 3$"):
        unlabelled.sample(1, guidance_scale=3.0)


def test_many_labels_are_not_all_listed(tmp_path):
    many = models.load(tiny_model.write(tmp_path, classes=tuple(f"kind {i}" for i in range(50))))
    with pytest.raises(MinidiffError, match=r"kind 29 and 20 more$"):
        many.sample(1, "dog")


def test_a_missing_checkpoint_is_one_line(tmp_path):
    with pytest.raises(MinidiffError, match="no checkpoint in"):
        models.load(tmp_path)
    with pytest.raises(MinidiffError, match="cannot read checkpoint"):
        models.load(tmp_path / "nothing.safetensors")
