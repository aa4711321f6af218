"""Evaluation of an autoencoder: everything that is measured.

Idea: no image that a latent model draws can be better than what its decoder makes, so held-out images are encoded,
decoded, and compared with themselves.  PSNR compares pixels, and is blind to a soft outline, since few pixels lie on
outlines; so edges are detected in the decoded images and compared with the exact ones.  A detector misses some edges
even of a perfect image, so those that it finds in the originals are compared with the exact ones too.  The means and
spreads of the latents show whether all channels are used, and how narrow the encoder's distributions are beside them.
Leaves out the loss of its training: latent/reconstruction.py.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidiff import backend
from minidiff.autograd import no_grad
from minidiff.data.dataset import Dataset
from minidiff.data.maps import maps
from minidiff.errors import MinidiffError
from minidiff.evaluation.metrics.psnr import psnr
from minidiff.evaluation.scenes.edges import Agreement, agreement
from minidiff.images.edges import edges
from minidiff.images.files import to_float, to_uint8
from minidiff.nn.autoencoder import Autoencoder
from minidiff.scenes import Scenes
from minidiff.training.autoencoder import PART


@dataclass(frozen=True, eq=False)
class LatentSpread:
    """The latents of all images at all positions, channel by channel: each (c,) float64.

    mean, std: of the means that the encoder says.  width: the mean standard deviation of its distributions.
    """

    mean: np.ndarray
    std: np.ndarray
    width: np.ndarray


@dataclass(frozen=True, eq=False)
class AutoencoderResults:
    """What was measured of an autoencoder.

    images: the originals, decoded: the images made again from the means of their latents; both (N, H, W, C) uint8.
    psnr: (N,) dB.  edges: those of the decoded images against the exact ones of scenes, or against those detected in
    the originals.  original_edges: those detected in the originals against the exact ones; None without exact ones.
    seconds: the time that each part took.
    """

    images: np.ndarray
    decoded: np.ndarray
    psnr: np.ndarray
    edges: Agreement
    original_edges: Agreement | None
    latents: LatentSpread
    seconds: dict[str, float]


def judge_autoencoder(
    model: Autoencoder,
    dataset: Dataset,
    index: np.ndarray,
    on_images: Callable[[int], Any] = lambda images: None,
) -> AutoencoderResults:
    """Encode and decode the images numbered `index`, (N,) int64, and compare them with themselves.

    on_images: called with the number of images of each part that is done.
    Raises MinidiffError if latents are not finite.
    """
    exact, start = isinstance(dataset, Scenes), time.perf_counter()
    parts: list[tuple[np.ndarray, ...]] = []
    sums = np.zeros((3, model.config.latent_channels))  # of means, of their squares, of standard deviations
    for first in range(0, len(index), PART):
        numbers = index[first : first + PART]
        images = dataset.batch(numbers)[0]
        with no_grad():
            mean, log_variance = model.encoder(backend.to_device(to_float(images)))
            decoded = to_uint8(model.decoder(mean).data)
        m, v = (backend.to_numpy(each.data).astype(np.float64) for each in (mean, log_variance))  # (n, h, w, c)
        sums += [each.sum(axis=(0, 1, 2)) for each in (m, m * m, np.exp(v / 2))]
        wanted = maps(dataset, numbers, "edges") if exact else edges(images)
        parts.append((images, decoded, wanted, psnr(images, decoded)))
        on_images(len(images))
    if not np.isfinite(sums).all():
        raise MinidiffError("its latents are not finite numbers: the training of this autoencoder has diverged")
    images, decoded, wanted, decibels = (np.concatenate(each) for each in zip(*parts, strict=True))
    height, width, _ = model.config.latent_shape
    mean_, square, width_ = sums / (len(index) * height * width)
    latents = LatentSpread(mean_, np.sqrt(np.maximum(square - mean_**2, 0)), width_)
    passed = time.perf_counter()
    found = agreement(wanted, edges(decoded))
    originals = agreement(wanted, edges(images)) if exact else None
    seconds = {"autoencoder": passed - start, "edges": time.perf_counter() - passed}
    return AutoencoderResults(images, decoded, decibels, found, originals, latents, seconds)
