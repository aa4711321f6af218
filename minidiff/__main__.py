"""`python -m minidiff` lists the commands."""

from minidiff.errors import exit_with_one_line

COMMANDS = {
    "train": "learn from pictures: the embedded scenes, MNIST and its kin, CIFAR-10, a folder",
    "sample": "draw pictures with what was learnt, each step visible",
    "export": "give a model away: as the diffusers library reads it, or as one small file",
    "evaluate": "judge what is drawn: by a classifier, by a distance, by the loss on unseen pictures",
    "gradcheck": "compare every gradient with finite differences",
}


@exit_with_one_line
def main() -> None:
    """Print a line a command."""
    print("minidiff: a diffusion model from scratch. Commands, each with --help:\n")
    for name, what in COMMANDS.items():
        print(f"  python -m minidiff.{name:<10} {what}")


if __name__ == "__main__":
    main()
