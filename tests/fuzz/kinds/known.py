"""Cases that once failed, each as small as it can be: they are tried in every run of the tests."""

from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.fuzz.case import Case, kind
from tests.fuzz.samples import SAMPLE, Samples

KNOWN: list[str] = []


def known(name: str) -> Callable:
    """Enter a case that needs no randomness."""

    def enter(make: Callable[[Path, Samples], Case]) -> Callable:
        @kind(f"known: {name}", weight=0)
        def case(random: Random, folder: Path, samples: Samples) -> Case:
            return make(folder, samples)

        KNOWN.append(f"known: {name}")
        return make

    return enter


def draw(samples: Samples, *words: str) -> Case:
    """A drawing with these words more."""
    return Case("sample", ["--checkpoint", str(samples.words), *SAMPLE, "--out", "out", *words])


@known("an infinite scale of control")
def _(folder: Path, samples: Samples) -> Case:
    return draw(samples, "--adapter", str(samples.edges), "--control", str(samples.pictures / "colour.png"),
                "--control-scale", "nan")  # fmt: skip
