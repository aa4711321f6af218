"""Maps that can condition an image: its edges, its segmentation, its depth.

Idea: a map is an image of one property of another image.  Of scenes every map is exact, for the rasteriser knows what
it draws; depth is the order in which things hide each other.  Of all other images only the edges are known: they are
detected.
Leaves out maps that a user gives: control.py.
"""

from typing import Literal, get_args

import numpy as np

from minidiff.data.dataset import Dataset
from minidiff.errors import MinidiffError
from minidiff.images.edges import edges
from minidiff.scenes.factors import LABELS
from minidiff.scenes.scenes import Scenes

Kind = Literal["edges", "segmentation", "depth"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_COLOURS = {  # each channel is one of three values, so any two colours differ by 127 or more in some channel
    "sky": (128, 255, 255),
    "dog": (128, 0, 0),
    "cat": (255, 128, 0),
    "rabbit": (255, 128, 255),
    "bird": (0, 0, 255),
    "house": (255, 0, 0),
    "car": (255, 0, 255),
    "boat": (128, 0, 255),
    "tree": (0, 255, 0),
    "balloon": (255, 0, 128),
    "flower": (255, 128, 128),
    "cloud": (255, 255, 255),
    "light": (255, 255, 0),
    "hill": (128, 255, 128),
    "mountain": (128, 128, 128),
    "ground": (128, 255, 0),
    "water": (0, 128, 255),
    "sand": (255, 255, 128),
    "foliage": (0, 128, 0),
    "trunk": (128, 128, 0),
    "building": (128, 128, 255),
    "road": (0, 0, 0),
}
PALETTE = np.array([_COLOURS[name] for name in LABELS], np.uint8)  # (22, 3): the colour of each label of a segmentation


def channels(kind: Kind) -> int:
    """Return how many channels a map of this kind has: 3 for a segmentation, else 1."""
    return 3 if kind == "segmentation" else 1


def maps(dataset: Dataset, index: np.ndarray, kind: Kind) -> np.ndarray:
    """Return the maps of the images numbered `index`, int64 (N,): (N, H, W, channels(kind)) uint8.

    edges: white lines on black.  segmentation: PALETTE's colours.  depth: black the sky, white the nearest.
    Scenes draw maps and images together, and consecutive numbers ahead: when a training step asks for the maps of its
    images, their edges and segmentation are there already.
    Raises MinidiffError if the images have no such maps.
    """
    if isinstance(dataset, Scenes):
        rendering = dataset.render(index, depth=kind == "depth")
        if kind == "edges":
            return (rendering.edge * np.float32(255) + np.float32(0.5)).astype(np.uint8)[..., None]
        if kind == "segmentation":
            return PALETTE[rendering.label]
        assert rendering.depth is not None  # asked for
        return rendering.depth[..., None]
    if kind != "edges":
        raise MinidiffError(f"{dataset.name}: only scenes have {kind} maps; other images have edges")
    return edges(dataset.batch(index)[0])
