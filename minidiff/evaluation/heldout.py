"""How well does the network denoise images that it was not trained on?

Idea: the training loss is measured on training images, with new timesteps and noise at every step.  Here the images are
held out, and the triples (image, t, noise) are the same at every call: they depend on the seed alone.  Two checkpoints
are compared on the same triples, so even a small difference between their losses is due to the networks.  A network
that has memorised its training images has a higher loss here than on those images.
Leaves out whether its samples are copies (metrics/nearest.py), and likelihoods (bits per dimension).
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
from minidiff.evaluation.split import Purpose
from minidiff.images.files import to_float
from minidiff.latent.space import PIXELS, Space
from minidiff.random import Key, Stream

TRIPLES = 2000
BUCKETS = 5


@dataclass(frozen=True)
class HeldOutLoss:
    """The timestep t (n,) int64 and the loss (n,) float32 of each fixed triple."""

    t: np.ndarray
    losses: np.ndarray

    def overall(self) -> tuple[float, float]:
        """Return the mean over all triples, and its standard error."""
        return mean_and_error(self.losses)

    def buckets(self, T: int, count: int = BUCKETS) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield (first t, last t, losses) of `count` equal parts of the timesteps 0 … T-1, without empty parts."""
        edges = [T * i // count for i in range(count + 1)]
        for first, stop in pairwise(edges):
            inside = (first <= self.t) & (self.t < stop)
            if inside.any():
                yield first, stop - 1, self.losses[inside]


def held_out_loss(
    model: Any,
    process: Process,
    dataset: Numbered,
    seed: int = 0,
    triples: int = TRIPLES,
    batch_size: int = 100,
    space: Space = PIXELS,
) -> HeldOutLoss:
    """Return the training loss (see `Process.loss`) on fixed triples of a finite dataset; no label is dropped.

    Triple k is image k of a keyed permutation, which starts again when there are fewer images, with a timestep and a
    noise keyed by k.  It depends neither on `triples` nor on `batch_size`.  space: what the network denoises.
    """
    shuffled = random.permutation(Key(seed, Stream.EVALUATE, Purpose.IMAGE, 0), len(dataset))
    t = random.integers(Key(seed, Stream.EVALUATE, Purpose.TIME, np.arange(triples)), (), process.schedule.T)
    conditional = model.config.classes or model.config.vocab_size
    losses = []
    for first in range(0, triples, batch_size):
        k = np.arange(first, min(first + batch_size, triples))
        images, labels = dataset.batch(shuffled[k % len(dataset)])
        with no_grad():
            x0 = space.encode(backend.to_device(to_float(images)))
            cond = model.condition(len(images), labels if conditional else None)
            key = Key(seed, Stream.EVALUATE, Purpose.NOISE, k)
            losses.append(backend.to_numpy(process.loss(model, x0, cond, process.schedule.level(t[k]), key)[1]))
    return HeldOutLoss(t, np.concatenate(losses))
