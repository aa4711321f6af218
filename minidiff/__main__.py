"""`python -m minidiff` lists the commands."""

import difflib
import sys
from collections.abc import Sequence

from minidiff.errors import MinidiffError, exit_with_one_line, printable

COMMANDS = {
    "train": "learn from images: the embedded scenes, MNIST and its kin, CIFAR-10, a folder",
    "sample": "draw images with what was learnt, each step visible",
    "export": "give a model away: as the diffusers library reads it, or as one small file",
    "evaluate": "judge what is drawn: by a classifier, by a distance, by the loss on unseen images",
    "gradcheck": "compare every gradient with finite differences",
}


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line a command; raise MinidiffError for words, by default the process's: a command is a module itself."""
    words = sys.argv[1:] if arguments is None else arguments
    if words and words[0] not in ("-h", "--help"):
        raise MinidiffError(_instead_of(words[0]))
    print("minidiff: a diffusion model from scratch. Commands, each with --help:\n")
    for name, what in COMMANDS.items():
        print(f"  python -m minidiff.{name:<10} {what}")


def _instead_of(word: str) -> str:
    if word in COMMANDS:
        return f"minidiff takes no words; the command is python -m minidiff.{word}"
    close = difflib.get_close_matches(word, COMMANDS, n=1)
    hint = f"did you mean python -m minidiff.{close[0]}?" if close else f"commands are {', '.join(COMMANDS)}"
    return f"minidiff takes no words, got '{printable(word, 60)}'; {hint}"


if __name__ == "__main__":
    main()
