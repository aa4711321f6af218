"""A dataset as training sees it: shuffled, augmented and, for an adapter, with conditioning images.

Idea: what is random about an image in a batch (whether it is mirrored, which parts of its caption are left out) is a
function of the seed, the step and the image's place in the batch.  So a batch can be made again at any time, in parts
of any size, and training needs to know nothing about the data.
Leaves out noise and label dropout: diffusion/process.py.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from minidiff import random
from minidiff.data.conditioning import ConditioningKind, conditioning_images
from minidiff.data.dataset import Dataset, ImageDataset, order
from minidiff.data.encoded import EncodedImages, order_of_latents
from minidiff.data.flip import flipped, flipped_labels
from minidiff.errors import MinidiffError
from minidiff.images.files import to_float
from minidiff.nn.tokenizer import drop_caption_parts
from minidiff.random import Key, Stream
from minidiff.scenes import Scenes


@dataclass(frozen=True, eq=False)
class Batch:
    """Training images, or a part of them.

    x0: (N, H, W, C) float32, what noise is added to: images in [-1, 1], or latents.
    labels: (N,) classes or (N, L) captions, int64; None without labels.
    conditioning: (N, H, W, c) uint8, the input of an adapter; None without an adapter.
    sample: (N,) int64, the place of each image in the whole batch of its step.
    """

    x0: np.ndarray
    labels: np.ndarray | None
    conditioning: np.ndarray | None
    sample: np.ndarray


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The batches of a training.

    seed: of all randomness.  flip: whether half of the images are mirrored.  conditioning: what the adapter that is
    trained is shown, None if a whole network is trained.  encoded: the images' latents, None to learn from pixels.
    Raises MinidiffError if images are to be mirrored whose maps cannot be.
    """

    dataset: Dataset
    seed: int
    flip: bool = False
    conditioning: ConditioningKind | None = None
    encoded: EncodedImages | None = None

    def __post_init__(self) -> None:
        if self.flip and self.conditioning is not None and isinstance(self.dataset, Scenes):
            raise MinidiffError("--flip mirrors images, but not the maps of scenes beside them: leave it out")

    def batches(self, step: int, size: int, parts: int = 1, chosen: slice = slice(None)) -> list[Batch]:
        """Return the batch of a step (0, 1, …), `size` images, split into `parts` parts of equal size.

        chosen: which of the parts are wanted.
        """
        if self.encoded is not None:
            self.encoded.prepare(self.seed, step, size)
        order_of = order if self.encoded is None else order_of_latents
        index, samples = order_of(self.dataset, self.seed, step, size), np.split(np.arange(size), parts)[chosen]
        if isinstance(self.dataset, Scenes) and (self.encoded is None or self.conditioning is not None):
            places = np.concatenate(samples)
            later = (order_of(self.dataset, self.seed, each, size)[places] for each in itertools.count(step + 1))
            self.dataset.render_ahead(index[places], later)
        return [self.batch(index[sample], step, sample) for sample in samples]

    def batch(self, index: np.ndarray, step: int, sample: np.ndarray) -> Batch:
        """Return the images numbered `index`, (N,), augmented as images at the places `sample`, (N,), of a step."""
        images = None
        if self.encoded is None or self.conditioning is not None:
            images, labels = self.dataset.batch(index)
        else:
            labels = self.encoded.labels(index)
        if isinstance(self.dataset, ImageDataset) and self.dataset.parts is not None and labels is not None:
            u = random.uniform(Key(self.seed, Stream.CAPTION, step, sample), 1 + labels.shape[1])
            labels = drop_caption_parts(labels, self.dataset.parts[index], u)
        chosen = np.zeros(len(index), bool)
        if self.flip:
            chosen = random.uniform(Key(self.seed, Stream.FLIP, step, sample), ()) < 0.5
            chosen, labels = flipped_labels(self.dataset, labels, chosen)
            images = None if images is None else flipped(images, chosen)
        conditioning = None if images is None else self.conditioning_images(index, images)
        if self.encoded is not None:
            return Batch(self.encoded.latents(index, chosen), labels, conditioning, sample)
        assert images is not None
        return Batch(to_float(images), labels, conditioning, sample)

    def conditioning_images(self, index: np.ndarray, images: np.ndarray) -> np.ndarray | None:
        """Return what the adapter is shown with the images numbered `index`, None without an adapter."""
        if self.conditioning is None:
            return None
        return conditioning_images(self.dataset, self.conditioning, index, images)
