"""The way from images to what is noised, and back: nothing for pixels, an autoencoder and constants for latents."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from minidiff import backend
from minidiff.autograd import no_grad
from minidiff.diffusion.edit import Edit
from minidiff.errors import MinidiffError
from minidiff.latent.space import PIXELS, Latents, LatentStatistics, fit
from minidiff.nn.autoencoder import Autoencoder, AutoencoderConfig

CONFIG = AutoencoderConfig(8, 12, 3, 4, 2, (8, 8), (8, 8), (0, 1), (1, 0), 4)  # latents of 2×3, four channels
IMAGES = np.random.default_rng(0).uniform(-1, 1, (24, 8, 12, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def plain_backend():
    with backend.using("numpy"):
        yield


@pytest.fixture
def autoencoder():
    return Autoencoder(CONFIG).initialize(0)


@pytest.fixture
def latents(autoencoder):
    return Latents(autoencoder, fit(autoencoder, lambda k: IMAGES[8 * k : 8 * k + 8], 3))


def test_pixels_are_what_they_are():
    edit = Edit(IMAGES[0], sigma=0.5)
    assert PIXELS.encode(IMAGES) is PIXELS.decode(IMAGES) is PIXELS.preview(IMAGES) is IMAGES
    assert PIXELS.edit(edit) is edit
    assert PIXELS.finish(IMAGES, edit) is IMAGES
    assert PIXELS.image_shape((8, 12, 3)) == PIXELS.array_shape((8, 12, 3)) == (8, 12, 3)
    assert (PIXELS.clip, PIXELS.autoencoder_config) == ("clip", None)


def test_sizes(latents):
    assert (latents.factor, latents.clip) == (4, "none")
    assert latents.array_shape((8, 12, 3)) == (2, 3, 4)
    assert latents.image_shape((5, 2, 4)) == (20, 8, 3)
    with pytest.raises(MinidiffError, match=r"4 divides \(4, 8, 12, …\), got 10×12"):
        latents.array_shape((10, 12, 3))


def test_each_channel_has_mean_0_and_variance_1_over_the_images_that_were_measured(latents):
    x0 = latents.encode(IMAGES)
    assert x0.shape == (24, 2, 3, 4) and x0.dtype == np.float32
    # 1e-3: of the float32 of latents whose spread is a hundredth of their mean, and 1e-6 that std is enlarged by
    np.testing.assert_allclose(x0.mean((0, 1, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(x0.std((0, 1, 2)), 1, atol=1e-3)


def test_decoding_what_was_encoded_is_what_the_autoencoder_does(latents, autoencoder):
    with no_grad():
        expected = autoencoder.decoder(autoencoder.encoder(IMAGES)[0]).data
    found = latents.decode(latents.encode(IMAGES))
    np.testing.assert_allclose(found, expected, atol=1e-5)  # what was subtracted and divided comes back, rounded


def test_a_channel_that_is_constant_is_not_divided_by_zero(autoencoder):
    autoencoder.encoder.conv_out.w.data[:], autoencoder.encoder.conv_out.b.data[:] = 0, 0.3
    flat = Latents(autoencoder, fit(autoencoder, lambda k: IMAGES[:8], 1))
    assert not flat.encode(IMAGES).any()


def test_a_preview_is_the_linear_map_that_fits_best(latents):
    """No other one comes nearer to the mean colours of the places that it was fitted on."""
    x0, small = latents.encode(IMAGES), IMAGES.reshape(24, 2, 4, 3, 4, 3).mean((2, 4))
    assert latents.preview(x0).shape == IMAGES.shape
    shown = latents.preview(x0)[:, ::4, ::4]
    np.testing.assert_array_equal(np.repeat(np.repeat(shown, 4, 1), 4, 2), latents.preview(x0))
    error = ((shown - small) ** 2).sum()
    for place in range(15):
        for change in (-0.01, 0.01):
            colour = np.array(latents.statistics.colour)
            colour[place] += change
            other = replace(latents, statistics=replace(latents.statistics, colour=tuple(colour)))
            assert ((other.preview(x0)[:, ::4, ::4] - small) ** 2).sum() > error


def test_a_preview_by_hand(autoencoder):
    colour = (1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, -1, 0.5, 0.25, 0)  # of channels 0 and 3, and of none
    space = Latents(autoencoder, LatentStatistics((0.0,) * 4, (1.0,) * 4, tuple(map(float, colour))))
    shown = space.preview(np.array([[[[2, 9, 9, 3]]]], np.float32))
    np.testing.assert_array_equal(shown, np.broadcast_to(np.float32([2.5, 4.25, 3]), (1, 4, 4, 3)))


# -- edits ------------------------------------------------------------------------------------------------------------


def test_an_edits_images_become_latents(latents):
    edit = latents.edit(Edit(IMAGES[0], to=IMAGES[1], frames=5))
    np.testing.assert_array_equal(edit.image, latents.encode(IMAGES[:1])[0])
    np.testing.assert_array_equal(edit.to, latents.encode(IMAGES[1:2])[0])
    assert (edit.frames, edit.mask, edit.sigma) == (5, None, None)
    assert latents.edit(Edit(IMAGES[0], strength=0.3)).strength == 0.3


def test_a_place_is_drawn_anew_if_any_pixel_of_it_is(latents):
    for y, x in ((0, 0), (3, 3), (4, 7), (7, 11)):
        mask = np.zeros((8, 12, 1), np.float32)
        mask[y, x] = 1
        small = latents.edit(Edit(IMAGES[0], mask=mask, resample=2)).mask
        expected = np.zeros((2, 3, 1), np.float32)
        expected[y // 4, x // 4] = 1
        np.testing.assert_array_equal(small, expected)
    kept = latents.edit(Edit(IMAGES[0], mask=np.zeros((8, 12, 1), np.float32))).mask
    assert not kept.any()


def test_the_noise_in_latents_is_measured_and_grows_with_that_in_the_image(latents, autoencoder):
    levels = [latents.edit(Edit(IMAGES[0], sigma=sigma)).sigma for sigma in (0.01, 0.03, 0.1, 0.3)]
    assert all(0 < low < high for low, high in pairwise(levels))
    # Twice as wide a spread of the latents, so half as much noise in them once they are normalised.
    wider = replace(latents.statistics, std=tuple(2 * std for std in latents.statistics.std))
    assert Latents(autoencoder, wider).edit(Edit(IMAGES[0], sigma=0.1)).sigma == pytest.approx(levels[2] / 2, rel=1e-4)


def test_noise_is_estimated_in_the_image_not_in_its_latents(latents):
    smooth = np.broadcast_to(np.linspace(-0.5, 0.5, 12, dtype=np.float32)[:, None], (8, 12, 3))
    noisy = smooth + 0.2 * np.random.default_rng(1).standard_normal(smooth.shape).astype(np.float32)
    edit = Edit(noisy, sigma="estimate")
    assert latents.edit(edit).sigma == pytest.approx(latents.edit(Edit(noisy, sigma=edit.noise_level())).sigma)
    assert latents.edit(Edit(smooth, sigma="estimate")).sigma < latents.edit(edit).sigma / 2
