"""The latents of a dataset, encoded once and kept.

Idea: an autoencoder that is not trained any more gives the same latents of an image every time.  So each image is
encoded once: those of a finite dataset before the training starts, those of an endless one when they are first asked
for.  Images are encoded in groups of eight neighbours in the dataset, always the same ones: the rounding of an image's
latents may depend on the images that are encoded with it, and a resumed training has to give the same bits.  Several
processes encode different groups, and all of them receive all latents.

Rendering and encoding an image of an endless dataset takes longer than learning from its latents.  So each is used
`USES` times, `LAG` steps apart, with other noise and another timestep each time (`order_of_latents`).
Leaves out the autoencoder: nn/autoencoder.py.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from minidiff.backend import to_device, to_numpy
from minidiff.data.dataset import KEYS, Dataset, order
from minidiff.images.files import to_float
from minidiff.latent.space import Space
from minidiff.processes import world
from minidiff.scenes import Scenes

GROUP = 8  # images that are encoded at once
USES = 4  # how often training uses an image of an endless dataset
LAG = 32  # steps between two uses
STEPS_AHEAD = 8  # whose images are encoded together, by each process


class EncodedImages:
    """The latents of a dataset's images.  flip: whether those of the mirrored images are needed as well."""

    def __init__(self, dataset: Dataset, space: Space, flip: bool = False) -> None:
        self.dataset, self.space, self.flip = dataset, space, flip
        self._groups: dict[int, tuple[np.ndarray, np.ndarray | None]] = {}

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
        self._encode_all(self.groups_before(step, batch_size), after_each)

    def prepare(self, seed: int, step: int, batch_size: int) -> None:
        """Encode what a step needs and, if that is not done yet, what later steps need: many images render faster.

        Of an endless dataset, what no step needs any more is forgotten.  All processes come to the same groups.
        """
        if self.dataset.endless:
            oldest = self.groups_before(step, batch_size).start
            for group in [group for group in self._groups if group < oldest]:
                del self._groups[group]
        if self._missing(seed, step, batch_size):
            steps = range(step, step + STEPS_AHEAD * world.current().size)
            self._encode_all(sorted({group for each in steps for group in self._missing(seed, each, batch_size)}))

    def _missing(self, seed: int, step: int, batch_size: int) -> set[int]:
        """Return the groups of a step that are not encoded yet."""
        return set((order_of_latents(self.dataset, seed, step, batch_size) // GROUP).tolist()) - self._groups.keys()

    def _encode_all(self, groups: Iterable[int], after_each: Callable[[], object] = lambda: None) -> None:
        """Encode groups, each on one of the processes."""
        groups, here = [group for group in groups if group not in self._groups], world.current()
        later = lambda k: groups[k + here.size : k + 32 * here.size : here.size]  # of the process that encodes the k-th
        tasks = (partial(self._encode, group, later(k)) for k, group in enumerate(groups))
        for group, (latents, *labels) in zip(groups, here.in_turn(tasks)):
            self._groups[group] = latents, labels[0] if labels else None
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
        if group not in self._groups:
            latents, *labels = self._encode(group)
            self._groups[group] = latents, labels[0] if labels else None
        return self._groups[group]

    def _numbers(self, group: int) -> np.ndarray:
        """Return the numbers of the images in a group."""
        return np.arange(group * GROUP, min((group + 1) * GROUP, len(self.dataset)))

    def _encode(self, group: int, later: Sequence[int] = ()) -> list[np.ndarray]:
        """Render or read the images of a group, and return their latents and, if they have any, their labels.

        later: groups that this process will encode next.
        """
        numbers = self._numbers(group)
        if isinstance(self.dataset, Scenes):
            self.dataset.render_ahead(numbers, map(self._numbers, later))
        images, labels = self.dataset.batch(numbers)
        views = [images, images[:, :, ::-1]] if self.flip else [images]
        encode: Callable[[np.ndarray], Any] = lambda view: self.space.encode(to_device(to_float(view)))
        latents = np.stack([to_numpy(encode(view)) for view in views])
        return [latents] if labels is None else [latents, labels]


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
