"""Does a sample show what its prompt says?  Each fact is counted separately.

Idea: captions of scenes are made from known facts, so it is known which facts a prompt mentions.  The classifiers of
attributes.py predict these facts from the sample; facts that they do not predict reliably are left out.  Some pairs,
such as a blue dog, are never shown in training: prompts with such a pair ("unseen") are evaluated separately.
A share of correct facts means little alone, so two others are reported with it.  For the floor, each sample is compared
with the prompt of another one.  For the ceiling, real renders of the scenes are classified in place of the samples.
How much the samples are like real images is measured by the Fréchet distance, in the features of the first classifier:
from the samples to real images of other prompts, and from the real images of the same prompts to those.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minidiff.evaluation.metrics.frechet import Frechet, compare_frechet
from minidiff.evaluation.scenes.attributes import (
    AttributeClassifier,
    classify,
    count_correct,
    features,
    targets,
    visible,
)
from minidiff.scenes.captions import Captions, caption
from minidiff.scenes.factors import HELD_OUT, Factors, choose
from minidiff.scenes.scenes import render

REQUIRED_FACTS = ("subject", "place", "season", "time", "style", "colour")
MIN_ACCURACY = 0.97  # of a classifier on held-out renders; below it, a fact is left out
FIRST = 1 << 26  # the number of the first scene that prompts are taken from
_CHUNK = 10_000

# From prompts, and by keyword edge maps ("control") or reference images ("reference"), to images (N, H, W, 3) uint8.
Generate = Callable[..., np.ndarray]


@dataclass(frozen=True, eq=False)
class Prompts:
    """N prompts with the scenes that they describe.  sample: (N,) int64, the scenes' numbers in split "test"."""

    sample: np.ndarray
    factors: Factors
    captions: Captions


@dataclass(frozen=True)
class PromptAccuracy:
    """How many of the facts that the prompts mention are shown by the samples, as pairs (correct, of).

    by_fact: fact -> pair.  mentioned: all facts together.  whole: prompts of which every fact
    that they mention, and that is evaluated and visible, is correct.  `correct` is the mean over the classifiers.
    """

    by_fact: dict[str, tuple[float, int]]
    mentioned: tuple[float, int]
    whole: tuple[float, int]


@dataclass(frozen=True)
class PromptResults:
    """What was measured with prompts of one kind: of the samples, and as its floor and its ceiling.

    frechet: None for fewer than 2 samples.
    """

    samples: PromptAccuracy
    floor: PromptAccuracy
    ceiling: PromptAccuracy
    frechet: Frechet | None


def measure_classifiers(
    classifiers: list[AttributeClassifier], size: int
) -> tuple[dict[str, list[float]], tuple[str, ...]]:
    """Return the accuracies of each fact on held-out renders, one for each classifier, and the facts to evaluate.

    These are the facts that every classifier predicts with MIN_ACCURACY.
    """
    counts = [count_correct(classifier, size) for classifier in classifiers]
    accuracy = {fact: [count[fact][0] / count[fact][1] for count in counts] for fact in counts[0]}
    return accuracy, tuple(fact for fact, each in accuracy.items() if min(each) >= MIN_ACCURACY)


def make_prompts(count: int, seed: int, unseen: bool, skip: int = 0) -> Prompts:
    """Return `count` prompts in the order of their scenes' numbers; skip: how many are left out before them.

    unseen: prompts that name a pair that no training image shows, such as a blue dog; otherwise, prompts of scenes
    without such a pair.
    """
    found: list[np.ndarray] = []
    first = FIRST
    while sum(map(len, found)) < skip + count:
        sample = np.arange(first, first + _CHUNK)
        factors = choose(seed, "test", sample)
        if unseen:
            wanted = names_held_out_pair(factors, caption(factors, seed, "test", sample))
        else:
            wanted = ~factors.held_out()
        found.append(sample[wanted])
        first += _CHUNK
    sample = np.concatenate(found)[skip : skip + count]
    factors = choose(seed, "test", sample)
    return Prompts(sample, factors, caption(factors, seed, "test", sample))


def names_held_out_pair(factors: Factors, captions: Captions) -> np.ndarray:
    """Return which captions name both halves of a held-out pair: (N,) bool."""
    named = np.zeros(len(factors), bool)
    for fact, pairs in HELD_OUT.items():
        for subject, value in pairs:
            named |= factors.shows(subject, fact, value) & captions.mentions["subject"] & captions.mentions[fact]
    return named


def render_prompts(prompts: Prompts, size: int, seed: int) -> np.ndarray:
    """Return real images of the scenes that the prompts describe: (N, size, size, 3) uint8."""
    return render(prompts.factors, size, seed, "test", prompts.sample).image


def prompt_accuracy(
    classifiers: list[AttributeClassifier],
    facts: tuple[str, ...],
    prompts: Prompts,
    images: np.ndarray,
    shift: int = 0,
) -> PromptAccuracy:
    """Compare images (N, H, W, 3) uint8 with the prompts that they were drawn for.

    facts: those that are evaluated.  shift: image k is compared with prompt k + shift, for the floor.
    """
    n = len(images)
    order = (np.arange(n) + shift) % n
    target, shown = targets(prompts.factors), visible(prompts.factors)
    counted = {fact: (prompts.captions.mentions[fact] & shown[fact])[order] for fact in facts}  # (N,) bool each
    predictions = [classify(classifier, images) for classifier in classifiers]
    by_fact, whole = {}, [np.ones(n, bool) for _ in classifiers]
    for fact in facts:
        correct = [each[fact] == target[fact][order] for each in predictions]  # (N,) bool for each classifier
        by_fact[fact] = _mean([(each & counted[fact]).sum() for each in correct]), int(counted[fact].sum())
        whole = [before & (each | ~counted[fact]) for before, each in zip(whole, correct)]
    mentioned = sum(right for right, _ in by_fact.values()), sum(of for _, of in by_fact.values())
    by_fact = {fact: pair for fact, pair in by_fact.items() if pair[1]}
    return PromptAccuracy(by_fact, mentioned, (_mean([each.sum() for each in whole]), n))


def _mean(counts: list) -> float:
    return float(np.mean(counts))


def evaluate_prompts(
    generate: Generate,
    classifiers: list[AttributeClassifier],
    facts: tuple[str, ...],
    size: int,
    seed: int,
    count: int,
) -> dict[str, PromptResults]:
    """Evaluate a model on `count` prompts of each kind, "seen" and "unseen"."""
    found = {}
    for kind in ("seen", "unseen"):
        prompts = make_prompts(count, seed, kind == "unseen")
        samples, real = generate(prompts.captions.texts), render_prompts(prompts, size, seed)
        others = render_prompts(make_prompts(count, seed, kind == "unseen", skip=count), size, seed)
        described = [features(classifiers[0], images) for images in (samples, others, real)]
        found[kind] = PromptResults(
            prompt_accuracy(classifiers, facts, prompts, samples),
            prompt_accuracy(classifiers, facts, prompts, samples, count // 2),
            prompt_accuracy(classifiers, facts, prompts, real),
            compare_frechet(described[0], np.concatenate(described[1:])),
        )
    return found
