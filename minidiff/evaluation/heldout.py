"""How well does the network denoise images that it has never seen?

Idea: the training's loss is taken on the images being learnt, with new times and noise at every step.  Here the
triples (image, t, noise) are fixed by a key and the images are held out: two checkpoints answer the same questions,
so that even a small difference between them is one between the networks, and a network that has learnt its images by
heart is found out.
After frechet.py.  Leaves out likelihoods in bits.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from minidiff import backend, random
from minidiff.autograd import no_grad
from minidiff.data.dataset import Numbered
from minidiff.diffusion.process import Process
from minidiff.evaluation.metrics.intervals import mean_and_error
from minidiff.evaluation.split import Part
from minidiff.images.files import to_float
from minidiff.random import Key, Stream

TRIPLES = 2000
BUCKETS = 5


@dataclass(frozen=True)
class HeldOutLoss:
    """The loss of each fixed triple: its time t (n,) int64 and its loss (n,) float32."""

    t: np.ndarray
    each: np.ndarray

    def overall(self) -> tuple[float, float]:
        """Return the mean over all triples, and its standard error."""
        return mean_and_error(self.each)

    def buckets(self, T: int, count: int = BUCKETS) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield (first t, last t, the losses) of `count` equal parts of the times 0 … T-1, empty parts left out."""
        edges = [T * i // count for i in range(count + 1)]
        for first, stop in pairwise(edges):
            inside = (first <= self.t) & (self.t < stop)
            if inside.any():
                yield first, stop - 1, self.each[inside]


def held_out_loss(
    model: Any, process: Process, dataset: Numbered, seed: int = 0, triples: int = TRIPLES, batch: int = 100
) -> HeldOutLoss:
    """Return the training's loss (see `Process.loss`), with all labels shown, on fixed triples of a finite dataset.

    Triple k is image k of a keyed permutation (round again if there are fewer images), at a time and with a noise
    keyed by k: it does not depend on `triples` or `batch`.
    """
    shuffled = random.permutation(Key(seed, Stream.EVALUATE, Part.IMAGE, 0), len(dataset))
    t = random.integers(Key(seed, Stream.EVALUATE, Part.TIME, np.arange(triples)), (), process.schedule.T)
    each = []
    for first in range(0, triples, batch):
        k = np.arange(first, min(first + batch, triples))
        images, labels = dataset.batch(shuffled[k % len(dataset)])
        with no_grad():
            key, shown = (
                Key(seed, Stream.EVALUATE, Part.NOISE, k),
                labels if model.config.classes or model.config.vocab_size else None,
            )
            x0, cond = backend.to_device(to_float(images)), model.condition(len(images), shown)
            each.append(backend.to_numpy(process.loss(model, x0, cond, process.schedule.level(t[k]), key)[1]))
    return HeldOutLoss(t, np.concatenate(each))
