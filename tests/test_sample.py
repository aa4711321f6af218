"""The command that draws: its files, repeating a grid to the bit, watching, and one line for every mistake."""

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_model
from PIL import Image

from minidiff import __version__, backend
from minidiff import checkpoint as checkpoints
from minidiff import sample as command
from minidiff.diffusion.run import Noise
from minidiff.diffusion.timesteps import trailing
from minidiff.errors import printable
from minidiff.files import sha256
from minidiff.images import animation as animations
from minidiff.images import files as images
from minidiff.pipeline import loading as models
from minidiff.sampling import draw, viewer
from minidiff.sampling.request import SampleRequest
from tests import mistakes


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    tiny_model.write(folder)
    return folder


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unlabelled")
    tiny_model.write(folder, classes=(), channels=1, times=20)
    return folder


@pytest.fixture(autouse=True)
def own_backend(monkeypatch):
    """The command selects a backend for its whole process, which here is the tests'."""
    monkeypatch.setattr(backend, "_stack", [])


def sample(*words, backend="numpy", steps=4):
    command.main([str(word) for word in (*words, "--backend", backend, "--steps", steps)])


def fails(capsys, *words):
    numpy = () if "--backend" in words else ("--backend", "numpy")
    return mistakes.of_command(command.main, capsys, *words, *numpy)


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


# -- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_grid_holds_the_images_and_how_they_came_about(run, tmp_path, capsys, name):
    sample(
        "--checkpoint",
        run,
        "--count",
        4,
        "--label",
        "dog",
        "--seed",
        7,
        "--out",
        tmp_path / "new" / "out",
        backend=name,
    )
    out = tmp_path / "new" / "out"
    assert [path.name for path in out.iterdir()] == ["grid.png"]
    assert capsys.readouterr().out == f"{out / 'grid.png'}\n"
    with backend.using(name):
        expected = images.make_grid(models.load(run).sample(4, "dog", seed=7, steps=4))
    assert np.array_equal(read(out / "grid.png"), expected)
    path = checkpoints.path_of(run, 10)
    assert images.read_metadata(out / "grid.png") == {
        "command": "sample",
        "minidiff": __version__,
        "checkpoint_sha256": sha256(path),
        "settings": {
            "prompt": [],
            "checkpoint": path.as_posix(),
            "diffusers": None,
            "count": 4,
            "label": ["dog"],
            "negative": None,
            "sampler": "ddim",
            "steps": 4,
            "spacing": None,
            "eta": 0.0,
            "churn": 0.0,
            "variance": None,
            "guidance_scale": 3.0,
            "guidance_interval": None,
            "clip": None,
            "seed": 7,
            "batch_size": 64,
            "init": None,
            "strength": None,
            "mask": None,
            "resample": 1,
            "noise_level": None,
            "to": None,
            "vary": None,
            "control": None,
            "control_scale": 1.0,
            "control_kind": "edges",
            "reference": None,
            "reference_scale": 0.8,
            "branch": [],
            "adapter": [],
            "backend": name,
        },
    }


def test_all_files(run, tmp_path):
    extra = ("--images", "--array", "--trace", "--animation", "gif", "--watch")
    sample("--checkpoint", run, "--count", 5, "--batch-size", 2, "--sampler", "ddpm", "--out", tmp_path, *extra)
    names = {"grid.png", "images", "samples.npz", "trace.npz", "steps.gif", "watch.png"}
    assert {path.name for path in tmp_path.iterdir()} == names

    with np.load(tmp_path / "samples.npz", allow_pickle=False) as file:
        assert set(file) == {"arr_0", "labels"}
        arr, labels = file["arr_0"], file["labels"]
    assert (arr.shape, arr.dtype) == ((5, 8, 8, 3), np.uint8)
    assert labels.tolist() == [0, 1, 2, 0, 1]
    with backend.using("numpy"):
        assert np.array_equal(arr, models.load(run).sample(5, sampler="ddpm", steps=4, batch_size=2))

    paths = sorted((tmp_path / "images").iterdir())
    assert [path.name for path in paths] == [f"{k:05d}_{tiny_model.CLASSES[k % 3]}.png" for k in range(5)]
    assert np.array_equal(np.stack([read(path) for path in paths]), arr)

    with np.load(tmp_path / "trace.npz", allow_pickle=False) as file:
        trace = dict(file)
    assert trace["t"].tolist() == trailing(1000, 4)
    for name in ("x_t", "x0_hat", "eps_hat"):
        assert (trace[name].shape, trace[name].dtype) == ((4, 5, 8, 8, 3), np.float32)
    with backend.using("numpy"):
        assert np.array_equal(trace["x_t"][0], Noise(0, np.arange(5)).start((8, 8, 3)))
    alpha_bar = models.load(run).process.schedule.alpha_bar[trace["t"]].reshape(-1, 1, 1, 1, 1)
    again = np.sqrt(alpha_bar) * trace["x0_hat"] + np.sqrt(1 - alpha_bar) * trace["eps_hat"]
    assert np.abs(again - trace["x_t"]).max() < 1e-5  # float32 at values of a few
    assert np.array_equal(images.to_uint8(trace["x0"]), arr)

    with Image.open(tmp_path / "steps.gif") as animation:
        assert animation.n_frames == 5  # four steps, and the result
    assert read(tmp_path / "watch.png").ndim == 3


def test_apng_and_few_frames_of_many_steps(run, tmp_path):
    sample("--checkpoint", run, "--count", 1, "--animation", "apng", "--out", tmp_path, steps=250)
    with Image.open(tmp_path / "steps.png") as animation:
        assert animation.n_frames == draw.MAX_FRAMES + 1


def test_a_model_without_labels(unlabelled, tmp_path):
    sample("--checkpoint", unlabelled, "--count", 2, "--array", "--images", "--out", tmp_path)
    with np.load(tmp_path / "samples.npz", allow_pickle=False) as file:
        assert set(file) == {"arr_0"}
        assert file["arr_0"].shape == (2, 8, 8, 1)
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["00000.png", "00001.png"]


def test_names_of_labels_make_harmless_file_names(tmp_path):
    tiny_model.write(tmp_path / "run", classes=("../up", "Ähre/Korn"))
    sample("--checkpoint", tmp_path / "run", "--count", 2, "--images", "--out", tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out" / "images").iterdir())
    assert names == ["00000__up.png", "00001_Ähre_Korn.png"]


def test_long_names_of_labels_are_cut_as_file_systems_count(tmp_path):
    tiny_model.write(tmp_path / "run", classes=("犬" * 80,))
    sample("--checkpoint", tmp_path / "run", "--count", 1, "--images", "--out", tmp_path / "out", steps=1)
    assert [path.name for path in (tmp_path / "out" / "images").iterdir()] == [f"00000_{'犬' * 24}.png"]


def test_default_folder_is_new_each_time(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        sample("--checkpoint", run, "--count", 1)
    folders = sorted((tmp_path / "runs").iterdir())
    assert len(folders) == 2
    for folder in folders:
        assert "_samples" in folder.name
        assert (folder / "grid.png").is_file()


def test_names_cannot_steer_the_terminal(tmp_path, capsys):
    """Those of folders, of checkpoints that are passed over, of labels and of who drew a grid are printed escaped."""
    evil = "\x1b[2J\u202e"
    run, out = tmp_path / f"run{evil}", tmp_path / f"out{evil}"
    tiny_model.write(run, classes=(printable(f"cat{evil}"), "dog"))
    checkpoints.path_of(run, 20).write_bytes(b"damaged")
    sample("--checkpoint", run, "--count", 1, "--watch", "--images", "--explain", "--out", out)
    about = {**images.read_metadata(out / "grid.png"), "minidiff": evil}
    images.save_png(tmp_path / f"{evil}.png", np.zeros((2, 2, 3), np.uint8), about)
    command.main(["--like", str(tmp_path / f"{evil}.png"), "--out", str(tmp_path / "again")])
    text = capsys.readouterr()
    for stream in (text.out, text.err.replace("\x1b[A", "")):  # which moves up from a bar that is done
        assert "\x1b" not in stream and "\u202e" not in stream and "\\x1b[2J\\u202e" in stream
    assert "skipped: " in text.err and "was drawn by minidiff" in text.err


# -- again, to the bit --------------------------------------------------------------------------------------------


def test_like_repeats_to_the_bit(native_backend, run, tmp_path):
    words = ("--sampler", "ddim", "--eta", 0.5, "--guidance-scale", 2, "--clip", "dynamic", "--seed", 3)
    labels = ("--label", "owl", "cat")
    sample(
        "--checkpoint",
        run,
        "--count",
        5,
        "--batch-size",
        3,
        *labels,
        *words,
        "--out",
        tmp_path / "a",
        backend=native_backend.name,
    )
    command.main(["--like", str(tmp_path / "a" / "grid.png"), "--out", str(tmp_path / "b")])
    assert (tmp_path / "a" / "grid.png").read_bytes() == (tmp_path / "b" / "grid.png").read_bytes()


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader")
    tiny_model.write(folder, words=tiny_model.WORDS)
    return folder


def test_prompts_are_columns_and_in_the_metadata(reader, tmp_path):
    words = ("--negative", "night", "--guidance-interval", 0.2, 5, "--images", "--array")
    sample("A small dog", "a cat!", "--checkpoint", reader, "--count", 6, *words, "--out", tmp_path / "a")
    with backend.using("numpy"):
        model = models.load(reader)
        how = {"negative": "night", "guidance_interval": (0.2, 5), "steps": 4}
        arr = model.sample(6, prompt=["A small dog", "a cat!"], **how)
    assert np.array_equal(read(tmp_path / "a" / "grid.png"), images.make_grid(arr, 2))
    settings = images.read_metadata(tmp_path / "a" / "grid.png")["settings"]
    assert settings["prompt"] == ["A small dog", "a cat!"] and settings["negative"] == "night"
    assert settings["guidance_interval"] == [0.2, 5] and settings["guidance_scale"] == 3
    names = sorted(path.name for path in (tmp_path / "a" / "images").iterdir())
    assert names[:3] == ["00000_a_small_dog.png", "00001_a_cat.png", "00002_a_small_dog.png"]
    with np.load(tmp_path / "a" / "samples.npz", allow_pickle=False) as file:
        assert np.array_equal(file["arr_0"], arr)
        assert file["labels"].tolist() == [[1, 6, 4, 0], [1, 3, 0, 0]] * 3


def test_like_repeats_prompts_to_the_bit(native_backend, reader, tmp_path):
    how = ("--negative", "night", "--guidance-interval", 0.1, 9, "--guidance-scale", 2, "--count", 3, "--batch-size", 2)
    sample("a dog", "big cat", "--checkpoint", reader, *how, "--out", tmp_path / "a", backend=native_backend.name)
    command.main(["--like", str(tmp_path / "a" / "grid.png"), "--out", str(tmp_path / "b")])
    assert (tmp_path / "a" / "grid.png").read_bytes() == (tmp_path / "b" / "grid.png").read_bytes()
    command.main(["a dog", "--like", str(tmp_path / "a" / "grid.png"), "--out", str(tmp_path / "c")])
    one, other = (images.read_metadata(tmp_path / name / "grid.png")["settings"] for name in "ac")
    assert other == {**one, "prompt": ["a dog"]}


def test_one_prompt_and_none(reader, tmp_path):
    sample("--checkpoint", reader, "a dog", "--count", 4, "--out", tmp_path / "a")
    sample("--checkpoint", reader, "--count", 4, "--images", "--out", tmp_path / "b")
    with backend.using("numpy"):
        model = models.load(reader)
        assert np.array_equal(
            read(tmp_path / "a" / "grid.png"), images.make_grid(model.sample(4, prompt="a dog", steps=4))
        )
        assert np.array_equal(read(tmp_path / "b" / "grid.png"), images.make_grid(model.sample(4, steps=4)))
    assert (tmp_path / "b" / "images" / "00000.png").is_file()
    assert images.read_metadata(tmp_path / "b" / "grid.png")["settings"]["guidance_scale"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a dgo",), "unknown word in the prompt: 'dgo' (did you mean 'dog'?); known are a big cat dog night small"),
        (("",), "a prompt must have words, such as 'a dog'; got ''"),
        (("a dog", "--label", "dog"), "give a prompt or a label, not both"),
        (
            ("--negative", "night"),
            "a negative prompt needs a prompt, and a guidance scale other than 1, to lead away from it",
        ),
        (
            ("a dog", "--guidance-interval", 2, 1),
            "guidance_interval must be two sigma, the lower one first, got 2 and 1",
        ),
    ],
)
def test_bad_prompts_are_one_line_and_leave_nothing(reader, tmp_path, capsys, words, message):
    assert fails(capsys, "--checkpoint", reader, "--out", tmp_path / "out", "--backend", "numpy", *words) == message
    assert not (tmp_path / "out").exists()


def test_a_prompt_for_a_model_with_labels(run, capsys):
    line = fails(capsys, "a dog", "--checkpoint", run)
    assert line == (
        "this model was trained without captions and cannot read a prompt; it knows the labels cat, dog, owl"
    )


def test_threads_change_no_bit(run, tmp_path, threads):
    """So the grid.png of a machine with more of them is repeated here. 64 images: enough to be shared out."""
    threads(2)
    words = ("--checkpoint", run, "--count", 64, "--trace", "--out")
    sample(*words, tmp_path / "two", "--threads", 2, backend="numba", steps=2)
    sample(*words, tmp_path / "one", "--threads", 1, backend="numba", steps=2)
    two, one = (np.load(tmp_path / name / "trace.npz") for name in ("two", "one"))
    assert all(np.array_equal(two[name], one[name]) for name in ("eps_hat", "x0"))


def test_settings_beside_like_change_what_they_name(run, tmp_path):
    sample("--checkpoint", run, "--count", 2, "--label", "owl", "--out", tmp_path / "a")
    command.main(["--like", str(tmp_path / "a" / "grid.png"), "--seed", "9", "--array", "--out", str(tmp_path / "b")])
    one, other = (images.read_metadata(tmp_path / name / "grid.png")["settings"] for name in "ab")
    assert other == {**one, "seed": 9}
    assert (tmp_path / "b" / "samples.npz").is_file()


def test_like_repeats_guidance_without_an_upper_end(reader, tmp_path):
    how = ("--guidance-interval", 0.2, "inf", "--count", 2)
    sample("a dog", "--checkpoint", reader, *how, "--out", tmp_path / "a")
    assert images.read_metadata(tmp_path / "a" / "grid.png")["settings"]["guidance_interval"] == [0.2, "inf"]
    command.main(["--like", str(tmp_path / "a" / "grid.png"), "--out", str(tmp_path / "b")])
    assert (tmp_path / "a" / "grid.png").read_bytes() == (tmp_path / "b" / "grid.png").read_bytes()


def test_like_refuses_another_checkpoint(run, tmp_path, capsys):
    sample("--checkpoint", run, "--count", 1, "--out", tmp_path / "a")
    tiny_model.write(tmp_path / "other", step=11)
    line = fails(
        capsys, "--like", tmp_path / "a" / "grid.png", "--checkpoint", tmp_path / "other", "--out", tmp_path / "b"
    )
    one, other = (
        sha256(checkpoints.path_of(run, 10)),
        sha256(checkpoints.path_of(tmp_path / "other", 11)),
    )
    assert "was drawn with another checkpoint" in line
    assert one in line
    assert other in line
    assert not (tmp_path / "b").exists()


def test_like_finds_the_same_checkpoint_elsewhere(run, tmp_path):
    """What counts is its content, not where it lies."""
    sample("--checkpoint", run, "--count", 1, "--out", tmp_path / "a")
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(checkpoints.path_of(run, 10).read_bytes())
    command.main(["--like", str(tmp_path / "a/grid.png"), "--checkpoint", str(moved), "--out", str(tmp_path / "b")])
    assert np.array_equal(*(read(tmp_path / name / "grid.png") for name in "ab"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about: about.pop("settings"), "was not written by python -m minidiff.sample"),
        (lambda about: about.update(command="train"), "was not written by python -m minidiff.sample"),
        (lambda about: about.update(checkpoint_sha256="\x8a" * 9000), "was not written by python -m minidiff.sample"),
        (lambda about: about["settings"].update(out="/"), "unknown setting 'out'"),
        (lambda about: about["settings"].update(steps="all"), "steps must be a whole number, got 'all'"),
        (lambda about: about["settings"].update(guidance_interval=[0, 1, 2]), "must be a list of 2, got [0, 1, 2]"),
        (lambda about: about["settings"].update(guidance_interval=[]), "must be a list of 2, got []"),
        (lambda about: about["settings"].update(guidance_interval=[0, "all"]), "must be a number, got 'all'"),
        (lambda about: about["settings"].update(sampler="leap"), "sampler must be one of ddpm, ddim, euler, "),
    ],
)
def test_like_does_not_trust_the_file(run, tmp_path, capsys, change, message):
    sample("--checkpoint", run, "--count", 1, "--out", tmp_path / "a")
    about = images.read_metadata(tmp_path / "a" / "grid.png")
    change(about)
    images.save_png(tmp_path / "bad.png", np.zeros((2, 2, 3), np.uint8), json.loads(json.dumps(about)))
    assert message in fails(capsys, "--like", tmp_path / "bad.png", "--out", tmp_path / "b")


def test_like_says_that_bits_may_differ_between_versions(run, tmp_path, capsys):
    sample("--checkpoint", run, "--count", 1, "--out", tmp_path / "a")
    about = {**images.read_metadata(tmp_path / "a" / "grid.png"), "minidiff": "0.0.1"}
    images.save_png(tmp_path / "old.png", np.zeros((2, 2, 3), np.uint8), about)
    command.main(["--like", str(tmp_path / "old.png"), "--out", str(tmp_path / "b")])
    assert "was drawn by minidiff 0.0.1" in capsys.readouterr().err


def test_like_finds_what_lay_beside_the_grid(tmp_path, monkeypatch):
    """A grid names its files as the command did: where they no longer are, they are looked for around the grid."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    tiny_model.write(Path("run"))
    Image.new("RGB", (8, 8), (200, 100, 50)).save("start.png")
    sample("--checkpoint", "run", "--init", "start.png", "--count", 1, "--out", "out/a")
    assert images.read_metadata("out/a/grid.png")["settings"]["init"] == "start.png"  # no folder of its maker's
    monkeypatch.chdir(tmp_path)
    Path("here").rename("there")
    command.main(["--like", "there/out/a/grid.png", "--out", "b"])
    assert np.array_equal(read("b/grid.png"), read("there/out/a/grid.png"))


# -- watching -----------------------------------------------------------------------------------------------------


def test_watch_in_a_file_that_is_rewritten(run, tmp_path, monkeypatch, capsys):
    seen, save_png = [], images.save_png

    def note(path, image, metadata=None):
        save_png(path, image, metadata)
        if path.name == "watch.png":
            seen.append(read(path))

    monkeypatch.setattr(viewer, "save_png", note)
    sample("--checkpoint", run, "--count", 2, "--batch-size", 1, "--watch", "--out", tmp_path)
    assert len(seen) == 8  # four steps of two batches
    assert not np.array_equal(seen[0], seen[3])
    assert capsys.readouterr().out.startswith(f"watch {tmp_path / 'watch.png'}\n")


def test_watch_in_a_terminal(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "12")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    sample("--checkpoint", run, "--count", 2, "--watch", "--out", tmp_path)
    text = capsys.readouterr().out
    assert not (tmp_path / "watch.png").exists()
    assert text.count("t = ") == 4
    frames = text.split("\x1b[K\n")
    lines = [line for line in frames[0].split("\n") if "▀" in line]
    assert 0 < len(lines) <= 10  # of twelve, one for the bar and one for the cursor
    assert max(line.count("▀") for line in lines) <= 60
    for frame in frames[1:4]:
        assert frame.startswith(f"\x1b[{len(lines) + 1}F")  # over the frame before, and its bar
    assert len(frames[0].split("\n")[-1]) <= 60  # a bar that wraps would shift all that follows


def test_a_latent_model_is_watched_in_the_size_of_its_images(tmp_path, monkeypatch, capsys):
    tiny_model.write_latent(tmp_path / "run", size=(96, 160))
    seen = []
    monkeypatch.setattr(viewer, "save_png", lambda path, image: seen.append(image))
    words = ("--checkpoint", tmp_path / "run", "a dog", "--count", 2, "--watch", "--animation", "gif")
    sample(*words, "--out", tmp_path / "file")
    grid = read(tmp_path / "file" / "grid.png")
    assert grid.shape == (*seen[0].shape[:1], seen[0].shape[1] // 2, 3)
    assert np.array_equal(seen[-1][:, grid.shape[1] :], grid)  # the last guess is decoded
    guess = seen[0][:, grid.shape[1] :][6:-6, 6:-6]  # three times as large, with gaps of two pixels around it
    blocks = guess[:, : 160 * 3].reshape(24, 12, 40, 12, 3)
    assert np.array_equal(blocks, np.broadcast_to(blocks[:, :1, :, :1], blocks.shape))  # one colour for 4 × 4 pixels
    with Image.open(tmp_path / "file" / "steps.gif") as animation:
        assert animation.size == (2 * 2 * (2 * 160 + 3 * 2), 2 * (96 + 2 * 2))
        assert animation.n_frames == 5
    capsys.readouterr()
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "12")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    sample(*words, "--out", tmp_path / "terminal")
    lines = [line for line in capsys.readouterr().out.split("\x1b[K\n")[0].split("\n") if "▀" in line]
    assert 0 < len(lines) <= 10 and 40 <= max(line.count("▀") for line in lines) <= 60


@pytest.mark.parametrize(("count", "size", "width"), [(1, 32, 144), (16, 64, 1064), (9, 128, 1568), (16, 128, 1044)])
def test_an_animation_is_at_most_about_a_thousand_pixels_high(count, size, width):
    images_of = np.zeros((count, size, size, 3), np.float32)
    step = SimpleNamespace(x_t=images_of, x0_hat=images_of)
    assert animations.frame(step, zoom=animations.animation_zoom(images_of)).shape[1] == width


# -- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--count", 0), "--count must be from 1 to 2^32 - 1, got 0"),
        (("--batch-size", 0), "--batch-size must be from 1 to 1048576, got 0"),
        (("--steps", 0), "--steps must be from 1 to 2^32 - 1, got 0"),
        (("--steps", 1001), "steps must be from 1 to 1000, the schedule's length, got 1001"),
        (("--seed", -1), "--seed must be from 0 to 2^64 - 1, got -1"),
        (("--label", "dgo"), "no label 'dgo'; did you mean 'dog'?; known are cat, dog, owl"),
        (("--guidance-scale", 1e300, "--clip", "none"), "--guidance-scale must be from -10000 to 10000, got 1e+300"),
        (("--control-scale", "nan"), "--control-scale must be from -10000 to 10000, got nan"),
        (("--reference-scale", "inf"), "--reference-scale must be from -10000 to 10000, got inf"),
        (("--guidance-interval", 0, "nan"), "--guidance-interval must be 0 or more, got nan"),
        (("--init", ""), "--init is empty; is a shell variable not set?"),
        (("--label=",), "--label is empty; is a shell variable not set?"),
        (("--eta", 2), "--eta must be from 0 to 1, got 2.0"),
        (("--sampler", "ddpm", "--eta", 1), "eta is a setting of ddim; ddpm has none, got 1.0"),
        (("--guidance-scale", "nan"), "--guidance-scale must be from -10000 to 10000, got nan"),
        (
            ("--backend", "cuda"),
            "backend 'cuda' is not known; expected one of auto, numpy, numba, numba-gemm, cupy, numba-cuda",
        ),
    ],
)
def test_bad_values_are_one_line_and_leave_nothing(run, tmp_path, capsys, words, message):
    assert fails(capsys, "--checkpoint", run, "--out", tmp_path / "out", "--backend", "numpy", *words) == message
    assert not (tmp_path / "out").exists()


def test_guidance_without_labels(unlabelled, capsys):
    line = fails(capsys, "--checkpoint", unlabelled, "--guidance-scale", 3)
    assert line == "guidance_scale must be 1 for this model, which was trained without labels, got 3"


def test_no_checkpoint(tmp_path, capsys):
    assert fails(capsys, "--checkpoint", tmp_path, "--diffusers", tmp_path).startswith(
        "which model? give --checkpoint or"
    )
    assert "no checkpoint in" in fails(capsys, "--checkpoint", tmp_path)
    assert "cannot read checkpoint" in fails(capsys, "--checkpoint", tmp_path / "none.safetensors")
    (tmp_path / "foreign").write_bytes(b"GIF89a, or whatever it is")
    assert "is damaged or not a checkpoint" in fails(capsys, "--checkpoint", tmp_path / "foreign")


def test_out_is_never_overwritten(run, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    base = ("--checkpoint", run, "--out")
    assert "is not empty, and nothing is overwritten" in fails(capsys, *base, tmp_path)
    assert "is a file; expected a folder" in fails(capsys, *base, tmp_path / "mine.txt")
    assert "cannot make the folder" in fails(capsys, *base, tmp_path / "mine.txt" / "below")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_out_that_cannot_be_written(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("minidiff.files.os.access", lambda path, mode: False)  # root may write anywhere
    assert fails(capsys, "--checkpoint", run, "--out", tmp_path) == f"cannot write into the folder {tmp_path}"


def test_like_without_settings(run, tmp_path, capsys):
    Image.new("RGB", (4, 4)).save(tmp_path / "photo.png")
    assert "holds no settings" in fails(capsys, "--like", tmp_path / "photo.png")
    (tmp_path / "text.png").write_text("no image")
    assert "not a PNG" in fails(capsys, "--like", tmp_path / "text.png")
    assert "no such file" in fails(capsys, "--like", tmp_path / "none.png")


def test_images_that_are_not_finite_are_one_line_and_leave_nothing(tmp_path, capsys):
    """Weights that grew without bound, and settings that lead there, such as a great scale without a clip."""
    tiny_model.write(tmp_path / "run", grown=1e38)
    line = fails(capsys, "--checkpoint", tmp_path / "run", "--out", tmp_path / "out", "--clip", "none", "--explain")
    assert line.startswith(f"the images that {checkpoints.path_of(tmp_path / 'run', 10)} draws are not finite: ")
    assert not (tmp_path / "out").exists()


def test_a_short_schedule_is_drawn_in_all_its_steps(unlabelled, tmp_path):
    command.main([str(word) for word in ("--checkpoint", unlabelled, "--count", 1, "--out", tmp_path / "a")])
    assert images.read_metadata(tmp_path / "a" / "grid.png")["settings"]["steps"] == 20


def test_a_prompt_may_follow_an_adapter():
    """Each --adapter takes one path; those that are typed take the place of those of --like."""
    config, _ = command.parse(["--adapter", "a", "--adapter", "b", "a cat", "--count", "2"])
    assert (config.request.adapter, config.request.prompt) == ((Path("a"), Path("b")), ("a cat",))


def test_adapters_beside_like_take_the_place_of_its_own(run, tmp_path):
    sample("--checkpoint", run, "--count", 1, "--out", tmp_path / "a")
    about = images.read_metadata(tmp_path / "a" / "grid.png")
    about["settings"]["adapter"] = ["old"]
    images.save_png(tmp_path / "b.png", np.zeros((2, 2, 3), np.uint8), about)
    like = ("--like", str(tmp_path / "b.png"))
    assert command.parse(like)[0].request.adapter == (Path("old"),)
    assert command.parse([*like, "--adapter", "new"])[0].request.adapter == (Path("new"),)


def test_a_mistyped_option_gets_the_parsers_box(run, capsys):
    for words, named in {
        ("--sampler", "leap"): "--sampler",
        ("--stepz", "4"): "--stepz",
        ("--count", "many"): "--count",
    }.items():
        with pytest.raises(SystemExit) as caught:
            command.main(["--checkpoint", str(run), *words])
        assert caught.value.code == 2
        assert named in capsys.readouterr().err


def test_every_option_has_help(capsys):
    with pytest.raises(SystemExit) as caught:
        command.main(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    options = [*fields(command.SampleConfig), *fields(SampleRequest)]
    for field in (each for each in options if each.name != "request"):
        option = "[[STR [STR ...]]]" if field.name == "prompt" else "--" + field.name.replace("_", "-")
        described = text.split(f" {option} ", 1)[1].split(" --", 1)[0]
        assert len(described.split()) > 5, option


def test_as_a_process():
    """Once with a process of its own: one line, no traceback, the right code."""
    words = [sys.executable, "-m", "minidiff.sample", "--checkpoint", "there-is-none", "--backend", "numpy"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "error: cannot read checkpoint: no such file or folder: there-is-none\n"


@pytest.fixture(scope="module")
def reads(tmp_path_factory):
    """A checkpoint of a model that reads prompts."""
    return tiny_model.write(tmp_path_factory.mktemp("reads"), words=tiny_model.WORDS)


def test_branches_are_stored_and_repeated_to_the_bit(reads, tmp_path):
    """A branch on the command line, its drawing found again from the grid's folder, and what --like makes of both."""
    lines = ('step = 1, prompt = "a dog", guidance_scale = 5', 'step = 3, sampler = "ddpm"')
    sample(
        "a cat",
        "--checkpoint",
        reads,
        "--count",
        2,
        "--branch",
        lines[0],
        "--branch",
        lines[1],
        "--array",
        "--out",
        tmp_path / "a",
    )
    assert images.read_metadata(tmp_path / "a" / "grid.png")["settings"]["branch"] == list(lines)
    command.main(["--like", str(tmp_path / "a" / "grid.png"), "--array", "--out", str(tmp_path / "b")])
    first, again = (np.load(tmp_path / name / "samples.npz")["arr_0"] for name in "ab")
    assert np.array_equal(first, again)
    sample("a cat", "--checkpoint", reads, "--count", 2, "--array", "--out", tmp_path / "c")
    assert not np.array_equal(first, np.load(tmp_path / "c" / "samples.npz")["arr_0"])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("step = 1, seed = 3", "cannot change 'seed'"),
        ('prompt = "a dog"', "needs the step"),
        ("step = 1, prompt = a dog", "is not"),
        ("step = 1 }\nx = { a = 1", "it has several lines"),
        ("step = 1 }, { #", "is not"),
        ("step = 1, promt = 'a dog'", "did you mean 'prompt'"),
        ("step = -1, prompt = 'a dog'", "needs the step"),
        ("step = true, prompt = 'a dog'", "needs the step"),
        ("step = 1, guidance_scale = 'much'", "must be a number"),
        ("step = 1, eta = 7", "eta must be from 0 to 1"),
        ("step = 9, prompt = 'a dog'", "after 0 to 4 steps, got 9"),
        ("step = 1, eta = nan", "eta must be from 0 to 1, got nan"),
        ("step = 1, negative = 1979-05-27", "negative must be a text, a number or a list of them, got 1979-05-27"),
        ("step = 1, prompt.a = 1", "prompt must be a text, a number or a list of them"),
    ],
)
def test_a_branch_that_cannot_be_is_one_line(reads, tmp_path, capsys, line, said):
    with pytest.raises(SystemExit):
        sample("a cat", "--checkpoint", reads, "--count", 1, "--branch", line, "--out", tmp_path / "out")
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

    grid = tmp_path / "grid.png"  # anybody can write one
    sample("a cat", "--checkpoint", reads, "--count", 1, "--out", tmp_path / "good")
    about = images.read_metadata(tmp_path / "good" / "grid.png")
    about["settings"]["branch"] = [line]
    images.save_png(grid, np.zeros((2, 2, 3), np.uint8), about)
    assert said in fails(capsys, "--like", grid, "--out", tmp_path / "out")


def test_guidance_without_an_upper_end_in_a_branch_is_repeated(reads, tmp_path):
    branch = ("--branch", "step = 1, guidance_interval = [0.2, inf]")
    sample("a cat", "--checkpoint", reads, "--count", 1, *branch, "--out", tmp_path / "a")
    command.main(["--like", str(tmp_path / "a" / "grid.png"), "--out", str(tmp_path / "b")])
    assert (tmp_path / "a" / "grid.png").read_bytes() == (tmp_path / "b" / "grid.png").read_bytes()
