"""The command `minidiff`, also `python -m minidiff`: it lists the commands, or runs the one that is named.

`minidiff sample "a dog"` is `python -m minidiff.sample "a dog"`, which needs no installation.
Leaves out what the commands do: train.py, sample.py, studio/, export.py, evaluate.py, gradcheck.py.
"""

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from minidiff import __version__
from minidiff.errors import MinidiffError, did_you_mean, exit_with_one_line, printable

COMMANDS = {
    "train": "train a model on images: the embedded scenes, MNIST and similar sets, CIFAR-10, a folder",
    "sample": "draw images with a trained model, and show each step",
    "studio": "open a local page on which noise becomes a picture, step by step",
    "export": "write a model for others: in the format of the diffusers library, or as one small file",
    "evaluate": "measure a model: a classifier, distances to real images, the loss on held-out images",
    "gradcheck": "compare every gradient with finite differences",
}


def main(words: Sequence[str] | None = None) -> None:
    """Run the command that the first word names, with the words after it; without any, list the commands."""
    words = sys.argv[1:] if words is None else words
    if words and words[0] in COMMANDS:
        module_of(words[0]).main(words[1:])
    else:
        _other(words)


def module_of(name: str) -> ModuleType:
    """Return what `python -m minidiff.NAME` runs: a module, or the `__main__` of a package."""
    found = importlib.import_module(f"minidiff.{name}")
    return importlib.import_module(f"{found.__name__}.__main__") if hasattr(found, "__path__") else found


@exit_with_one_line
def _other(words: Sequence[str]) -> None:
    if list(words) == ["--version"]:
        print(f"minidiff {__version__}")
    elif not words or words[0] in ("-h", "--help"):
        print("minidiff: a diffusion model from scratch. Commands, each with --help:\n")
        for name, what in COMMANDS.items():
            print(f"  python -m minidiff.{name:<10} {what}")
    else:
        hint = did_you_mean(words[0], COMMANDS) or f"the commands are {', '.join(COMMANDS)}"
        raise MinidiffError(f"there is no command '{printable(words[0], 60)}'; {hint}")


if __name__ == "__main__":
    main()
