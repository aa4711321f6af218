"""Does a sample have edges where its edge map has them?

Idea: an edge map controls a sample, so the edges detected in the sample should be those of the map.  Neither a model
nor a detector is exact to the pixel, so an edge counts as found if the other map has one within a pixel of it.
Leaves out the quality of the image, which is not measured for scenes.

The F1 score means little alone: a detector misses some outlines even of a perfect image, and two unrelated images share
some edges by chance.  `control_score` maps it to a scale on which 0 is chance and 1 is what real images reach.
"""

from dataclasses import dataclass

import numpy as np

from minidiff.images.edges import edges

EDGE = 128  # pixels of a map from this value on are edges: they lie within half a pixel of a line


@dataclass(frozen=True)
class Agreement:
    """precision: the share of detected edges that the map has; recall: the share of its edges that are detected."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """The harmonic mean of precision p and recall r: 2 p r / (p + r)."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def agreement(wanted: np.ndarray, detected: np.ndarray) -> Agreement:
    """Compare edge maps; an edge pixel is found if the other map has one at most 1 pixel away, diagonals included.

        precision = |detected within 1 of wanted| / |detected|,    recall = |wanted within 1 of detected| / |wanted|

    wanted, detected: (N, H, W, 1) uint8, white on black.  Pixels are counted over all N maps.  Precision is 1
    if nothing is detected, recall is 1 if nothing is wanted.
    Source: Martin, Fowlkes and Malik 2004, doi:10.1109/TPAMI.2004.1273918, without their one-to-one assignment.
    """
    if wanted.shape != detected.shape or wanted.ndim != 4 or wanted.shape[3] != 1:
        raise ValueError(f"agreement: expected two (N, H, W, 1), got {wanted.shape} and {detected.shape}")
    a, b = wanted[..., 0] >= EDGE, detected[..., 0] >= EDGE  # (N, H, W)
    return Agreement(_share(b & _grown(a), b), _share(a & _grown(b), a))


def control_score(f1: float, floor: float, ceiling: float) -> float:
    """Return (f1 - floor) / (ceiling - floor): 0 for images that ignore the maps, 1 for images drawn from them.

    floor: F1 of the same images with the maps of other images.  ceiling: F1 of real images with their own maps.
    """
    if not floor < ceiling:
        raise ValueError(f"control_score: expected floor < ceiling, got {floor} and {ceiling}")
    return (f1 - floor) / (ceiling - floor)


@dataclass(frozen=True)
class EdgeControl:
    """Agreement with edge maps: samples with their own, samples with other images' maps, real images with theirs."""

    samples: Agreement
    shuffled: Agreement
    real: Agreement

    @property
    def score(self) -> float:
        """The score of `control_score`."""
        return control_score(self.samples.f1, self.shuffled.f1, self.real.f1)


def edge_control(wanted: np.ndarray, samples: np.ndarray, real: np.ndarray) -> EdgeControl:
    """Measure how well samples follow the edge maps that they were drawn with.

    wanted: (N, H, W, 1) uint8, the maps, N at least 2.  samples: (N, H, W, C) uint8, drawn with these maps in order.
    real: (N, H, W, C) uint8, the images that the maps were made of.  For the floor the maps are shifted by N // 2, so
    that every sample is compared with the map of another image.
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
    """Set the eight neighbours of every set pixel: (N, H, W) bool."""
    p = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    p = p[:, :-2] | p[:, 1:-1] | p[:, 2:]
    return p[..., :-2] | p[..., 1:-1] | p[..., 2:]
