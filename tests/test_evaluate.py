"""The command that evaluates: its table, its JSON, reproducible numbers, and one line for every mistake."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny_model
import toy_images

from minidiff import backend
from minidiff import checkpoint as checkpoints
from minidiff import evaluate as command
from minidiff.checkpoint.config import Config
from minidiff.data.config import DataConfig
from minidiff.errors import MinidiffError, printable
from minidiff.evaluation import cache
from minidiff.evaluation.convnet import TrainConfig
from minidiff.evaluation.labels import judge
from minidiff.evaluation.scenes import attributes, prompts
from minidiff.evaluation.scenes import judge as scenes_judge
from minidiff.images.files import read_metadata
from minidiff.nn import UNet, UNetConfig
from minidiff.nn.autoencoder import Autoencoder, AutoencoderConfig
from minidiff.nn.flat_parameters import FlatParameters
from minidiff.pipeline import loading as models
from minidiff.scenes.captions import TOKENIZER
from tests import mistakes


@pytest.fixture(autouse=True)
def own_backend(monkeypatch):
    """The command selects a backend for its whole process, which here is the tests'."""
    monkeypatch.setattr(backend, "_stack", [])


@pytest.fixture(autouse=True)
def short_training(monkeypatch, tmp_path_factory):
    """A classifier that trains for a second, cached for the tests of this file: they test the command."""
    folder = tmp_path_factory.getbasetemp() / "classifiers"
    monkeypatch.setattr(cache, "default_folder", lambda: folder)
    monkeypatch.setattr(command, "train_config_for", lambda dataset: TrainConfig(steps=30, batch_size=48))
    monkeypatch.setattr(judge, "TRIPLES", 200)


@pytest.fixture
def run(tmp_path):
    tiny_model.write(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def data(tmp_path):
    toy_images.write(tmp_path / "toy.npz", 200, seed=26)  # of which 20 are held out
    return tmp_path / "toy.npz"


def evaluate(run, data, *words):
    words = ("--checkpoint", run, "--data", "npz", "--data-dir", data, "--steps", 2, "--backend", "numpy", *words)
    command.main([str(word) for word in words])


def fails(capsys, *words):
    return mistakes.of_command(command.main, capsys, *words, "--backend", "numpy")


def test_everything_it_says(run, data, capsys):
    evaluate(run, data, "--count", 32, "--seed", 5)
    result = json.loads((run / "evaluation.json").read_text())
    table = capsys.readouterr().out

    assert result["version"] == 1
    assert Path(result["checkpoint"]["path"]).name == "step_00000010.safetensors" and result["checkpoint"]["step"] == 10
    assert result["data"] == {"name": "toy.npz", "held_out_images": 20, "classes": ["cat", "dog", "owl"]}
    on = {"backend": "numpy", "threads": backend.get("numpy").threads()}
    settings = {
        "count": 32,
        "sampler": "ddim",
        "steps": 2,
        "spacing": "trailing",
        "eta": 0.0,
        "guidance_scale": 3.0,
        "clip": "clip",
        "churn": 0.0,
        "guidance_interval": None,
        "variance": None,
    }
    assert result["settings"] == {**settings, "seed": 5, "batch_size": 64, **on}

    read = result["read_as_asked"]
    assert read["of"] == 32 and read["share"] == read["right"] / 32
    assert read["interval_95"][0] <= read["share"] <= read["interval_95"][1]
    assert [(part["class"], part["of"]) for part in read["by_class"]] == [("cat", 11), ("dog", 11), ("owl", 10)]
    assert sum(part["right"] for part in read["by_class"]) == read["right"]
    assert len(result["misread"]) == 32 - read["right"]
    assert all(one["asked"] != one["read"] for one in result["misread"])
    assert result["classifier"]["of"] == 20

    assert result["frechet"]["images_in_each_set"] == 10
    samples, real = (result["frechet"][key]["distance"] for key in ("samples_to_real", "real_to_real"))
    assert samples > real > 0  # an untrained network
    like = result["likeness"]
    assert like["kid"]["samples"]["distance"] > like["kid"]["real"]["distance"]
    assert 0 <= like["precision"]["samples"] <= like["precision"]["real"] <= 1
    assert like["nearest_training_image"]["samples"] > 0 and "nearest          " in table
    loss = result["held_out_loss"]
    assert loss["count"] == 200 and loss["standard_error"] > 0
    assert sum(part["count"] for part in loss["by_t"]) == 200
    assert [part["from"] for part in loss["by_t"]] == [0, 200, 400, 600, 800]

    for number in (read["share"], *read["interval_95"], result["classifier"]["share"]):
        assert f"{100 * number:.1f}" in table
    for number in (samples, real, loss["mean"]):
        assert f"{number:.4f}" in table
    assert "10 in each set, 64 features" in table and "seed 5, on numpy" in table
    assert str(run / "evaluation.json") in table and str(run / "misread.png") in table
    assert read_metadata(run / "misread.png")["checkpoint_sha256"] == result["checkpoint"]["sha256"]


def test_names_cannot_steer_the_terminal(tmp_path, capsys):
    """Those of labels, of data and of folders are printed escaped, also into misread.png."""
    evil = ("cat\x1b[2J", "dog\n\n", "owl\u202e")
    tiny_model.write(tmp_path / "run\x1b", classes=tuple(map(printable, evil)))  # as a training has them
    toy_images.write(tmp_path / "toy\x1b.npz", 200)
    with np.load(tmp_path / "toy\x1b.npz") as file:
        np.savez(tmp_path / "toy\x1b.npz", **{**file, "classes": np.array(evil)})
    evaluate(tmp_path / "run\x1b", tmp_path / "toy\x1b.npz", "--count", 12)
    text = capsys.readouterr()
    assert "\x1b" not in text.out + text.err and "\u202e" not in text.out
    for name in ("cat\\x1b[2J", "dog\\n\\n", "owl\\u202e", "toy\\x1b.npz", "run\\x1b"):
        assert name in text.out
    assert (tmp_path / "run\x1b" / "misread.png").is_file()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no /dev/null")
def test_results_never_take_the_place_of_a_device_or_a_link_to_nothing(tmp_path):
    (tmp_path / "link").symlink_to("link")
    for path in (Path(os.devnull), tmp_path / "link"):
        with pytest.raises(
            MinidiffError, match=rf"^--json {path} is a folder, a device or a link to nothing; expected"
        ):
            command.json_path(command.EvaluateConfig(json=path))
    assert not Path(os.devnull).is_file() and (tmp_path / "link").is_symlink()


def test_results_take_the_place_of_no_other_file_than_the_evaluation_before(tmp_path):
    (tmp_path / "mine.json").write_text("kept")
    (tmp_path / "evaluation.json").write_text("{}")
    with pytest.raises(MinidiffError, match=r"mine\.json exists, and nothing is overwritten; name another file$"):
        command.json_path(command.EvaluateConfig(json=tmp_path / "mine.json"))
    assert command.json_path(command.EvaluateConfig(checkpoint=tmp_path)) == tmp_path / "evaluation.json"
    (tmp_path / "mine.json").unlink()
    target = command.json_path(command.EvaluateConfig(json=tmp_path / "mine.json"))
    target.write_text("came meanwhile")
    with pytest.raises(MinidiffError, match=r"mine\.json exists, and nothing is overwritten; name another file$"):
        command.write(target, {}, new=True)
    assert target.read_text() == "came meanwhile"
    command.write(tmp_path / "evaluation.json", {"a": 1}, new=False)
    assert json.loads((tmp_path / "evaluation.json").read_text()) == {"a": 1}


def test_same_seed_same_result(run, data, tmp_path):
    results = {}
    for name, words in {"one": (), "same": (), "batch": ("--batch-size", 5), "other": ("--seed", 1)}.items():
        evaluate(run, data, "--count", 12, "--json", tmp_path / f"{name}.json", *words)
        results[name] = json.loads((tmp_path / f"{name}.json").read_text())
        assert results[name].pop("seconds").keys() >= {"samples", "held_out_loss"}
    one, batch = results["one"], results["batch"]
    assert one == results["same"]
    assert one["held_out_loss"] != results["other"]["held_out_loss"]
    assert one["frechet"]["samples_to_real"] != results["other"]["frechet"]["samples_to_real"]
    # another batch rounds products differently, and now and then a pixel to the next grey level
    assert one["held_out_loss"] == batch["held_out_loss"]
    distance, batched = (result["frechet"]["samples_to_real"]["distance"] for result in (one, batch))
    assert distance == pytest.approx(batched, rel=0.01)


def test_each_backend(run, data, tmp_path, native_backend):
    name = native_backend.name
    evaluate(run, data, "--count", 6, "--backend", name, "--json", tmp_path / f"{name}.json")
    result = json.loads((tmp_path / f"{name}.json").read_text())
    assert result["settings"]["backend"] == name


def test_a_checkpoint_file_is_judged_as_its_folder_is(run, data):
    (path,) = (run / "checkpoints").glob("*.safetensors")
    evaluate(path, data, "--count", 3)
    assert (run / "checkpoints" / "evaluation.json").is_file()


def test_which_images_judge():
    def chosen(shape=(28, 28, 1), trained=None, **asked):
        trained = trained or DataConfig(data="mnist", data_dir=Path("there"))
        return command.data_config(command.EvaluateConfig(**asked), trained, shape, ("a",))

    same = chosen()
    assert (same.data, same.data_dir, same.size, same.download) == ("mnist", Path("there"), None, False)
    assert chosen(data_dir=Path("here")).data_dir == Path("here")
    assert chosen(data="cifar10").data_dir is None  # where MNIST lies there is no CIFAR-10
    assert chosen(data="cifar10").grey
    scenes = chosen((48, 48, 3), DataConfig(size=(48,)))
    assert (scenes.data, scenes.size, scenes.grey) == ("scenes", (48,), False)
    folder = chosen((24, 24, 3), DataConfig(data="folder", data_dir=Path("f"), background="red"))
    assert (folder.size, folder.folder_labels, folder.background) == ((24,), True, "red")
    assert chosen((24, 40, 3), DataConfig(data="folder", data_dir=Path("f"))).size == (24, 40)


def test_mistakes(run, data, tmp_path, capsys, monkeypatch):
    about_data = ("--data", "npz", "--data-dir", data)
    here = ("--checkpoint", run, *about_data)
    monkeypatch.setattr(models, "WEIGHTS", tmp_path / "none.safetensors")
    assert fails(capsys).startswith("this minidiff comes without weights (there is no ")
    assert "no such file" in fails(capsys, "--checkpoint", tmp_path / "none").lower()
    assert "no checkpoint in" in fails(capsys, "--checkpoint", tmp_path)
    assert fails(capsys, *here, "--count", 1) == "--count must be 2 or more, as distances need a variance, got 1"
    assert fails(capsys, *here, "--steps", 1001) == "steps must be from 1 to 1000, the schedule's length, got 1001"
    assert fails(capsys, *here, "--eta", 2) == "--eta must be from 0 to 1, got 2.0"
    assert fails(capsys, *here, "--guidance-scale", "inf") == "--guidance-scale must be from -10000 to 10000, got inf"
    assert fails(capsys, *here, "--seed", -1) == "--seed must be from 0 to 2^64 - 1, got -1"
    nowhere = tmp_path / "no" / "x.json"
    assert fails(capsys, *here, "--json", nowhere) == f"--json {nowhere}: there is no folder {nowhere.parent}"
    assert (
        fails(capsys, *here, "--json", tmp_path)
        == f"--json {tmp_path} is a folder, a device or a link to nothing; expected a file"
    )
    missing = fails(capsys, "--checkpoint", run, "--data", "mnist")
    assert missing.startswith("--data mnist needs --data-dir")
    # the checkpoint's own data are scenes, which this network of 8×8 cannot have come from
    assert "scenes need at least 16 pixels" in fails(capsys, "--checkpoint", run)
    assert not list(run.glob("*.json"))


def test_models_and_data_that_do_not_fit(run, tmp_path, capsys):
    tiny_model.write(tmp_path / "bare", classes=())
    said = fails(capsys, "--checkpoint", tmp_path / "bare")
    assert said.endswith("was trained without labels: nothing is known that its samples should show")
    np.savez(tmp_path / "bare.npz", images=toy_images.make(20).images)
    said = fails(capsys, "--checkpoint", run, "--data", "npz", "--data-dir", tmp_path / "bare.npz")
    assert said.endswith("these images have no labels, and evaluation asks whether a sample shows its label")
    tiny_model.write(tmp_path / "two", classes=("cat", "dog"))
    toy_images.write(tmp_path / "three.npz", 20)
    said = fails(capsys, "--checkpoint", tmp_path / "two", "--data", "npz", "--data-dir", tmp_path / "three.npz")
    assert said.endswith("was trained on other labels: it has 2 (cat, dog), three.npz has 3 (cat, dog, owl)")


def test_a_model_that_reads_prompts(tmp_path, capsys, monkeypatch):
    """From prompts to the table, with the weights that minidiff comes with; its classifiers train for seconds only."""
    monkeypatch.setattr(attributes, "train_config_for", lambda seed: TrainConfig(steps=24, batch_size=32, seed=seed))
    counted = partial(attributes.count_correct, count=300)  # not of 4,000: these facts are in the table, no more
    monkeypatch.setattr(prompts, "count_correct", counted)
    monkeypatch.setattr(prompts, "MIN_ACCURACY", 0.0)  # so that every fact is evaluated
    monkeypatch.setattr(scenes_judge, "TRIPLES", 100)
    how = ("--count", "12", "--steps", "6", "--sampler", "unipc", "--backend", "numba")
    command.main([*how, "--json", str(tmp_path / "one.json")])
    said, result = capsys.readouterr().out, json.loads((tmp_path / "one.json").read_text())
    assert result["checkpoint"]["step"] == 34000 and result["judges"]["left_out"] == result["judges"]["missing"] == []
    assert result["control"]["score"] > 0.8
    hue = result["reference"]["median_hue_error"]
    assert hue["samples"] < 20 < hue["shuffled"] and 0 < hue["real"] < 20
    for kind in ("seen", "unseen"):
        shares = {what: each["all mentioned"] for what, each in result["prompts"][kind].items()}
        assert {each["of"] for each in shares.values()} == {shares["samples"]["of"]} and shares["samples"]["of"] > 12
        share = shares["samples"]["share"]
        assert f"{100 * share:6.1f}%  (" in said
        # a poor classifier is about as wrong on real images as on samples, and still better than chance
        assert shares["floor"]["share"] < share and abs(shares["ceiling"]["share"] - share) < 0.3
        frechet = result["frechet"][kind]
        assert frechet["samples_to_real"]["distance"] > 0 and frechet["images_in_each_set"] == 12
        assert f"{frechet['real_to_real']['distance']:.4f} ± " in said
    assert f"median hue error {hue['samples']:.1f}°" in said and f"{result['control']['score']:.3f} of the way" in said


def test_what_a_model_that_reads_prompts_cannot_be_asked(tmp_path, data, capsys):
    tiny_model.write(tmp_path / "words", words=tiny_model.WORDS)
    here = ("--checkpoint", tmp_path / "words", "--json", tmp_path / "x.json")
    assert fails(capsys, *here, "--data", "npz", "--data-dir", data).endswith("--data is for models with labels")
    assert fails(capsys, *here, "--count", 7).startswith("--count must be 8 or more")
    assert fails(capsys, *here, "--batch-size", 0) == "--batch-size must be from 1 to 1048576, got 0"
    assert fails(capsys, *here, "--steps", 1001) == "steps must be from 1 to 1000, the schedule's length, got 1001"


def test_large_samples_are_judged_by_the_judges_of_small_ones(tmp_path, capsys, monkeypatch):
    """A model of 32×32 that reads prompts and judges of 16×16: all images are reduced, and the edges are whole ones."""
    monkeypatch.setattr(attributes, "train_config_for", lambda seed: TrainConfig(steps=20, batch_size=32, seed=seed))
    monkeypatch.setattr(prompts, "count_correct", partial(attributes.count_correct, count=300))
    monkeypatch.setattr(prompts, "MIN_ACCURACY", 0.0)
    monkeypatch.setattr(scenes_judge, "TRIPLES", 20)
    network = UNetConfig(
        32,
        32,
        patch=4,
        model_channels=8,
        channel_mult=(1,),
        attention_at=(),
        cross_attention_at=(8,),
        heads=2,
        vocab_size=len(TOKENIZER),
        max_tokens=TOKENIZER.max_tokens,
        text_width=8,
        text_layers=0,
    )
    path = tmp_path / "model.safetensors"
    model = UNet(network)
    model.initialize(0)
    checkpoints.save(path, 1, Config(), network, (), FlatParameters(model), TOKENIZER.words)
    target = tmp_path / "one.json"
    how = ("--checkpoint", path, "--json", target, "--count", 8, "--steps", 1, "--backend", "numba")
    assert mistakes.of_command(command.main, capsys, *how, "--judge-size", 33).startswith(
        "--judge-size must be from 16 to 32, the height of the images, got 33"
    )
    command.main([str(word) for word in (*how, "--judge-size", 16)])
    said, result = capsys.readouterr(), json.loads(target.read_text())
    assert result["judges"]["size"] == [16, 16] and "two classifiers of 16×16 images" in said.out
    ceiling, floor = (result["prompts"]["seen"][side]["all mentioned"]["share"] for side in ("ceiling", "samples"))
    assert ceiling > floor  # judges that looked at anything else than reduced renders would not know them
    # the judges are those that a model of 16×16 would have: they are in their files
    kept = cache.attribute_classifier_for(16, attributes.train_config_for(1), log=pytest.fail)
    assert kept.seconds is None


def test_the_classifier_of_labels_looks_at_reduced_images(run, data, capsys):
    evaluate(run, data, "--count", 12, "--judge-size", 4, "--json", run / "small.json")
    said, result = capsys.readouterr().out, json.loads((run / "small.json").read_text())
    assert result["classifier"]["size"] == [4, 4] and result["classifier"]["reduced"]
    assert "classified correctly, reduced to 4×4" in said
    evaluate(run, data, "--count", 12, "--json", run / "whole.json")
    whole = json.loads((run / "whole.json").read_text())
    assert whole["classifier"]["size"] == [8, 8] and not whole["classifier"]["reduced"]
    assert "reduced to" not in capsys.readouterr().out
    assert whole["held_out_loss"] == result["held_out_loss"]  # of the model's own images
    assert whole["frechet"] != result["frechet"]
    said = fails(capsys, "--checkpoint", run, "--data", "npz", "--data-dir", data, "--judge-size", 9)
    assert said == "--judge-size must be from 4 to 8, the height of the images, got 9"


@pytest.fixture
def autoencoder(tmp_path):
    """The checkpoint of an untrained autoencoder for scenes of 16×16."""
    channels = {"encoder_channels": (8, 8), "decoder_channels": (8, 8), "latent_channels": 3}
    network = AutoencoderConfig(16, 16, encoder_blocks=(0, 0), decoder_blocks=(0, 0), **channels)
    with backend.using("numpy"):
        model = Autoencoder(network)
        model.initialize(0)
        parameters = FlatParameters(model)
    path = checkpoints.path_of(tmp_path / "ae", 4)
    path.parent.mkdir(parents=True)
    checkpoints.save(path, 4, Config(data=DataConfig(size=(16,))), network, (), parameters)
    return tmp_path / "ae"


def test_an_autoencoder(autoencoder, capsys):
    here = ("--checkpoint", autoencoder, "--count", 9, "--backend", "numpy")
    command.main([str(word) for word in here])
    said, result = capsys.readouterr().out, json.loads((autoencoder / "evaluation.json").read_text())
    assert result["checkpoint"]["step"] == 4 and result["settings"]["count"] == 9
    assert result["data"] == {"name": "scenes", "held_out_images": 9, "shape": [16, 16, 3]}
    assert result["autoencoder"]["latent_shape"] == [4, 4, 3]
    assert 0 < result["psnr"]["mean_of_lowest_tenth"] < result["psnr"]["median"] < 40
    assert result["edges"]["against"] == "exact edges" and result["edges"]["ratio"] < 1
    assert len(result["latents"]["std"]) == 3 and f"{result['psnr']['mean']:.2f} dB" in said
    about = read_metadata(autoencoder / "reconstructions.png")
    assert about["checkpoint_sha256"] == result["checkpoint"]["sha256"]
    assert str(autoencoder / "reconstructions.png") in said

    command.main([str(word) for word in (*here, "--seed", 1, "--json", autoencoder / "other.json")])
    other = json.loads((autoencoder / "other.json").read_text())
    assert other["psnr"] != result["psnr"] and other["settings"]["seed"] == 1


def test_an_autoencoder_on_other_images(autoencoder, tmp_path, capsys):
    """Of a finite dataset the held-out ones, at most as many as there are."""
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3)).astype(np.uint8)
    np.savez(tmp_path / "noise.npz", images=images)
    here = ("--checkpoint", autoencoder, "--data", "npz", "--data-dir", tmp_path / "noise.npz", "--backend", "numpy")
    command.main([str(word) for word in here])
    result = json.loads((autoencoder / "evaluation.json").read_text())
    assert result["data"]["name"] == "noise.npz" and 0 < result["data"]["held_out_images"] < 20
    assert result["edges"]["originals"] is None and result["edges"]["against"] == "edges of the originals"
    toy_images.write(tmp_path / "toy.npz", 40)
    said = fails(capsys, "--checkpoint", autoencoder, "--data", "npz", "--data-dir", tmp_path / "toy.npz")
    assert said.endswith("was trained on images of (16, 16, 3); those of toy.npz have (8, 8, 3)")


@pytest.mark.parametrize(
    "words", [("--steps", 3), ("--batch-size", 2), ("--sampler", "heun"), ("--judge-size", 16), ("--adapter", "x")]
)
def test_an_autoencoder_draws_nothing(autoencoder, capsys, words):
    said = fails(capsys, "--checkpoint", autoencoder, *words)
    assert said.endswith(f"is an autoencoder; {words[0]} is for models that draw")
    assert fails(capsys, "--checkpoint", autoencoder, "--count", 0).startswith("--count must be from 1 to ")


def test_help_names_every_option():
    done = subprocess.run(
        [sys.executable, "-m", "minidiff.evaluate", "--help"], capture_output=True, text=True, check=True
    )
    for option in (
        "--checkpoint",
        "--data-dir",
        "--count",
        "--guidance-scale",
        "--sampler",
        "--json",
        "--backend",
        "--judge-size",
    ):
        assert option in done.stdout
    assert "--drawing" not in done.stdout
