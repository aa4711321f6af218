"""The command that draws, starting from an image: what comes out, what is repeated, and one line for every mistake."""

from functools import partial

import numpy as np
import pytest
import tiny_model
from PIL import Image

from minidiff import backend
from minidiff import sample as command
from minidiff.images.files import save_png
from tests import mistakes


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    tiny_model.write(folder)
    return folder


@pytest.fixture
def files(tmp_path):
    """An image, another, a mask that is white on its left, in the model's size; and files that are none of these."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        save_png(tmp_path / f"{name}.png", rng.integers(0, 256, (8, 8, 3)).astype(np.uint8))
    mask = np.zeros((8, 8, 3), np.uint8)
    mask[:, :4] = 255
    save_png(tmp_path / "mask.png", mask)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    Image.new("L", (300, 100), 200).save(tmp_path / "wide.png")
    return tmp_path


@pytest.fixture(autouse=True)
def own_backend(monkeypatch):
    """The command selects a backend for its whole process, which here is the tests'."""
    monkeypatch.setattr(backend, "_stack", [])


def sample(run, out, *words, count=2, steps=10):
    """Run the command and return the images that it drew, (count, 8, 8, 3) uint8."""
    given = ("--checkpoint", run, "--backend", "numpy", "--count", count, "--steps", steps, "--array", "--out", out)
    command.main([str(word) for word in (*given, *words)])
    with np.load(out / "samples.npz", allow_pickle=False) as file:
        return file["arr_0"]


def opened(path):
    return np.asarray(Image.open(path)).astype(int)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "heun", "unipc"])
def test_the_less_strength_the_more_likeness(run, files, sampler, capsys):
    a, distances = opened(files / "a.png"), []
    for strength in (0.1, 0.5, 1.0):
        words = ("--init", files / "a.png", "--strength", strength, "--sampler", sampler)
        distances.append(np.abs(sample(run, files / f"{sampler}{strength}", *words) - a).mean())
        steps = max(1, round(strength * 10))
        asked = 2 * steps - 1 if sampler == "heun" else steps
        assert capsys.readouterr().err.endswith(
            f"{sampler}: {steps} step{'s' * (steps > 1)}, {asked} evaluation{'s' * (asked > 1)} of the network\n"
        )
    assert distances[0] < distances[1] < distances[2]


@pytest.mark.parametrize("more", [(), ("--resample", 3), ("--strength", 0.4), ("--sampler", "unipc")])
def test_what_the_mask_keeps_is_kept_to_the_bit(run, files, more):
    a = opened(files / "a.png")
    drawn = sample(run, files / "out", "--init", files / "a.png", "--mask", files / "mask.png", *more)
    assert np.array_equal(drawn[:, :, 4:], np.stack([a[:, 4:]] * 2))
    assert np.abs(drawn[:, :, :4] - a[:, :4]).mean() > 1  # grey levels
    assert np.abs(drawn[0, :, :4].astype(int) - drawn[1, :, :4]).mean() > 1


def test_without_noise_to_remove_little_happens_and_with_it_more(run, files):
    a = opened(files / "a.png")
    little, much, found = (
        np.abs(sample(run, files / level, "--init", files / "a.png", "--noise-level", level) - a).mean()
        for level in ("0.5", "60", "auto")
    )
    assert little < 2 < much  # grey levels; 0.5 of them are on the image at most
    assert found > little  # an image of noise is noise to the estimate


def test_variations_and_the_way_between_two_images(run, files):
    a, b = opened(files / "a.png"), opened(files / "b.png")
    same = sample(run, files / "same", "--init", files / "a.png", "--vary", 0, steps=16)
    far = sample(run, files / "far", "--init", files / "a.png", "--vary", 0.8, steps=16)
    assert np.abs(same - a).mean() < np.abs(far - a).mean() / 3
    way = sample(run, files / "way", "--init", files / "a.png", "--to", files / "b.png", count=5, steps=16)
    from_a, from_b = (np.abs(way - end).reshape(5, -1).mean(1) for end in (a, b))
    assert (np.diff(from_a) > 0).all() and (np.diff(from_b) < 0).all()


@pytest.mark.parametrize("more", [(), ("--mask",), ("--sampler", "heun", "--explain", "--trace", "--animation", "gif")])
def test_without_strength_the_image_is_what_it_was(run, files, more, capsys):
    words = [*more, files / "mask.png"] if more == ("--mask",) else more
    drawn = sample(run, files / "out", "--init", files / "a.png", "--strength", 0, *words)
    assert np.array_equal(drawn, np.stack([opened(files / "a.png")] * 2))
    assert capsys.readouterr().err.endswith(": 1 step, 0 evaluations of the network\n")


def test_small_strengths_differ(run, files):
    """Less than one step of ten, too."""
    a = opened(files / "a.png").astype(int)
    words = ("--init", files / "a.png", "--strength")
    moved = [np.abs(sample(run, files / f"{s}", *words, s) - a).mean() for s in (0.01, 0.03, 0.06, 0.1)]
    assert moved[0] < moved[1] < moved[2] < moved[3]


def test_any_image_is_brought_to_the_models_size(run, files):
    drawn = sample(run, files / "out", "--init", files / "wide.png", "--strength", 0)
    assert drawn.shape == (2, 8, 8, 3)
    assert np.abs(drawn.astype(int) - 200).mean() < 20  # an untrained network's opinion of the least noise


def test_labels_are_followed_if_they_are_asked_for(run, files):
    one, two = (
        sample(run, files / label, "--init", files / "a.png", "--strength", 0.9, "--label", label)
        for label in ("cat", "dog")
    )
    assert not np.array_equal(one, two)


def test_like_repeats_an_edit_and_looks_at_the_image_again(run, files, capsys):
    words = ("--init", files / "a.png", "--mask", files / "mask.png", "--label", "owl", "--sampler", "dpm-solver")
    first = sample(run, files / "one", *words)
    command.main(["--like", str(files / "one" / "grid.png"), "--array", "--out", str(files / "two")])
    with np.load(files / "two" / "samples.npz") as file:
        assert np.array_equal(file["arr_0"], first)
    (files / "a.png").write_bytes((files / "b.png").read_bytes())
    assert "was drawn with another init: its SHA-256 is" in fails(
        capsys, "--like", files / "one" / "grid.png", "--out", files / "three"
    )


fails = partial(mistakes.of_command, command.main)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--strength", "0.5"), "--strength needs an image to work on: give --init"),
        (("--noise-level", "25"), "--noise-level needs an image to work on: give --init"),
        (("--init", "none.png"), "none.png: No such file or directory"),
        (("--init", "."), ". is a folder; expected a regular file"),
        (("--init", "text.png"), "text.png: not an image that can be read"),
        (("--init", "cut.png"), "cut.png: "),
        (("--init", "a.png", "--mask", "none.png"), "none.png: No such file or directory"),
        (("--init", "a.png", "--strength", "1.5"), "strength must be from 0 to 1, got 1.5"),
        (("--init", "a.png", "--strength", "nan"), "strength must be from 0 to 1, got nan"),
        (("--init", "a.png", "--vary", "-1"), "--vary must be from 0 to 1, got -1.0"),
        (("--init", "a.png", "--noise-level", "loud"), "must be auto or a number of grey levels above 0, got 'loud'"),
        (("--init", "a.png", "--noise-level", "-3"), "must be auto or a number of grey levels above 0, got '-3'"),
        (("--init", "a.png", "--resample", "3"), "resample needs a mask, got resample 3 without a mask"),
        (("--init", "a.png", "--mask", "mask.png", "--resample", "0"), "--resample must be from 1 to 1000, got 0"),
        (
            ("--init", "a.png", "--to", "b.png", "--vary", "0.3"),
            "an image can be edited in one way at a time, got to and vary",
        ),
        (
            ("--sampler", "unipc", "--churn", "3"),
            "churn is a setting of euler, heun; unipc has none, got 3.0",
        ),
        (("--sampler", "euler", "--churn", "-3"), "--churn must be from 0 to 1e+06, got -3.0"),
        (("--sampler", "ddim", "--variance", "large"), "variance is a setting of ddpm; ddim has none, got large"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(run, files, capsys, monkeypatch, words, line):
    monkeypatch.chdir(files)
    before = sorted(files.iterdir())
    assert line in fails(capsys, "--checkpoint", run, "--backend", "numpy", *words)
    assert sorted(files.iterdir()) == before
