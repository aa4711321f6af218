"""What a case is, and the table of all kinds of cases."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.fuzz.samples import Samples


@dataclass
class Case:
    """A command and its words.

    before: called in the case's own process just before the command, such as to start a server.
    codes: exit codes that are right.  seconds: the time that it may take, where not the usual one.
    encoding: of what it prints.  note: for people, what its words do not say.
    heard: whether what it prints on stderr arrives.
    """

    command: str
    words: list[str]
    before: Callable[[], object] | None = None
    codes: tuple[int, ...] = (0, 2)
    seconds: float | None = None
    encoding: str = "utf-8"
    note: str = ""
    heard: bool = True


@dataclass(frozen=True)
class Kind:
    """A family of cases.

    make: from a source of randomness, an empty folder, which is the command's working folder, and the samples to the
    case.  weight: its share among all cases.
    """

    name: str
    make: Callable[[Random, Path, Samples], Case]
    weight: float


KINDS: dict[str, Kind] = {}


def kind(name: str, weight: float = 1.0) -> Callable[[Callable[[Random, Path, Samples], Case]], Callable]:
    """Enter a function into the table of kinds."""

    def enter(make: Callable[[Random, Path, Samples], Case]) -> Callable:
        KINDS[name] = Kind(name, make, weight)
        return make

    return enter
