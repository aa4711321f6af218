"""The command-line options of `python -m minidiff.train`, generated from the dataclasses of the settings.

Idea: tyro turns a dataclass into options and its docstrings into their help.  The defaults of the options are those of
checkpoint/config.py, or come from a TOML file (--config), a checkpoint (--resume) or the base model of an adapter
(--onto).  So these options are parsed first, and then all options with the defaults that follow from them.
Leaves out the training itself: loop.py.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from minidiff import checkpoint as checkpoints
from minidiff.checkpoint import Checkpoint
from minidiff.checkpoint.config import Config, check
from minidiff.checkpoint.settings import read_toml
from minidiff.command_line import check_words, cli, setting_names
from minidiff.errors import MinidiffError
from minidiff.nn.autoencoder import AutoencoderConfig
from minidiff.training.resume import check_settings

DESCRIPTION = """\
Train a diffusion model: first noise, then images.

Without options it learns the embedded scenes for eight and a half minutes. Everything is written into one folder, by \
default a dated one under runs/: settings, a line of metrics a step, checkpoints, previews, and at the end a grid of \
samples, an animation of noise becoming image, and the loss. Ctrl-C saves and exits; --resume leads to the same \
weights, to the bit.

  python -m minidiff.train
  python -m minidiff.train --data mnist --data-dir mnist --download --minutes 5
  python -m minidiff.train --data folder --data-dir photos --size 64 --out runs/photos
  python -m minidiff.train --data folder --data-dir photos --size 48 80 --out runs/wide
  python -m minidiff.train --network dit --schedule flow --target flow
  python -m minidiff.train --resume runs/photos"""


@dataclass(frozen=True)
class Files:
    """Files to read, and the folder to write."""

    config: Path | None = None
    """Settings to start from: a TOML file such as the config.toml of a run; what is typed here wins."""
    out: Path | None = None
    """Folder for everything this run writes; new or empty. Default: runs/<date and time>."""
    resume: Path | None = None
    """A run's folder, or one of its checkpoints, to go on with, in the same folder."""


@dataclass(frozen=True)
class TrainArguments:
    """Everything on the command line."""

    files: Files = field(default_factory=Files)
    settings: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)


@dataclass(frozen=True)
class Request:
    """A parsed command line: the settings, and the folder of a new run or the checkpoint of a run to go on with."""

    config: Config
    out: Path | None
    resume: Checkpoint | None


def parse(words: Sequence[str]) -> Request:
    """Parse the words after the name of the command.

    Raises MinidiffError for settings that are not valid; SystemExit from tyro, after its own message, for a mistyped
    option or for --help.
    """
    start, resume = Config(), None
    check_words(words, setting_names(start))
    early = _early(words)
    if early.resume is not None:
        if early.config is not None or early.out is not None:
            other = "--config" if early.config is not None else "--out"
            raise MinidiffError(f"give --resume or {other}, not both: a run goes on as it was, in its own folder")
        resume = checkpoints.find(early.resume)
        start = resume.config
    elif early.config is not None:
        start = read_toml(Config, early.config)
    elif early.onto is not None:  # an adapter learns from the same images, with the same noise
        found = checkpoints.find(early.onto)
        if isinstance(found.trained, AutoencoderConfig):
            raise MinidiffError(f"--onto {found.path} is an autoencoder; expected the model below the adapter")
        base = found.config
        start = Config(data=base.data, model=base.model, diffusion=base.diffusion)
    if early.steps is not None and early.minutes is not None:
        raise MinidiffError(f"give --steps or --minutes, not both; got {early.steps} steps and {early.minutes} minutes")
    # An option that is typed replaces the other one of the two in a file.
    if early.steps is not None:
        start = _replace_run(start, minutes=None)
    if early.minutes is not None:
        start = _replace_run(start, steps=None)
    arguments = cli(
        TrainArguments,
        words,
        prog="python -m minidiff.train",
        description=DESCRIPTION,
        default=TrainArguments(settings=start),
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.HelptextFromCommentsOff),
    )
    check(arguments.settings)
    if resume is not None:
        check_settings(resume, arguments.settings)
    return Request(arguments.settings, arguments.files.out, resume)


def _early(words: Sequence[str]) -> Any:
    """Parse the options that decide the defaults of the others.  tyro parses and checks all of them afterwards."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    kinds = {"config": Path, "resume": Path, "onto": Path, "out": Path, "steps": str, "minutes": str}
    for name, kind in kinds.items():
        parser.add_argument(f"--{name}", type=kind, nargs="?")
    return parser.parse_known_args(list(words))[0]


def _replace_run(config: Config, **changes: Any) -> Config:
    return dataclasses.replace(config, run=dataclasses.replace(config.run, **changes))
