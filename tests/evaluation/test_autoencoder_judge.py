"""Evaluation tells a good autoencoder from a bad one, for autoencoders whose answers are known."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import toy_images

from minidiff import backend
from minidiff.autograd import Tensor
from minidiff.errors import MinidiffError
from minidiff.evaluation.autoencoder import report
from minidiff.evaluation.autoencoder.judge import judge_autoencoder
from minidiff.nn.autoencoder import AutoencoderConfig
from minidiff.scenes import Scenes

TOYS = toy_images.make(20)


@pytest.fixture(scope="module", autouse=True)
def plain_backend():
    with backend.using("numpy"):
        yield


class Known:
    """A stand-in for an Autoencoder: its latents are the image's own patches of 2×2, and a function decodes them."""

    def __init__(self, dataset, decode=lambda x: x, log_variance=-2.0):
        size = {"height": dataset.height, "width": dataset.width, "channels": 3, "latent_channels": 12}
        self.config = AutoencoderConfig(
            **size,
            encoder_channels=(8,),
            decoder_channels=(8,),
            encoder_blocks=(0,),
            decoder_blocks=(0,),
            autoencoder_patch=2,
        )
        self.decode, self.log_variance = decode, log_variance

    def encoder(self, x):
        n, h, w, c = x.shape
        latents = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h // 2, w // 2, 4 * c)
        return Tensor(latents), Tensor(np.full_like(latents, self.log_variance))

    def decoder(self, latents):
        z = latents.data
        n, h, w, c = z.shape
        images = z.reshape(n, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, c // 4)
        return SimpleNamespace(data=self.decode(images))


def summary(model, dataset, results):
    path = Path(__file__)  # any file: the report has its hash
    return report.summary(path, 7, model.config, dataset.name, 3, results)


def test_one_that_loses_nothing():
    moved, index = [], np.array([3, 1, 4, 15, 9, 2, 6, 5, 8, 7])
    model = Known(TOYS)
    results = judge_autoencoder(model, TOYS, index, moved.append)
    np.testing.assert_array_equal(results.images, TOYS.images[index])
    np.testing.assert_array_equal(results.decoded, results.images)
    assert (results.psnr > 60).all() and results.edges.f1 == 1 and results.original_edges is None
    assert sum(moved) == 10
    result = summary(model, TOYS, results)
    assert result["edges"]["against"] == "edges of the originals" and result["edges"]["originals"] is None


def test_the_latents_of_each_channel():
    dataset = toy_images.make(11)
    latents = judge_autoencoder(Known(dataset), dataset, np.arange(11)).latents
    images = dataset.images.astype(np.float64) / 127.5 - 1
    for channel in range(12):
        row, column, colour = channel // 6, channel // 3 % 2, channel % 3
        values = images[:, row::2, column::2, colour]
        # float32 numbers of about 1, whose sums are exact to a few millionths
        assert latents.mean[channel] == pytest.approx(values.mean(), abs=1e-5)
        assert latents.std[channel] == pytest.approx(values.std(), abs=1e-5)
    np.testing.assert_allclose(latents.width, np.exp(-1), rtol=1e-6)


def test_scenes_have_exact_edges_and_a_blurred_image_loses_them():
    def blurred(x):
        for axis in (1, 2):
            x = (x + np.roll(x, 1, axis) + np.roll(x, -1, axis) + np.roll(x, 2, axis) + np.roll(x, -2, axis)) / 5
        return x

    scenes, index = Scenes(32, "test"), np.arange(1000, 1024)
    sharp_model, soft_model = Known(scenes), Known(scenes, blurred)
    sharp, soft = (judge_autoencoder(model, scenes, index) for model in (sharp_model, soft_model))
    assert sharp.edges == sharp.original_edges == soft.original_edges
    assert sharp.edges.f1 > 0.7  # the detector is not perfect
    assert soft.edges.f1 < 0.8 * sharp.edges.f1 and soft.psnr.mean() < 30
    result = summary(soft_model, scenes, soft)
    assert result["edges"]["ratio"] == soft.edges.f1 / soft.original_edges.f1
    assert result["edges"]["against"] == "exact edges"
    assert summary(sharp_model, scenes, sharp)["edges"]["ratio"] == 1


def test_the_report_and_its_table():
    dataset, done = toy_images.make(20), 0
    np.maximum(dataset.images, 60, out=dataset.images)  # so that nothing is cut off at 0

    def darker(x):
        """Every image by twice as many grey levels as its number, from 1 on."""
        nonlocal done
        numbers, done = np.arange(done + 1, done + 1 + len(x)), done + len(x)
        return x - 2 * numbers.reshape(-1, 1, 1, 1) / np.float32(127.5)

    model = Known(dataset, darker)
    results = judge_autoencoder(model, dataset, np.arange(20))
    wanted = 20 * np.log10(255 / (2 * np.arange(1, 21)))
    np.testing.assert_allclose(results.psnr, wanted, rtol=1e-9)
    result = summary(model, dataset, results)
    assert result["psnr"]["mean"] == pytest.approx(wanted.mean())
    assert result["psnr"]["median"] == pytest.approx(np.median(wanted))
    assert result["psnr"]["mean_of_lowest_tenth"] == pytest.approx(wanted[-2:].mean())
    assert result["settings"]["count"] == 20 and result["settings"]["seed"] == 3
    text = report.table(result)
    for number in result["psnr"].values():
        assert f"{number:.2f}" in text
    assert "4×4×12, 1 times fewer numbers" in text and "toy, 20 held-out images of 8×8" in text
    assert text.count(f"{np.exp(-1):.4f}") == 13  # twelve channels, and all of them


def test_the_sheet_shows_the_first_and_the_worst():
    worst = 11

    def decode(x):
        return np.where((x == TOYS.images[worst] / np.float32(127.5) - 1).all((1, 2, 3), keepdims=True), -x, x)

    results = judge_autoencoder(Known(TOYS, decode), TOYS, np.arange(20))
    assert results.psnr.argmin() == worst
    sheet = report.sheet(results)
    assert sheet.shape == (12 * 10 + 2, 8 * 10 + 2, 3)  # images of 8 pixels with a gap of 2, and a border
    tiles = [[sheet[2 + 10 * y : 10 + 10 * y, 2 + 10 * x : 10 + 10 * x] for x in range(8)] for y in range(12)]
    np.testing.assert_array_equal(tiles[0][5], TOYS.images[5])
    np.testing.assert_array_equal(tiles[3][3], TOYS.images[worst])
    np.testing.assert_array_equal(tiles[6][0], TOYS.images[worst])
    np.testing.assert_array_equal(tiles[7][0], results.decoded[worst])
    assert (tiles[2][5] == 128).all() and (tiles[8][0] != 128).any()
    few = judge_autoencoder(Known(TOYS), TOYS, np.arange(3))
    assert report.sheet(few).shape == sheet.shape  # images are repeated


def test_latents_that_are_no_numbers():
    with pytest.raises(MinidiffError, match=r"^its latents are not finite numbers: the training .* has diverged$"):
        judge_autoencoder(Known(TOYS, log_variance=np.nan), TOYS, np.arange(4))
