"""A model of what a step costs on many processes, from what was measured on few.

    step(n) = compute(batch / n) + max(sum(n) - hidden, 0)
    compute(b) = once + b each                                     seconds of one process for b images
    tree(n) = 2 log2(n) latency + 2 (1 - 1 / n) bytes / bandwidth      halving and doubling, as in processes/tree.py
    ring(n) = 2 (n - 1) latency + 2 (1 - 1 / n) bytes / bandwidth      each process sends to its neighbour alone

It assumes that all processes are equally fast, that the network serves all pairs at once at full speed, and that a
message costs its latency and its bytes and nothing else.
Source: the costs are those of Thakur, Rabenseifner and Gropp 2005, doi:10.1177/1094342005051521, sections 4.3 and 4.4.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Link:
    """latency: seconds of a message without content.  bandwidth: bytes a second."""

    latency: float
    bandwidth: float


@dataclass(frozen=True)
class Step:
    """once, each: seconds of a step, and of each image in it.  size: bytes of the gradients.

    hidden: the share of a step's computing behind which sums can hide: the backward pass after the first gradients.
    """

    once: float
    each: float
    size: float
    hidden: float

    def compute(self, images: float) -> float:
        return self.once + images * self.each

    def seconds(self, processes: int, batch: float, link: Link, ring: bool = False) -> float:
        """Return the seconds of a step of a batch on so many processes."""
        computing = self.compute(batch / processes)
        return computing + max(sum_seconds(processes, self.size, link, ring) - self.hidden * computing, 0)


def sum_seconds(processes: int, size: float, link: Link, ring: bool = False) -> float:
    """Return the seconds of a sum of so many bytes over the processes."""
    rounds = 2 * (processes - 1) if ring else 2 * math.ceil(math.log2(processes))
    return rounds * link.latency + 2 * (1 - 1 / processes) * size / link.bandwidth


def fit_link(measured: Sequence[tuple[int, float, float]]) -> Link:
    """Return the link that explains measured sums best: (processes, bytes, seconds), by least squares of ratios."""
    rows = [(2 * math.ceil(math.log2(n)), 2 * (1 - 1 / n) * size) for n, size, _ in measured]
    seconds = np.array([s for *_, s in measured])
    latency, inverse = np.linalg.lstsq(np.array(rows) / seconds[:, None], np.ones(len(rows)), rcond=None)[0]
    return Link(max(float(latency), 0.0), 1 / max(float(inverse), 1e-15))


def fit_compute(measured: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Return `once` and `each` of measured steps: (images, seconds)."""
    images, seconds = np.array(measured).T
    rows = np.stack([np.ones_like(images), images], 1)
    once, each = np.linalg.lstsq(rows / seconds[:, None], np.ones(len(seconds)), rcond=None)[0]
    return max(float(once), 0.0), float(each)


def pays_until(step: Step, batch: int, link: Link, efficiency: float = 0.5) -> int:
    """Return the largest power of two of processes, at most the batch, that are used to at least this share."""
    alone, n = step.seconds(1, batch, link), 1
    while 2 * n <= batch and alone / (2 * n * step.seconds(2 * n, batch, link)) >= efficiency:
        n *= 2
    return n
