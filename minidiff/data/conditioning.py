"""The conditioning image of each training image: what an adapter is shown while it learns to draw that image.

Idea: it is a map of the image, or a reference image with the same look.  Scenes have exact maps, and for each scene
another one with the same look can be rendered.  Other images have their detected edges as a map, and their own mirror
image as a reference.
Leaves out the maps (maps.py), and the networks that see these images (nn/controlnet.py, nn/ip_adapter.py).
"""

from typing import Literal

import numpy as np

from minidiff.data.dataset import Dataset
from minidiff.data.maps import maps
from minidiff.images.edges import edges
from minidiff.scenes import Scenes
from minidiff.scenes.alike import Alike

ConditioningKind = Literal["edges", "segmentation", "depth", "reference"]


def conditioning_images(dataset: Dataset, kind: ConditioningKind, index: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Return the conditioning images of the images numbered `index`, (N,): (N, H, W, c) uint8.

    images: (N, H, W, C) uint8, as training sees them.  c is C for references, 3 for segmentations, else 1.
    Raises MinidiffError if the dataset has no maps of this kind.
    """
    if kind == "reference":
        return dataset.alike(index) if isinstance(dataset, Alike) else images[:, :, ::-1]
    if kind == "edges" and not isinstance(dataset, Scenes):
        return edges(images)
    return maps(dataset, index, kind)
