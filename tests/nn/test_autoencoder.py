"""The autoencoder: sizes of images and latents, structure, and the lines that settings which do not fit get."""

import numpy as np
import pytest

from minidiff import backend
from minidiff.autograd import no_grad
from minidiff.latent.reconstruction import reconstruction_loss
from minidiff.nn.autoencoder import Autoencoder, AutoencoderConfig
from tests import mistakes
from tests.backends import RUN_HERE

TINY = dict(encoder_channels=(8, 8, 8), decoder_channels=(8, 8, 8), encoder_blocks=(0, 1, 1), decoder_blocks=(1, 0, 1))


def images(config, n=2):
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (n, config.height, config.width, config.channels)).astype(np.float32)


def noise(config, n=2):
    return np.random.default_rng(1).standard_normal((n, *config.latent_shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("height", "width", "more", "latents"),
    [
        (16, 16, {}, (2, 2, 8)),
        (24, 40, {}, (3, 5, 8)),  # as 96×160
        (8, 16, dict(channels=1, latent_channels=3), (1, 2, 3)),
        (12, 4, dict(autoencoder_patch=1), (3, 1, 8)),
        (6, 9, dict(autoencoder_patch=3, **{name: value[:1] for name, value in TINY.items()}), (2, 3, 8)),
    ],
)
def test_images_become_latents_and_images_again(network_backend, height, width, more, latents):
    config = AutoencoderConfig(height, width, **{**TINY, **more})
    net = Autoencoder(config).initialize(0)
    x, eps = backend.to_device(images(config)), backend.to_device(noise(config))
    z, mean, log_variance = net.sample(x, eps)
    y = net.decoder(z)
    assert config.latent_shape == latents
    assert y.shape == x.shape and y.dtype == np.float32
    assert z.shape == mean.shape == log_variance.shape == eps.shape == (2, *latents)
    reconstruction_loss(net, x, eps, 1.0, 0.25, 1e-3).backward()
    untouched = [name for name, w in net.named_parameters().items() if w.grad is None]
    assert not untouched
    assert np.abs(backend.to_numpy(net.encoder.conv_in.w.grad)).max() > 0  # through the latents and the noise


def test_latents_are_drawn_around_the_mean():
    """With the smallest variances, the noise changes nothing; with that of 1, as much as adding it to the mean."""
    config = AutoencoderConfig(8, 16, **TINY)
    with backend.using("numpy"), no_grad():
        net = Autoencoder(config).initialize(0)
        x, eps, c = images(config), noise(config), config.latent_channels
        last = net.encoder.conv_out
        last.w.data[..., c:] = 0
        for log_variance, added in ((-200.0, 0 * eps), (0.0, eps), (2 * np.log(3), 3 * eps)):
            last.b.data[c:] = log_variance
            z, mean, _ = net.sample(x, eps)
            np.testing.assert_allclose(z.data, mean.data + added, atol=1e-5)  # float32 rounds 3 eps otherwise


def test_backends_agree():
    config = AutoencoderConfig(16, 24, **TINY)
    x, eps, results = images(config), noise(config), []
    for name in RUN_HERE:
        with backend.using(name):
            net = Autoencoder(config).initialize(0)
            loss = reconstruction_loss(net, backend.to_device(x), backend.to_device(eps), 1.0, 0.25, 1e-3)
            loss.backward()
            gradients = [backend.to_numpy(w.grad).ravel() for w in net.named_parameters().values()]
            with no_grad():
                y = backend.to_numpy(net.decoder(net.sample(backend.to_device(x), backend.to_device(eps))[0]).data)
            results.append((y, np.concatenate(gradients), float(loss.data)))
    y, gradients, loss = results[0]
    for name, other in zip(RUN_HERE[1:], results[1:]):
        np.testing.assert_allclose(other[0], y, atol=1e-4, err_msg=name)  # float32 sums in another order, ten layers
        # The loss has corners: where a pixel is at one, to rounding, one backend is on this side and one on that.
        assert np.abs(other[1] - gradients).max() < 2e-2 * np.abs(gradients).max(), name
        assert other[2] == pytest.approx(loss, rel=1e-5), name


@pytest.mark.parametrize("size", [(20, 16), (16, 20), (4, 8), (97, 160)])
def test_a_size_that_8_does_not_divide_says_which_do(size):
    line = mistakes.of_call(AutoencoderConfig, *size)
    assert line == (
        "an autoencoder whose latents are 8 times smaller needs a height and a width that 8 divides (8, 16, 24, …), "
        f"got {size[0]}×{size[1]}"
    )


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (dict(decoder_channels=(8,)), "decoder_channels and encoder_channels need one entry a level, got 1 and 3"),
        (dict(encoder_blocks=(1,) * 4), "encoder_blocks and encoder_channels need one entry a level, got 4 and 3"),
        (dict(decoder_blocks=()), "decoder_blocks and encoder_channels need one entry a level, got 0 and 3"),
        (dict.fromkeys(TINY, ()), "encoder_channels needs 1 to 13 entries, got 0"),
        (dict(latent_channels=0), "latent_channels must be from 1 to 64, got 0"),
        (dict(encoder_channels=(8, 0, 8)), "encoder_channels must be from 1 to 16384, got 0"),
        (dict(encoder_blocks=(0, 10**9, 1)), "encoder_blocks must be from 0 to 256, got 1000000000"),
        (dict(autoencoder_patch=65), "autoencoder_patch must be from 1 to 64, got 65"),
        (dict(groups=0), "groups must be from 1 to 16384, got 0"),
        (dict(height=1 << 40), "height must be from 1 to 4096, got 1099511627776"),
        (dict.fromkeys(TINY, (8,) * 10**5), "encoder_channels needs 1 to 13 entries, got 100000"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_one_line(wrong, line):
    assert mistakes.of_call(AutoencoderConfig, **{"height": 16, "width": 16, **wrong}) == f"autoencoder: {line}"
