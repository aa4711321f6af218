"""What is shown beside an image while an adapter learns: a map of it, or an image that looks alike.

Idea: scenes know their maps exactly, and can be drawn again in the same look.  Of other images the edges are
computed, and what looks like an image is the image itself, mirrored.
After open.py.  Leaves out what is made of them: nn/controlnet.py, nn/ip_adapter.py.
"""

from typing import Literal

import numpy as np

from minidiff.data.dataset import Dataset
from minidiff.data.maps import maps
from minidiff.images.edges import edges
from minidiff.scenes import Scenes
from minidiff.scenes.alike import Alike

Shown = Literal["edges", "segmentation", "depth", "reference"]


def companions(dataset: Dataset, shown: Shown, index: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Return what is shown beside the images numbered `index`, (N,): (N, H, W, c) uint8.

    images: (N, H, W, C) uint8.  c is 3 for references of colour and segmentations, else 1.
    """
    if shown == "reference":
        return dataset.alike(index) if isinstance(dataset, Alike) else images[:, :, ::-1]
    if shown == "edges" and not isinstance(dataset, Scenes):
        return edges(images)
    return maps(dataset, index, shown)
