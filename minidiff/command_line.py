"""The words after a command's name become settings.

Idea: tyro turns a dataclass into options, its docstrings into help.  Whatever can be wrong with the words alone, and
with the numbers among them, is said here, for every command, before anything is read or made.
After limits.py.  Leaves out the command line of a training: training/cli.py.
"""

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, TypeVar

import tyro

from minidiff.errors import MAX_PRINTED, MinidiffError, printable
from minidiff.limits import check_limits
from minidiff.renamed import OPTIONS

D = TypeVar("D")

# A setting that several commands have; its text is their help.
BackendName = Annotated[
    str,
    tyro.conf.arg(
        help="Which kernels compute: numpy; numba; numba-gemm (without Winograd's convolution); on a GPU cupy (in "
        "CUDA C++) or numba-cuda (in Python); auto for the fastest that runs here."
    ),
]


def read(kind: type[D], command: str, words: Sequence[str], default: D | None = None) -> D:
    """Return the settings `kind`, a dataclass, that the words ask for on top of `default`.

    command: its name in `python -m minidiff.NAME`.
    Raises MinidiffError for a number beyond its limit or an option that is given nothing; SystemExit from tyro, after
    its own message, for a mistyped option or for --help.
    """
    check_words(words)
    config = cli(
        kind,
        words,
        prog=f"python -m minidiff.{command}",
        default=kind() if default is None else default,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff, tyro.conf.HelptextFromCommentsOff),
    )
    settings = dict(_settings(config))
    settings.pop("threads", None)  # the backend knows how many there are here
    check_limits(settings, "--{}")
    return config


def cli(kind: type[D], words: Sequence[str], **options: Any) -> D:
    """Call tyro, which repeats mistyped words in its messages: these are safe to print, whatever the words are."""
    shown = [printable(word, MAX_PRINTED) for word in words]
    if shown == list(words):
        return tyro.cli(kind, args=list(words), **options)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return tyro.cli(kind, args=list(words), **options)
    except SystemExit as leaving:
        if not leaving.code:  # of --help
            raise
    tyro.cli(kind, args=shown, **options)  # says the same of other words
    raise MinidiffError("an option has characters in it that cannot be printed")


def check_words(words: Sequence[str]) -> None:
    """Raise MinidiffError for words that no command line has: with a NUL, half of a character, or nothing as a value;
    and for options that have another name today.

    A path that is written as an empty text would be the current folder.
    """
    for word in words:
        try:
            possible = b"\0" not in os.fsencode(word)
        except UnicodeEncodeError:
            possible = False
        if not possible:
            raise MinidiffError(f"expected text that the system can encode, without NUL, got {printable(word, 60)}")
    for before, word in zip(["", *words], words, strict=False):
        option, equals, rest = word.partition("=")
        if option.replace("_", "-") in OPTIONS:
            raise MinidiffError(f"{printable(option)} is now called {OPTIONS[option.replace('_', '-')]}")
        if word == "" and before.startswith("--") and "=" not in before:
            raise MinidiffError(f"{printable(before)} is given an empty text; is a variable of your shell not set?")
        if option.startswith("--") and equals and not rest:
            raise MinidiffError(f"{printable(option)} is given an empty text; is a variable of your shell not set?")


def _settings(config: Any) -> Iterator[tuple[str, Any]]:
    """All fields and their values, those of dataclasses within, too."""
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from _settings(value)
        else:
            yield field.name, value
