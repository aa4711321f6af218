"""The latents of a dataset, encoded once and kept.

Idea: an autoencoder that is not trained any more gives the same latents of an image every time.  So each image is
encoded once: those of a finite dataset before the training starts, those of an endless one when they are first asked
for.  Images are encoded in groups of eight neighbours in the dataset, always the same ones: the rounding of an image's
latents may depend on the images that are encoded with it, and a resumed training has to give the same bits.

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
KEPT = 1024  # groups of an endless dataset that stay in memory, or more where steps need more
USES = 4  # how often training uses an image of an endless dataset
LAG = 32  # steps between two uses


class EncodedImages:
    """The latents of a dataset's images.  flip: whether those of the mirrored images are needed as well."""

    def __init__(self, dataset: Dataset, space: Space, flip: bool = False) -> None:
        self.dataset, self.space, self.flip = dataset, space, flip
        self._groups: OrderedDict[int, tuple[np.ndarray, np.ndarray | None]] = OrderedDict()
        self._kept = KEPT

    def groups_before(self, step: int, batch_size: int) -> range:
        """Return the groups that are to be encoded before a step.

        They are all groups of a finite dataset, and those that earlier steps would have left of an endless one.
        """
        if not self.dataset.endless:
            return range(-(-len(self.dataset) // GROUP))
        first, last = (max(s, 0) * batch_size // USES for s in (step - LAG * (USES - 1) - 1, step))
        return range(first // GROUP, -(-last // GROUP))

    def fill(self, step: int, batch_size: int, after_each: Callable[[], object] = lambda: None) -> None:
        """Encode the groups that are to be encoded before a step, one after the other, as they are rendered fastest."""
        self._kept = max(KEPT, 2 * len(self.groups_before(LAG * USES, batch_size)))
        for group in self.groups_before(step, batch_size):
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
        if self.dataset.endless and len(self._groups) > self._kept:
            self._groups.popitem(last=False)
        return self._groups[group]


def encoded_images(dataset: Dataset, space: Space, flip: bool) -> EncodedImages | None:
    """Return the encoded images of a dataset, None if the space is that of the images themselves."""
    return None if space.autoencoder_config is None else EncodedImages(dataset, space, flip)


def order_of_latents(dataset: Dataset, seed: int, step: int, batch_size: int) -> np.ndarray:
    """Return the numbers of the images of one training step, (batch_size,) int64, as `order` does.

    Of an endless dataset, one image in `USES` of a batch is new, and the others were new LAG, 2 LAG, … steps ago.  In
    the first 3 LAG steps older images are missing, and newer ones are repeated.
    """
    if not dataset.endless:
        return order(dataset, seed, step, batch_size)
    place = step * batch_size + np.arange(batch_size, dtype=np.int64)
    times_before = np.minimum(place % USES, step // LAG)
    return (place // USES - times_before * LAG // USES * batch_size) % KEYS
