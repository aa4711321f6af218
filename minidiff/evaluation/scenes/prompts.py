"""Does an image show what its prompt says?  Fact by fact, for pairs that training has seen and pairs that it has not.

Idea: the captions of scenes are made from known facts, so it is known what each prompt asks for, and judges of
single facts (attributes.py) can be asked for just that.  A share alone says little: beside it stand the floor, the
same samples held against other prompts, and the ceiling, real renders of the very scenes.
After attributes.py.  Leaves out whether the images are beautiful.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minidiff.evaluation.scenes.attributes import Attributes, answers, examine, read, visible
from minidiff.scenes.captions import Captions, caption
from minidiff.scenes.factors import HELD_OUT, Factors, choose
from minidiff.scenes.scenes import draw

MUST = ("subject", "place", "season", "time", "style", "colour")
NEEDED = 0.97  # of the held-out renders a judge must read right to be asked about a fact
FIRST = 1 << 26  # the number of the first scene that prompts are taken from
_STRETCH = 10_000


@dataclass(frozen=True, eq=False)
class Prompts:
    """N scenes that are asked for: their numbers (N,) in split "test", what they show, and what is said of them."""

    sample: np.ndarray
    factors: Factors
    captions: Captions


@dataclass(frozen=True)
class Heard:
    """Of what was asked for, how much is seen.

    facts: fact -> (right, of).  mentioned: of all mentioned facts together.  whole: prompts with all facts right.
    The two judges' counts are averaged.
    """

    facts: dict[str, tuple[float, int]]
    mentioned: tuple[float, int]
    whole: tuple[float, int]


def counted(judges: list[Attributes], size: int) -> tuple[dict[str, list[float]], tuple[str, ...]]:
    """Return the judges' accuracy on held-out renders, fact -> one number a judge, and the facts they may judge."""
    exams = [examine(judge, size) for judge in judges]
    accuracy = {fact: [exam[fact][0] / exam[fact][1] for exam in exams] for fact in exams[0]}
    return accuracy, tuple(fact for fact, each in accuracy.items() if min(each) >= NEEDED)


def prompts(count: int, seed: int, unseen: bool) -> Prompts:
    """Return `count` prompts in the order of their scenes' numbers.

    unseen: those that name a pair that no training image shows, such as a blue dog; else those of scenes without one.
    """
    found: list[np.ndarray] = []
    first = FIRST
    while sum(map(len, found)) < count:
        sample = np.arange(first, first + _STRETCH)
        factors = choose(seed, "test", sample)
        if unseen:
            wanted = named_pair(factors, caption(factors, seed, "test", sample))
        else:
            wanted = ~factors.held_out()
        found.append(sample[wanted])
        first += _STRETCH
    sample = np.concatenate(found)[:count]
    factors = choose(seed, "test", sample)
    return Prompts(sample, factors, caption(factors, seed, "test", sample))


def named_pair(factors: Factors, captions: Captions) -> np.ndarray:
    """Return which captions name both halves of a held-out pair: (N,) bool."""
    named = np.zeros(len(factors), bool)
    for fact, pairs in HELD_OUT.items():
        for subject, value in pairs:
            named |= factors.shows(subject, fact, value) & captions.told["subject"] & captions.told[fact]
    return named


def renders(asked: Prompts, size: int, seed: int) -> np.ndarray:
    """Return the real images of these scenes: (N, size, size, 3) uint8."""
    return draw(asked.factors, size, seed, "test", asked.sample).image


def heard(
    judges: list[Attributes], facts: tuple[str, ...], asked: Prompts, images: np.ndarray, shift: int = 0
) -> Heard:
    """Hold images (N, H, W, 3) uint8 against the prompts that they were drawn from.

    shift: hold image k against prompt k + shift, for the floor.
    """
    n = len(images)
    turn = (np.arange(n) + shift) % n
    told, right, seen = asked.captions.told, answers(asked.factors), visible(asked.factors)
    asks = {fact: (told[fact] & seen[fact])[turn] for fact in facts}  # (N,) bool
    views = [read(judge, images) for judge in judges]
    hits = {fact: [view[fact] == right[fact][turn] for view in views] for fact in facts}  # a (N,) bool a judge
    each = {fact: (_mean([hit[asks[fact]].sum() for hit in hits[fact]]), int(asks[fact].sum())) for fact in facts}
    complete = [np.all([hits[fact][j] | ~asks[fact] for fact in facts], axis=0).sum() for j in range(len(judges))]
    total = sum(right for right, _ in each.values()), sum(of for _, of in each.values())
    return Heard({fact: pair for fact, pair in each.items() if pair[1]}, total, (_mean(complete), n))


def _mean(counts: list) -> float:
    return float(np.mean(counts))


Paint = Callable[..., np.ndarray]


def listen(
    paint: Paint, judges: list[Attributes], facts: tuple[str, ...], size: int, seed: int, count: int
) -> dict[str, dict[str, Heard]]:
    """Judge a model by `count` prompts of each kind: "seen" and "unseen" -> "samples", "floor", "ceiling".

    paint: from texts to images (N, H, W, 3) uint8.
    """
    found = {}
    for kind in ("seen", "unseen"):
        asked = prompts(count, seed, kind == "unseen")
        samples, real = paint(asked.captions.texts), renders(asked, size, seed)
        found[kind] = {
            "samples": heard(judges, facts, asked, samples),
            "floor": heard(judges, facts, asked, samples, count // 2),
            "ceiling": heard(judges, facts, asked, real),
        }
    return found
