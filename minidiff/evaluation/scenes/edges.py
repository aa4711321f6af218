"""Does an image have its edges where they were asked for?

Idea: a drawing steers the image, so the edges detected in the sample should be the drawing's.  Nobody hits lines to
the pixel, and neither does a detector: an edge counts as found if there is one within a pixel of it.
Leaves out whether the image is a good one: judge.py.

The number means little alone, for no detector finds all outlines of even a perfect image, and two images that have
nothing to do with each other share some.  `control_score` puts it between these two: 0 is chance, 1 what real images
of those outlines reach.
"""

from dataclasses import dataclass

import numpy as np

from minidiff.images.edges import edges

EDGE = 128  # from here on a pixel of a map counts as an edge: less than half a pixel away from a line


@dataclass(frozen=True)
class Agreement:
    """precision: which share of the detected edges was wanted; recall: which share of the wanted ones is there."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """The harmonic mean of both: 2 p r / (p + r)."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def agreement(wanted: np.ndarray, detected: np.ndarray) -> Agreement:
    """Compare edge maps, counting a pixel as found if the other map has one within 1 pixel, diagonals included.

        precision = |detected within 1 of wanted| / |detected|,    recall = |wanted within 1 of detected| / |wanted|

    wanted, detected: (N, H, W, 1) uint8, white on black.  The counts are those of the whole set.  Of no pixels all
    are found: precision is 1 if nothing is detected, recall 1 if nothing is wanted.
    Source: Martin, Fowlkes and Malik 2004, doi:10.1109/TPAMI.2004.1273918, without their one-to-one assignment.
    """
    if wanted.shape != detected.shape or wanted.ndim != 4 or wanted.shape[3] != 1:
        raise ValueError(f"agreement: expected two (N, H, W, 1), got {wanted.shape} and {detected.shape}")
    a, b = wanted[..., 0] >= EDGE, detected[..., 0] >= EDGE  # (N, H, W)
    return Agreement(_share(b & _grown(a), b), _share(a & _grown(b), a))


def control_score(f1: float, floor: float, ceiling: float) -> float:
    """Return (f1 - floor) / (ceiling - floor): 0 for images that ignore the maps, 1 for images drawn from them.

    floor: F1 of the same images against the maps of others.  ceiling: F1 of real images of these maps.
    """
    if not floor < ceiling:
        raise ValueError(f"control_score: expected floor < ceiling, got {floor} and {ceiling}")
    return (f1 - floor) / (ceiling - floor)


@dataclass(frozen=True)
class EdgeControl:
    """How well edge maps steer: of the samples, of the samples against the maps of others, of real images."""

    samples: Agreement
    shuffled: Agreement
    real: Agreement

    @property
    def score(self) -> float:
        """See control_score."""
        return control_score(self.samples.f1, self.shuffled.f1, self.real.f1)


def edge_control(wanted: np.ndarray, samples: np.ndarray, real: np.ndarray) -> EdgeControl:
    """Judge samples that were made from edge maps.

    wanted: (N, H, W, 1) uint8, the maps, N of 2 or more.  samples: (N, H, W, C) uint8, made from them in this order.
    real: (N, H, W, C) uint8, the images that have these maps.  For the floor every sample meets the map of the one
    half the set before it.
    """
    if not 2 <= len(wanted) == len(samples) == len(real):
        raise ValueError(
            f"edge_control: expected as many maps as samples and real images, 2 or more, "
            f"got {len(wanted)}, {len(samples)} and {len(real)}"
        )
    detected = edges(samples)
    others = np.roll(wanted, len(wanted) // 2, axis=0)
    return EdgeControl(agreement(wanted, detected), agreement(others, detected), agreement(wanted, edges(real)))


def _share(found: np.ndarray, all_: np.ndarray) -> float:
    return float(found.sum() / all_.sum()) if all_.any() else 1.0


def _grown(x: np.ndarray) -> np.ndarray:
    """Add the eight neighbours of each pixel: (N, H, W) bool."""
    p = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    p = p[:, :-2] | p[:, 1:-1] | p[:, 2:]
    return p[..., :-2] | p[..., 1:-1] | p[..., 2:]
