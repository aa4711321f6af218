"""Parsing the command line into a dataclass of settings.

Idea: tyro turns each field of a dataclass into an option, and the docstring of the field into the help of that option.
This file adds, for all commands, the checks that need only the command line: encodings, renamed options, ranges of
numbers.  They run before any file is read or written.
Leaves out the options of the command `train`: training/cli.py.
"""

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, TypeVar

from minidiff.errors import MAX_PRINTED, MinidiffError, printable
from minidiff.limits import check_limits
from minidiff.renamed import OPTIONS

D = TypeVar("D")


def _help(text: str) -> object:
    """Return help text as tyro reads it from a type.  Code that parses no command line runs without tyro."""
    try:
        from typing_extensions import Doc  # which tyro requires
    except ImportError:
        return text
    return Doc(text)


# The type of an option that several commands have, with its help text.
BackendName = Annotated[
    str,
    _help(
        "Which kernels compute: numpy; numba; numba-gemm (without Winograd's convolution); on a GPU cupy (in "
        "CUDA C++) or numba-cuda (in Python); auto for the fastest that runs here."
    ),
]


def read(kind: type[D], command: str, words: Sequence[str], default: D | None = None) -> D:
    """Parse the words of a command line into `kind`, a dataclass of settings.

    command: the command's name, as in `python -m minidiff.NAME`.  default: the values of options that are not given.
    Raises MinidiffError for a number out of range, or an empty value; SystemExit, after a message of tyro, for an
    unknown option or --help.
    """
    import tyro  # here, as only commands parse

    start = kind() if default is None else default
    check_words(words, setting_names(start))
    config = cli(
        kind,
        words,
        prog=f"python -m minidiff.{command}",
        default=start,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff, tyro.conf.HelptextFromCommentsOff),
    )
    settings = dict(_settings(config))
    settings.pop("threads", None)  # the backend checks it against the machine
    check_limits(settings, "--{}")
    return config


def cli(kind: type[D], words: Sequence[str], **options: Any) -> D:
    """Call tyro so that its messages, which repeat unknown words, contain only printable characters."""
    import tyro

    shown = [printable(word, MAX_PRINTED) for word in words]
    if shown == list(words):
        return tyro.cli(kind, args=list(words), **options)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return tyro.cli(kind, args=list(words), **options)
    except SystemExit as leaving:
        if not leaving.code:  # after --help
            raise
    tyro.cli(kind, args=shown, **options)  # prints the same message, with the words made printable
    raise MinidiffError("an option has characters in it that cannot be printed")


def check_words(words: Sequence[str], settings: Sequence[str]) -> None:
    """Raise MinidiffError for words with NUL or characters that cannot be encoded, for empty values, and for options
    that have been renamed.

    settings: the names of those that the command has.
    An empty value is refused because an empty path would mean the current folder.
    """
    options = {f"--{name.replace('_', '-')}" for name in settings}
    for word in words:
        try:
            possible = b"\0" not in os.fsencode(word)
        except UnicodeEncodeError:
            possible = False
        if not possible:
            raise MinidiffError(f"expected text that the system can encode, without NUL, got {printable(word, 60)}")
    for before, word in zip(["", *words], words, strict=False):
        option, equals, rest = word.partition("=")
        if (new := OPTIONS.get(option.replace("_", "-"))) in options:
            raise MinidiffError(f"{printable(option)} is now called {new}")
        if word == "" and before.startswith("--") and "=" not in before:
            raise MinidiffError(f"{printable(before)} is empty; is a shell variable not set?")
        if option.startswith("--") and equals and not rest:
            raise MinidiffError(f"{printable(option)} is empty; is a shell variable not set?")


def setting_names(config: Any) -> list[str]:
    """Return the names of all fields, including those of nested dataclasses."""
    return [name for name, _ in _settings(config)]


def _settings(config: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of all fields, including those of nested dataclasses."""
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from _settings(value)
        else:
            yield field.name, value
