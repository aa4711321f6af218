"""Schedules in diffusers' words, read and written."""

import json

import numpy as np
import pytest

from minidiff.errors import MinidiffError
from minidiff.interop import load_diffusers, read_scheduler, save_as_diffusers, scheduler_file, scheduler_options
from minidiff.interop.diffusers_read import WEIGHTS
from minidiff.pipeline.loading import load_diffusers as load
from tests.interop.foreign import OURS, PLAIN, golden, our_network, their_weights, write_folder

DDPM = {  # of google/ddpm-cifar10-32
    "_class_name": "DDPMScheduler",
    "_diffusers_version": "0.1.1",
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "clip_sample": True,
    "num_train_timesteps": 1000,
    "trained_betas": None,
    "variance_type": "fixed_large",
}


@pytest.fixture
def folder(tmp_path):
    _, shapes, _ = golden("theirs", "plain")
    return write_folder(tmp_path / "net", PLAIN, their_weights(shapes))


def write(place, options):
    place.mkdir(exist_ok=True)
    (place / "scheduler_config.json").write_text(json.dumps(options))


def test_beside_the_network_or_in_a_pipeline(folder):
    write(folder, DDPM)
    found = read_scheduler(folder)
    assert {name: found[name] for name in DDPM if name[0] != "_" and name != "trained_betas"} == {
        name: value for name, value in DDPM.items() if name[0] != "_" and name != "trained_betas"
    }
    assert (found["prediction_type"], found["rescale_betas_zero_snr"]) == ("epsilon", False)
    (folder / "scheduler_config.json").unlink()
    folder.rename(folder.parent / "unet")
    write(folder.parent / "scheduler", DDPM | {"prediction_type": "v_prediction"})
    assert read_scheduler(folder.parent)["prediction_type"] == "v_prediction"
    (folder.parent / "model_index.json").write_text("{}")
    assert read_scheduler(folder.parent / "unet")["prediction_type"] == "v_prediction"
    assert read_scheduler(folder.parent / "unet" / WEIGHTS)["prediction_type"] == "v_prediction"


def test_in_a_folder_of_the_networks_own(folder):
    write(folder / "scheduler", DDPM | {"prediction_type": "v_prediction"})
    assert scheduler_file(folder) == folder / "scheduler" / "scheduler_config.json"
    assert read_scheduler(folder)["prediction_type"] == "v_prediction"
    assert read_scheduler(folder / WEIGHTS)["prediction_type"] == "v_prediction"
    write(folder, DDPM)  # nearer
    assert scheduler_file(folder) == folder / "scheduler_config.json"


@pytest.mark.parametrize("name", ["net", "unet"])
def test_a_strangers_scheduler_is_not_read(folder, name):
    """What lies beside the network's folder is another's, unless the folder is the unet of a pipeline."""
    write(folder.parent / "scheduler", DDPM | {"prediction_type": "v_prediction"})
    if name == "net":
        (folder.parent / "model_index.json").write_text("{}")
    folder = folder.rename(folder.parent / name)
    assert scheduler_file(folder) is None
    assert read_scheduler(folder)["prediction_type"] == "epsilon"


def test_a_scheduler_that_is_assumed_is_said_in_one_line(folder, capsys):
    load(folder)
    assert capsys.readouterr().err == (
        f"{folder} has no scheduler_config.json; assuming DDPM's linear schedule of 1000 timesteps, and that the "
        "network predicts the noise\n"
    )
    write(folder, DDPM)
    load(folder)
    assert capsys.readouterr().err == ""


def test_early_files(folder):
    write(folder, DDPM | {"predict_epsilon": False, "tensor_format": "pt", "timestep_values": None})
    assert read_scheduler(folder)["prediction_type"] == "sample"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trained_betas": [0.1, 0.2]}, "trained_betas must be null, as betas that are listed one by one are not read"),
        (
            {"beta_schedule": "laplace"},
            "beta_schedule must be one of linear, scaled_linear, squaredcos_cap_v2, sigmoid",
        ),
        ({"prediction_type": "flow"}, "prediction_type must be one of epsilon, sample, v_prediction, got 'flow'"),
        ({"_class_name": "PNDMScheduler"}, "is of a 'PNDMScheduler'; of diffusers' schedulers minidiff reads DDPMSch"),
        ({"variance_type": "learned"}, "variance_type must be one of fixed_small"),
        ({"num_train_timesteps": 1}, "num_train_timesteps must be from 2 to 1048576, got 1"),
        ({"num_train_timesteps": 1000.0}, "num_train_timesteps must be a whole number, got 1000.0"),
        ({"beta_end": float("nan")}, "expected 0 < beta_start <= beta_end <= 0.999, got 0.0001 and nan"),
        ({"beta_start": 0.03}, "expected 0 < beta_start <= beta_end <= 0.999, got 0.03 and 0.02"),
        ({"beta_end": 0.9995}, "expected 0 < beta_start <= beta_end <= 0.999, got 0.0001 and 0.9995"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr must be false with prediction_type epsilon"),
        ({"clip_sample_range": 0}, "clip_sample_range must be above 0, got 0"),
        ({"thresholding": True, "dynamic_thresholding_ratio": 1.5}, "dynamic_thresholding_ratio must be from 0 to 1"),
        ({"thresholding": True, "sample_max_value": 0.0}, "sample_max_value must be above 0, got 0.0"),
        ({"steps_offset": -1}, "steps_offset must be from 0 to 999, got -1"),
        ({"steps_offset": 1000}, "steps_offset must be from 0 to 999, got 1000"),
        ({"clip": True}, "unknown setting 'clip'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_refused(folder, options, message):
    write(folder, DDPM | options)
    with pytest.raises(MinidiffError) as error:
        read_scheduler(folder)
    assert str(error.value).startswith(str(folder / "scheduler_config.json"))
    assert message in str(error.value)


def test_options_that_are_not_in_use_may_be_anything(folder):
    unused = {"dynamic_thresholding_ratio": 7.0, "sample_max_value": -1.0, "steps_offset": -5}
    write(folder, DDPM | unused | {"clip_sample": False, "clip_sample_range": -1.0, "timestep_spacing": "trailing"})
    assert read_scheduler(folder)["clip_sample_range"] == -1


def test_betas_that_leave_nothing_of_the_image(folder):
    write(folder, DDPM | {"beta_end": 0.5})
    with pytest.raises(MinidiffError) as error:
        load(folder)
    assert str(error.value).startswith(
        f"{folder / 'scheduler_config.json'}: 1000 times (num_train_timesteps) with betas"
    )
    assert "(beta_end) leave nothing of the image: alpha_bar must end at 1.18e-38 or more, got " in str(error.value)


def test_steps_that_diffusers_cannot_take_are_refused_before_the_first(folder):
    write(folder, DDPM | {"steps_offset": 120})
    with pytest.raises(MinidiffError, match=r"^steps_offset 120 of the model leads beyond its last timestep 999: 10 "):
        load(folder).generate(steps=10)
    with pytest.raises(MinidiffError, match=r"^timestep_spacing trailing: for 61 steps of 1000, rounding adds"):
        load(folder).generate(steps=61, spacing="trailing")
    assert next(load(folder).generate(steps=5)).t == 920


def test_without_a_file_it_is_what_ddpm_was_trained_with(folder):
    found = read_scheduler(folder)
    assert (found["num_train_timesteps"], found["beta_schedule"], found["prediction_type"]) == (
        1000,
        "linear",
        "epsilon",
    )
    assert (found["beta_start"], found["beta_end"], found["variance_type"]) == (1e-4, 0.02, "fixed_small")


@pytest.mark.parametrize("schedule", ["linear", "cosine", "sigmoid"])
@pytest.mark.parametrize("target", ["eps", "x0", "v"])
def test_ours_are_read_back(schedule, target, tmp_path):
    options = scheduler_options(schedule, 500, target)
    save_as_diffusers(our_network(OURS["no attention"]), tmp_path, options)
    assert load_diffusers(tmp_path).config.height == 16
    found = read_scheduler(tmp_path)
    assert {name: found[name] for name in options if name in found} == {k: v for k, v in options.items() if k in found}
    assert options.keys() - found.keys() == {"_class_name", "trained_betas"}


def test_what_diffusers_has_no_word_for():
    with pytest.raises(
        MinidiffError, match=r"^schedule must be one of linear, scaled_linear, cosine, sigmoid, got 'laplace'$"
    ):
        scheduler_options("laplace", 1000, "eps")
    with pytest.raises(MinidiffError, match=r"^target must be one of eps, x0, v, got 'epsilon'$"):
        scheduler_options("cosine", 1000, "epsilon")
    with pytest.raises(
        MinidiffError, match=r"^diffusers has no linear schedule of 10 timesteps as in minidiff; train with"
    ):
        scheduler_options("linear", 10, "eps")  # ours ends at a beta of 0.999, theirs would have 2


@pytest.mark.parametrize("T", [100, 1000])
@pytest.mark.parametrize("schedule", ["linear", "cosine", "sigmoid"])
def test_diffusers_has_the_same_alpha_bar(schedule, T, tmp_path):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    options = scheduler_options(schedule, T, "v")
    write(tmp_path, options)
    theirs = getattr(diffusers, options["_class_name"]).from_pretrained(tmp_path)
    assert (theirs.config.prediction_type, theirs.config.timestep_spacing) == ("v_prediction", "trailing")
    if schedule == "cosine":
        u = np.arange(T + 1) / T
        f = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2
        beta = np.minimum(1 - f[1:] / f[:-1], 0.999)
    else:
        path = np.linspace(0, 1, T) if schedule == "linear" else 1 / (1 + np.exp(-np.linspace(-6, 6, T)))
        beta = (1e-4 + (0.02 - 1e-4) * path) * 1000 / T
    expected = np.cumprod(1 - beta)
    # float32 beta near 1 leaves 1 - beta with few digits, where alpha_bar is almost 0: relative there, 1e-5 else
    assert np.abs(theirs.alphas_cumprod.numpy() / expected - 1)[: int(0.98 * T)].max() < 1e-5
    assert np.abs(theirs.alphas_cumprod.numpy() - expected).max() < 1e-6
