"""The latents of a dataset, encoded once and kept.

Idea: an autoencoder that is not trained any more gives the same latents of an image every time.  So each image is
encoded once: those of a finite dataset before the training starts, those of an endless one when they are first asked
for.  Images are encoded in groups of eight neighbours in the dataset, always the same ones: sums of another group may
be rounded differently, and a resumed training would not end with the same bits.

Rendering and encoding an image of an endless dataset takes longer than learning from its latents.  So each is used
`USES` times, `LAG` steps apart, with other noise and another timestep each time (`order_of_latents`).
Leaves out the autoencoder: nn/autoencoder.py.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from minidiff.backend import to_device, to_numpy
from minidiff.data.dataset import KEYS, Dataset, order
from minidiff.images.files import to_float
from minidiff.latent.space import Space

GROUP = 8  # images that are encoded at once
KEPT = 1024  # groups of an endless dataset that stay in memory
USES = 4  # how often training uses an image of an endless dataset
LAG = 32  # steps between two uses


class EncodedImages:
    """The latents of a dataset's images.  flip: whether those of the mirrored images are needed as well."""

    def __init__(self, dataset: Dataset, space: Space, flip: bool = False) -> None:
        self.dataset, self.space, self.flip = dataset, space, flip
        self._groups: OrderedDict[int, tuple[np.ndarray, np.ndarray | None]] = OrderedDict()

    def __len__(self) -> int:
        """The number of groups of a finite dataset."""
        return -(-len(self.dataset) // GROUP)

    def fill(self, after_each: Callable[[], object]) -> None:
        """Encode all images of a finite dataset."""
        for group in range(len(self)):
            self._group(group)
            after_each()

    def labels(self, index: np.ndarray) -> np.ndarray | None:
        """Return the labels of the images numbered `index`, (N,) or (N, L) int64, or None."""
        rows = [self._group(number // GROUP)[1] for number in index]
        return None if rows[0] is None else np.stack([row[number % GROUP] for row, number in zip(rows, index)])  # type: ignore[index]

    def latents(self, index: np.ndarray, flipped: np.ndarray) -> np.ndarray:
        """Return the latents (N, h, w, c) float32 of the images numbered `index`, or of their mirror images.

        flipped: (N,) bool.
        """
        return np.stack(
            [
                self._group(number // GROUP)[0][int(other), number % GROUP]
                for number, other in zip(index.tolist(), flipped)
            ]
        )

    def _group(self, group: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the latents (1 or 2, GROUP, h, w, c) and the labels of a group; the second ones are mirrored."""
        if group in self._groups:
            self._groups.move_to_end(group)
            return self._groups[group]
        numbers = np.arange(group * GROUP, (group + 1) * GROUP)
        if not self.dataset.endless:
            numbers = numbers[numbers < len(self.dataset)]
        images, labels = self.dataset.batch(numbers)
        views = [images, images[:, :, ::-1]] if self.flip else [images]
        encode: Callable[[np.ndarray], Any] = lambda view: self.space.encode(to_device(to_float(view)))
        self._groups[group] = np.stack([to_numpy(encode(view)) for view in views]), labels
        if self.dataset.endless and len(self._groups) > KEPT:
            self._groups.popitem(last=False)
        return self._groups[group]


def encoded_images(dataset: Dataset, space: Space, flip: bool) -> EncodedImages | None:
    """Return the encoded images of a dataset, None if the space is that of the images themselves."""
    return None if space.autoencoder_config is None else EncodedImages(dataset, space, flip)


def order_of_latents(dataset: Dataset, seed: int, step: int, batch_size: int) -> np.ndarray:
    """Return the numbers of the images of one training step, (batch_size,) int64, as `order` does.

    Of an endless dataset, one image in `USES` of a batch is new, and the others were new LAG, 2 LAG, … steps ago.  At
    the first steps these are images from the end of the dataset.
    """
    if not dataset.endless:
        return order(dataset, seed, step, batch_size)
    place = step * batch_size + np.arange(batch_size, dtype=np.int64)
    return (place // USES - place % USES * LAG // USES * batch_size) % KEYS
