"""Training an autoencoder: the loss of a step, and the images that show what it has learnt.

Idea: the loop, the optimizer, the averaged weights and the checkpoints are those of any training; the network and the
loss are others.  A preview shows images of the test set as they are, as they come back from their latents, and how far
the two differ.
Leaves out the loss itself: latent/reconstruction.py.
"""

import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minidiff import backend, random
from minidiff.autograd import Tensor, no_grad
from minidiff.checkpoint import Checkpoint
from minidiff.checkpoint.build import autoencoder_config
from minidiff.checkpoint.config import Config
from minidiff.data.dataset import Dataset
from minidiff.data.open import open_data
from minidiff.data.training_data import Batch
from minidiff.errors import MinidiffError
from minidiff.images.files import make_grid, save_png, to_float, to_uint8
from minidiff.latent.reconstruction import reconstruction_loss
from minidiff.latent.space import PIXELS, Space
from minidiff.nn.autoencoder import Autoencoder, AutoencoderConfig
from minidiff.nn.flat_parameters import averaged
from minidiff.random import Key, Stream
from minidiff.training.trainer import Trainer

COLUMNS, PREVIEW_ROWS, FINAL_ROWS = 8, 2, 4  # of the originals on a sheet
PART = 8  # images that pass through the autoencoder at once, while pictures are made


class AutoencoderTrainer(Trainer):
    """An autoencoder that is being trained, and everything that its next step depends on."""

    network: AutoencoderConfig

    def _make_space(self, found: Checkpoint | None) -> Space:
        return PIXELS

    def _make_config(self) -> AutoencoderConfig:
        data, config = self.dataset, self.config
        return autoencoder_config(config.autoencoder, config.model, data.height, data.width, data.channels)

    def examples(self, batch: Batch) -> tuple[Any, ...]:
        """Return images, and the noise that is added to their latents."""
        key = Key(self.config.run.seed, Stream.NOISE, self.step, batch.sample)
        return backend.to_device(batch.x0), random.normal(key, self.network.latent_shape)

    def loss_of(self, x0: Any, eps: Any) -> Tensor:
        """Return the mean loss of images."""
        weights = self.config.autoencoder
        return reconstruction_loss(self.model, x0, eps, weights.edge_weight, weights.scale_weight, weights.kl_weight)


def make_trainer(config: Config, dataset: Dataset, checkpoint: Checkpoint | None = None) -> Trainer:
    """Return the trainer of what the settings name, see `Trainer`."""
    kind = AutoencoderTrainer if config.model.network == "autoencoder" else Trainer
    return kind(config, dataset, checkpoint)


class Reconstructions:
    """The pictures of a training of an autoencoder: images of the test set, decoded from their latents."""

    def __init__(self, trainer: AutoencoderTrainer) -> None:
        config = trainer.config
        self.trainer = trainer
        try:
            data = open_data(config.data, "test", config.run.seed)
        except MinidiffError:  # too few images to hold some out
            data = trainer.dataset
        number = COLUMNS * FINAL_ROWS
        self.images = data.batch(np.arange(number if data.endless else min(number, len(data))))[0]
        self.images = np.resize(self.images, (number, *self.images.shape[1:]))  # repeats few images

    def save_preview(self, path: Path) -> float:
        """Write a sheet of two rows of originals, each above their decoded images; return the seconds for one image."""
        images, start = self.images[: COLUMNS * PREVIEW_ROWS], time.perf_counter()
        with averaged(self.trainer.parameters), np.errstate(all="ignore"):  # the weights may have diverged
            decoded = np.concatenate(list(reconstructions(self.trainer.model, images)))
        seconds = (time.perf_counter() - start) / len(images)
        self._save(path, images, decoded)
        return seconds

    def seconds(self, pass_seconds: float) -> tuple[float, float]:
        """Return the seconds that a preview and the final sheet take.

        pass_seconds: that the network takes to encode and decode one image.
        """
        return pass_seconds * COLUMNS * PREVIEW_ROWS, pass_seconds * len(self.images)

    @property
    def final_parts(self) -> int:
        """How often `save_final` yields."""
        return -(-len(self.images) // PART)

    def save_final(self, folder: Path) -> Generator[None]:
        """Decode all images part by part, yield after each, and write the sheet at the end."""
        decoded = []
        with averaged(self.trainer.parameters), np.errstate(all="ignore"):
            for part in reconstructions(self.trainer.model, self.images):
                decoded.append(part)
                yield
        self._save(folder / "grid.png", self.images, np.concatenate(decoded))

    def _save(self, path: Path, images: np.ndarray, decoded: np.ndarray) -> None:
        sheet = contact_sheet(images, decoded, COLUMNS)
        rows = ["original", "decoded", "difference, multiplied by four"]
        save_png(path, make_grid(sheet, COLUMNS, zoom=1), {"step": self.trainer.step, "rows": rows})


def reconstructions(autoencoder: Autoencoder, images: np.ndarray) -> Iterator[np.ndarray]:
    """Yield images (N, H, W, C) uint8 as the decoder makes them again from the means of their latents, part by part."""
    for first in range(0, len(images), PART):
        x = backend.to_device(to_float(images[first : first + PART]))
        with no_grad():
            mean, _ = autoencoder.encoder(x)
            yield to_uint8(autoencoder.decoder(mean).data)


def contact_sheet(images: np.ndarray, decoded: np.ndarray, columns: int) -> np.ndarray:
    """Return images, decoded images and their differences in rows, for a grid of so many columns.

    images, decoded: (N, H, W, C) uint8, where columns divides N.  Returns (3 N, H, W, C) uint8; in the differences,
    which are multiplied by four, grey means no difference.
    """
    difference = np.clip(128 + 4 * (decoded.astype(np.int64) - images), 0, 255).astype(np.uint8)
    rows = [part.reshape(-1, columns, *part.shape[1:]) for part in (images, decoded, difference)]
    return np.stack(rows, 1).reshape(-1, *images.shape[1:])
