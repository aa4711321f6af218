"""The command line: flat names, files below it, and what a run that goes on may be told anew."""

import re

import pytest

from minidiff import checkpoint as checkpoints
from minidiff.checkpoint.config import Config
from minidiff.checkpoint.settings import write_toml
from minidiff.training.cli import parse
from tests import mistakes


@pytest.fixture
def saved(tmp_path, trainer):
    """A run's folder with a checkpoint of step 0."""
    it = trainer()
    path = checkpoints.path_of(tmp_path / "run", 0)
    path.parent.mkdir(parents=True)
    checkpoints.save(path, 0, it.config, it.network, it.dataset.classes, it.parameters)
    return tmp_path / "run"


def fails(*words):
    return mistakes.of_call(parse, [str(word) for word in words])


def test_no_words_no_changes():
    request = parse([])
    assert request.config == Config()
    assert request.out is request.resume is None


def test_names_are_flat():
    words = "--data mnist --data-dir d --model-channels 16 --channel-mult 1 2 --attention-at 14 --target eps"
    words += " --lr 1 --steps 5 --grey"
    config = parse(words.split()).config
    assert (config.data.data, str(config.data.data_dir), config.data.grey) == ("mnist", "d", True)
    assert (config.model.model_channels, config.model.channel_mult, config.model.attention_at) == (16, (1, 2), (14,))
    assert (config.diffusion.target, config.optimizer.lr, config.run.steps) == ("eps", 1.0, 5)


@pytest.mark.parametrize(
    ("words", "size"), [("", None), ("64", (64,)), ("96 160", (96, 160)), ("64 64", (64,)), ("None", None)]
)
def test_a_size_is_one_number_or_two(words, size):
    assert parse(["--size", *words.split()] if words else []).config.data.size == size


@pytest.mark.parametrize(("words", "got"), [("", "nothing"), ("1 2 3", "1 2 3")])
def test_a_size_of_other_length_is_one_line(words, got):
    asked = fails("--size", *words.split())
    assert asked == f"--size must be one number for a square, or a height and a width, got {got}"


def test_help_explains_every_field(capsys):
    with pytest.raises(SystemExit) as caught:
        parse(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "python -m minidiff.train --resume runs/photos" in text
    options = re.split(r"\n(?:│ |  )--(?=\w)", text)[1:]  # tyro draws its boxes only where the encoding has them
    assert len(options) > 35
    for option in options:
        lines = [line.strip("│ ") for line in option.split("\n")]
        words = " ".join(lines).split("(default:")[0]
        assert len(words.split()) >= 4, f"--{lines[0]} has no sentence of help"


def test_a_file_is_below_what_is_typed(tmp_path, settings):
    write_toml(tmp_path / "c.toml", settings(batch_size=4, lr=0.5))
    config = parse(["--config", str(tmp_path / "c.toml"), "--lr", "0.25"]).config
    assert config == settings(batch_size=4, lr=0.25)


def test_minutes_typed_replace_the_steps_of_a_file(tmp_path, settings):
    write_toml(tmp_path / "steps.toml", settings(steps=50))
    write_toml(tmp_path / "minutes.toml", settings(steps=None, minutes=3.0))
    run = parse(["--config", str(tmp_path / "steps.toml"), "--minutes", "2"]).config.run
    assert (run.steps, run.minutes) == (None, 2.0)
    run = parse([f"--config={tmp_path / 'minutes.toml'}", "--steps=7"]).config.run
    assert (run.steps, run.minutes) == (7, None)


def test_contradictions_are_one_line(tmp_path, settings):
    assert fails("--steps", 3, "--minutes", 2) == "give --steps or --minutes, not both; got 3 steps and 2 minutes"
    assert fails("--resume", "x", "--out", "y").startswith("give --resume or --out, not both")
    assert fails("--resume", "x", "--config", "y").startswith("give --resume or --config, not both")
    assert fails("--batch-size", 0) == "--batch-size must be from 1 to 1048576, got 0"
    assert fails("--lr", "-1") == "--lr must be above 0, at most 1e+12, got -1.0"


@pytest.mark.parametrize(
    "words", [["--data-dir", ""], ["--data-dir="], ["--data", "folder", "--data-dir", "", "--grey"]]
)
def test_an_empty_text_is_no_value(words):
    assert fails(*words) == "--data-dir is empty; is a shell variable not set?"


@pytest.mark.parametrize(
    "words", [["--bacth", "3"], ["--batch-size", "x"], ["--data", "pets"], ["--config"], ["extra"]]
)
def test_a_mistyped_option_is_the_parsers_own_box(capsys, words):
    with pytest.raises(SystemExit) as caught:
        parse(words)
    assert caught.value.code == 2
    assert "python -m minidiff.train --help" in capsys.readouterr().err


def test_resume_starts_from_the_checkpoints_settings(saved, settings):
    for path in (saved, checkpoints.path_of(saved, 0)):
        request = parse(["--resume", str(path)])
        assert request.config == settings()
        assert request.resume.path == checkpoints.path_of(saved, 0)


def test_resume_lets_only_change_what_changes_no_step(saved):
    run = parse(["--resume", str(saved), "--steps", "99", "--keep", "9", "--save-every", "5"]).config.run
    assert (run.steps, run.keep, run.save_every) == (99, 9, 5)
    assert parse(["--resume", str(saved), "--minutes", "9"]).config.run.steps is None
    path = checkpoints.path_of(saved, 0)
    asked = fails("--resume", saved, "--model-channels", 16)
    assert asked == f"{path} is of another network: --model-channels 8 there, 16 asked"
    asked = fails("--resume", saved, "--channel-mult", 1, 2, 2)
    assert asked == f"{path} is of another network: --channel-mult 1 2 there, 1 2 2 asked"
    asked = fails("--resume", saved, "--weight-decay", 0.5)
    assert asked == f"{path} was trained with other settings: --weight-decay 0.01 there, 0.5 asked"


def test_resume_keeps_the_threads_unless_told_otherwise(tmp_path, trainer):
    it = trainer(threads=3)
    path = tmp_path / "step_00000000.safetensors"
    checkpoints.save(path, 0, it.config, it.network, it.dataset.classes, it.parameters)
    assert parse(["--resume", str(path)]).config.run.threads == 3
    assert parse(["--resume", str(path), "--threads", "2"]).config.run.threads == 2


def test_resume_of_nothing_is_one_line(tmp_path):
    assert fails("--resume", tmp_path / "no") == f"cannot read checkpoint: no such file or folder: {tmp_path / 'no'}"
    assert fails("--resume", tmp_path).startswith(f"no checkpoint in {tmp_path}: expected ")


@pytest.mark.parametrize("words", [("--data-dir", ""), ("--data-dir=",), ("--resume", ""), ("--onto", "")])
def test_an_option_that_is_given_nothing_is_no_folder(words):
    assert fails(*words) == f"{words[0].rstrip('=')} is empty; is a shell variable not set?"
