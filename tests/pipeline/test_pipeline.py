"""A checkpoint becomes images: labels in every form, seeds, batches, and mistakes in one line."""

import dataclasses
import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_model

from minidiff import backend
from minidiff import checkpoint as checkpoints
from minidiff.diffusion.edit import Edit
from minidiff.diffusion.solvers import SAMPLERS
from minidiff.diffusion.timesteps import trailing
from minidiff.errors import MinidiffError
from minidiff.nn.module import watching
from minidiff.pipeline import loading as models
from minidiff.pipeline.prepare import network_interval
from minidiff.pipeline.settings import SAMPLER_SETTINGS, Inputs, SamplingSettings
from minidiff.sampling.request import SampleRequest
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


def test_the_command_and_python_have_the_same_defaults():
    """The command's request has options of its own for the inputs of a model; those that are numbers agree."""
    command, python = SampleRequest(), Inputs()
    assert (command.control_scale, command.reference_scale) == (python.control_scale, python.reference_scale)
    assert (command.control_kind, command.reference_scale) == (python.control_kind, 0.8)


def test_a_folder_gives_its_newest_checkpoint_and_a_file_itself(run):
    assert models.load(run).step == 20
    older = models.load(checkpoints.path_of(run, 10))
    assert older.step == 10
    assert older.classes == tiny_model.CLASSES
    assert older.shape == (8, 8, 3)


def test_the_averaged_weights_draw(model):
    tensors = checkpoints.load(model.path).tensors
    for name, parameter in model.model.named_parameters().items():
        assert np.array_equal(parameter.data, tensors["ema"][name])
    assert any(not np.array_equal(tensors["ema"][name], tensors["model"][name]) for name in tensors["ema"])


def test_images_are_bytes_and_repeat(native_backend, run):
    model = models.load(run)
    images = model.sample(4, **FEW)
    assert images.shape == (4, 8, 8, 3)
    assert images.dtype == np.uint8
    assert np.array_equal(images, model.sample(4, **FEW))
    assert not np.array_equal(images, model.sample(4, seed=1, **FEW))
    assert images.std() > 10  # something is on them


def test_backends_draw_the_same_images(run):
    drawn = []
    for name in RUN_HERE:
        with backend.using(name):
            drawn.append(models.load(run).sample(2, steps=2).astype(int))
    for other in drawn[1:]:
        # float32 in another order: 1e-5 of the range, which may tip a rounding to the next grey level
        assert np.abs(other - drawn[0]).max() <= 1


def test_a_image_does_not_depend_on_count_or_batch(native_backend, run):
    model = models.load(run)
    whole = model.sample(5, **FEW).astype(int)
    assert np.abs(model.sample(5, batch_size=2, **FEW) - whole).max() <= 1  # sums in another order, as above
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


@pytest.mark.parametrize("label", [0, np.int64(0), "0", "cat", [0], np.array([0])])
def test_the_first_label_is_one_like_the_others(model, label):
    """Its number is 0, which is not nothing: where an image is drawn anew, and beside a prompt."""
    edit = Edit(np.zeros((8, 8, 3), np.float32), strength=0.9)
    anew = lambda **how: list(model.generate(1, edit=edit, **FEW, **how))[-1].x_prev
    assert np.array_equal(anew(label=label), anew(label=["cat"]))
    assert not np.array_equal(anew(label=label), anew())
    with pytest.raises(MinidiffError, match=r"^give a prompt or a label, not both$"):
        model.sample(1, label, prompt="a cat")


def test_a_name_may_be_spelt_with_combining_characters(tmp_path):
    """macOS gives such names to folders, keyboards give others."""
    one, other = "caf\u00e9", "cafe\u0301"
    assert models.load(tiny_model.write(tmp_path / "one", classes=("a", one))).labels(1, other).tolist() == [1]
    assert models.load(tiny_model.write(tmp_path / "other", classes=("a", other))).labels(1, one).tolist() == [1]


def test_steps_that_nobody_asked_for_fit_the_schedule(model, unlabelled):
    assert (model.steps_of(None), unlabelled.steps_of(None), unlabelled.steps_of(7)) == (50, 20, 7)
    assert len(list(unlabelled.generate(1))) == 20


@pytest.mark.parametrize("channels", [2, 4])
def test_images_that_are_neither_grey_nor_coloured_are_refused(tmp_path, channels):
    with pytest.raises(MinidiffError, match=rf"has images of {channels} channels; expected 1, grey, or 3"):
        models.load(tiny_model.write(tmp_path, channels=channels))


def test_images_that_are_not_finite_are_refused(tmp_path):
    with np.errstate(all="ignore"):
        steps = models.load(tiny_model.write(tmp_path, grown=1e38)).generate(1, clip="none", **FEW)
        with pytest.raises(MinidiffError, match=r"step_00000010\.safetensors draws are not finite: either its weights"):
            list(steps)


def test_a_model_without_labels(unlabelled):
    assert unlabelled.labels(3) is None
    assert unlabelled.guidance() == 1
    assert unlabelled.sample(2, **FEW).shape == (2, 8, 8, 1)


# -- in words -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return models.load(tiny_model.write(tmp_path_factory.mktemp("run"), words=tiny_model.WORDS))


def test_a_model_that_reads(reader):
    assert reader.classes == () and reader.tokenizer.words == tiny_model.WORDS and reader.tokenizer.max_tokens == 4
    labels_of = lambda prompt: reader.prepare(SamplingSettings(), Inputs(prompt=prompt)).labels_of(3)
    assert labels_of("A small dog!").tolist() == [[1, 6, 4, 0]] * 3
    assert labels_of(["night", "a cat"]).tolist() == [[5, 0, 0, 0], [1, 3, 0, 0], [5, 0, 0, 0]]
    assert labels_of(None) is None


def test_prompts_reach_the_network(reader):
    at = lambda **how: reader.sample(2, seed=3, **FEW, **how)
    dog = at(prompt="a dog")
    assert not np.array_equal(dog, at(prompt="a cat"))
    assert not np.array_equal(dog, at())
    assert np.array_equal(dog, at(prompt=["a dog"], guidance_scale=3))
    assert not np.array_equal(dog, at(prompt="a dog", guidance_scale=1))
    assert np.array_equal(at(prompt="a dog", guidance_scale=0), at())  # forgets the words
    both = at(prompt=["a dog", "a cat"])
    assert np.abs(both[0].astype(int) - dog[0]).max() <= 1  # sums in another order, as above
    assert not np.array_equal(both[1], dog[1])


def test_a_prompt_on_every_backend(reader):
    drawn = []
    for name in RUN_HERE:
        with backend.using(name):
            model = models.load(reader.path)
            drawn.append(model.sample(1, prompt="a dog", negative="night", steps=2).astype(int))
    for other in drawn[1:]:
        assert np.abs(other - drawn[0]).max() <= 1  # as above


def test_a_negative_prompt_takes_the_place_of_no_prompt(reader):
    at = lambda **how: list(reader.generate(2, prompt="a dog", **FEW, **how))[-1].x_prev
    plain = at()
    assert not np.array_equal(at(negative="night"), plain)
    assert np.array_equal(at(negative="night"), at(negative=["night"]))
    # led away from what it is led to, the scale has nothing to enlarge: as learnt, but for rounding
    assert np.abs(at(negative="a dog") - at(guidance_scale=1)).max() < 1e-3


def test_guidance_in_an_interval(reader):
    at = lambda interval, **how: list(reader.generate(1, prompt="a dog", guidance_interval=interval, **FEW, **how))
    last = lambda *arguments, **how: at(*arguments, **how)[-1].x_prev
    always, never = last(None), last(None, guidance_scale=1)
    assert np.array_equal(last((0, 1e9)), always)
    assert np.abs(last((1e8, 1e9)) - never).max() < 1e-6  # beyond the noisiest time
    assert np.abs(last((0, 1e-9)) - never).max() < 1e-6  # and before the cleanest
    some = last((0.2, 2))
    assert not np.array_equal(some, always) and not np.array_equal(some, never)


def test_an_interval_is_one_of_noise_over_image(reader):
    """Where sigma = sqrt((1 - alpha_bar) / alpha_bar) lies in the interval, guidance is on."""
    low, high = network_interval(reader.process, (0.2, 2))
    alpha_bar = reader.process.schedule.alpha_bar
    sigma = np.sqrt((1 - alpha_bar) / alpha_bar)
    t = np.arange(len(sigma))
    inside = (t >= low) & (t <= high)
    assert sigma[inside].min() == pytest.approx(0.2, rel=0.02)  # the next time is that far away
    assert sigma[inside].max() == pytest.approx(2, rel=0.02)
    assert not ((sigma[~inside] > 0.21) & (sigma[~inside] < 1.95)).any()


def test_the_network_is_asked_once_where_it_is_not_guided(reader, monkeypatch):
    asked = []
    forward = type(reader.model).forward
    monkeypatch.setattr(
        type(reader.model), "forward", lambda self, x, *more: asked.append(len(x)) or forward(self, x, *more)
    )
    low, high = network_interval(reader.process, (0.2, 2))
    with watching():  # or later steps would not ask in Python
        times = [step.t for step in reader.generate(1, prompt="a dog", guidance_interval=(0.2, 2), steps=10)]
    assert asked == [2 if low <= t <= high else 1 for t in times]
    assert set(asked) == {1, 2}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": "a dgo"}, "unknown word in the prompt: 'dgo' (did you mean 'dog'?); known are a big cat dog night "
         "small"),
        ({"prompt": ""}, "a prompt must have words, such as 'a dog'; got ''"),
        ({"prompt": []}, "prompt is an empty list; give None for none"),
        ({"prompt": ["a dog", " "]}, "a prompt must have words, such as 'a dog'; got ' '"),
        ({"prompt": "a dog a dog a"}, "a prompt may have up to 4 words, got 5: 'a dog a dog a'"),
        ({"prompt": "a dog", "label": "dog"}, "give a prompt or a label, not both"),
        ({"label": "dog"}, "this model was trained without labels; it cannot draw 'dog'; it reads prompts"),
        ({"negative": "a dog"}, "a negative prompt needs a prompt, and a guidance scale other than 1, to lead away "
         "from it"),
        ({"prompt": "a dog", "negative": "night", "guidance_scale": 1}, "a negative prompt needs a prompt, and a "
         "guidance scale other than 1, to lead away from it"),
        ({"prompt": "a dog", "negative": "fog"}, "unknown word in the prompt: 'fog' (did you mean 'dog'?); known are a "
         "big cat dog night small"),
        ({"guidance_scale": 3}, "guidance_scale must be 1 without a prompt or label, got 3"),
        ({"prompt": "a dog", "guidance_interval": (2, 1)}, "guidance_interval must be two sigma, the lower one first, "
         "got 2 and 1"),
        ({"prompt": "a dog", "guidance_interval": (-1, 1)}, "guidance_interval must be 0 or more, got -1"),
        ({"prompt": "a dog", "guidance_interval": (float("nan"), 1)}, "guidance_interval must be 0 or more, got nan"),
    ],
)  # fmt: skip
def test_mistakes_in_words_are_named(reader, settings, message):
    with pytest.raises(MinidiffError) as caught:
        reader.sample(1, **settings)
    assert str(caught.value) == message


def test_a_prompt_for_a_model_that_cannot_read(model, unlabelled):
    start = "this model was trained without captions and cannot read a prompt; "
    for settings in ({"prompt": "a dog"}, {"label": "dog", "negative": "a dog"}):
        with pytest.raises(MinidiffError) as caught:
            model.sample(1, **settings)
        assert str(caught.value) == start + "it knows the labels cat, dog, owl"
    with pytest.raises(MinidiffError) as caught:
        unlabelled.sample(1, prompt="a dog")
    assert str(caught.value) == start + "nor has it labels"


# -- steps and mistakes ---------------------------------------------------------------------------------------------


def test_generate_yields_the_steps_of_the_same_images(model):
    steps = list(model.generate(2, "owl", sampler="ddpm", seed=5, **FEW))
    assert [step.t for step in steps] == trailing(1000, 4)
    images = model.sample(2, "owl", sampler="ddpm", seed=5, **FEW)
    last = np.clip(np.rint((steps[-1].x_prev + 1) * 127.5), 0, 255)
    assert np.array_equal(last, images)


def test_settings_reach_the_sampler(model):
    # only to the bit: any of these may change little in a network that was never trained
    base = list(model.generate(1, **FEW))[-1].x_prev
    for settings in ({"sampler": "ddpm"}, {"eta": 1.0}, {"clip": "none"}, {"steps": 5}):
        assert not np.array_equal(list(model.generate(1, **{**FEW, **settings}))[-1].x_prev, base)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "count must be from 1 to 2^32 - 1, got 0"),
        ({"batch_size": 0}, "batch_size must be from 1 to 1048576, got 0"),
        ({"seed": -1}, "seed must be from 0 to 2^64 - 1, got -1"),
        ({"steps": 0}, "steps must be from 1 to 1000, the schedule's length, got 0"),
        ({"steps": 1001}, "steps must be from 1 to 1000, the schedule's length, got 1001"),
        (
            {"sampler": "leap"},
            "sampler must be one of ddpm, ddim, euler, euler-ancestral, heun, dpm-solver, dpm-solver-sde, unipc, "
            "got 'leap'",
        ),
        ({"sampler": "ddpm", "eta": 0.5}, "eta is a setting of ddim; ddpm has none, got 0.5"),
        ({"eta": -1.0}, "eta must be from 0 to 1, got -1.0"),
        ({"clip": "hard"}, "clip must be one of none, clip, dynamic, got 'hard'"),
        ({"guidance_scale": float("inf")}, "guidance_scale must be from -10000 to 10000, got inf"),
        ({"label": "dgo"}, "no label 'dgo'; did you mean 'dog'?; known are cat, dog, owl"),
        ({"label": ["cat", "zebra"]}, "no label 'zebra'; known are cat, dog, owl"),
        ({"label": 3}, "a label's number must be from 0 to 2, got 3"),
        ({"label": "-1"}, "no label '-1'; known are cat, dog, owl"),
        ({"label": ""}, "no label ''; known are cat, dog, owl"),
        ({"spacing": ""}, "spacing must be one of trailing, leading, linspace, karras, got ''"),
        ({"clip": ""}, "clip must be one of none, clip, dynamic, got ''"),
        ({"churn": float("nan")}, "churn must be from 0 to 1e+06, got nan"),
        ({"control_scale": float("nan")}, "control_scale must be from -10000 to 10000, got nan"),
        ({"reference_scale": 1e9}, "reference_scale must be from -10000 to 10000, got 1000000000.0"),
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


def test_the_table_of_sampler_settings_is_that_of_the_samplers():
    shared = {"run", "x_T", "noisy_end"}  # noisy_end is a model's default and no setting
    for name, sampler in SAMPLERS.items():
        assert set(inspect.signature(sampler).parameters) - shared == set(SAMPLER_SETTINGS.get(name, ())), name


def test_an_unknown_keyword_is_a_mistake_of_the_program(model):
    with pytest.raises(TypeError, match=r"^unknown setting 'guidance'; known are churn, clip, "):
        model.sample(1, guidance=3)


# -- inputs of adapters ------------------------------------------------------------------------------------------------

MAPS = np.arange(3, dtype=np.uint8).repeat(64).reshape(3, 8, 8, 1)


@pytest.fixture
def adaptable(model):
    return dataclasses.replace(model, adapters={"edges": SimpleNamespace(channels=1), "reference": SimpleNamespace()})


def test_maps_take_turns_in_any_batch(adaptable):
    for first, count in ((0, 5), (2, 2), (7, 1)):
        drawing = adaptable.adapted(Inputs(control=MAPS), first, count).control.drawing
        assert (drawing[:, 0, 0, 0] * 255).round().tolist() == [k % 3 for k in range(first, first + count)]
    assert adaptable.adapted(Inputs(control=MAPS[2]), 0, 4).control.drawing.shape == (4, 8, 8, 1)


@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        (MAPS[0, :, :, 0], r"\(8, 8\) of uint8"),
        (MAPS.repeat(3, axis=3), r"\(3, 8, 8, 3\) of uint8"),
        (MAPS[:0], r"\(0, 8, 8, 1\) of uint8"),
        (MAPS[:, :4], r"\(3, 4, 8, 1\) of uint8"),
        (MAPS[None], r"\(1, 3, 8, 8, 1\) of uint8"),
        (MAPS / 255, r"\(3, 8, 8, 1\) of float64"),
        (MAPS.astype(object), r"\(3, 8, 8, 1\) of object"),
        (MAPS.tolist(), r"\(3, 8, 8, 1\) of int64"),
    ],
)
def test_an_adapters_input_of_another_kind_is_one_line(adaptable, wrong, got):
    for name, image in (("control", r"\(8, 8, 1\)"), ("reference", r"\(8, 8, 3\)")):
        if name == "reference" and got.startswith(r"\(3, 8, 8, 3"):
            continue  # that is right for colours
        with pytest.raises(
            MinidiffError, match=f"^{name} must be an image {image} of uint8, or several.*got .* {got}$"
        ):
            adaptable.adapted(Inputs(**{name: wrong}), 0, 2)


def test_a_keyword_of_before_is_named_as_it_is_today(model):
    with pytest.raises(TypeError, match=r"^batch is now called batch_size$"):
        model.sample(1, batch=2)
