"""The loss of an autoencoder: worked out by hand, and what each of its parts is blind to."""

import numpy as np
import pytest

from minidiff import backend
from minidiff.autograd import Tensor
from minidiff.latent.reconstruction import halved, kl_divergence, reconstruction_loss

X = np.array([[[[0.5], [-0.5]], [[1.0], [0.0]]]], np.float32)  # one image of 2×2
Y = np.array([[[[0.7], [-0.2]], [[0.6], [0.1]]]], np.float32)  # off by 0.2, 0.3, -0.4, 0.1


class Answers:
    """A stand-in for an autoencoder, which always says the same: images are decoded in the order given."""

    def __init__(self, *images, mean=0.0, log_variance=0.0, latents=(1, 1)):
        self.images = iter(images)
        self.latents = [Tensor(np.full((1, *latents, 2), float(value))) for value in (mean, mean, log_variance)]
        self.decoded = []

    def sample(self, x, eps):
        return self.latents

    def decoder(self, z):
        self.decoded.append(z.shape)
        return Tensor(next(self.images))


@pytest.fixture(autouse=True)
def plain_backend():
    with backend.using("numpy"):
        yield


def loss(y, edge_weight=0.0, kl_weight=0.0, **latents):
    return float(reconstruction_loss(Answers(y, **latents), X, None, edge_weight, 0.0, kl_weight).data)


def test_the_error_of_pixels_and_of_their_differences():
    """The error of rows differs by -0.4 - 0.2 and 0.1 - 0.3, that of columns by 0.3 - 0.2 and 0.1 + 0.4."""
    pixels, rows, columns = 1.0 / 4, 0.8 / 2, 0.6 / 2
    assert loss(Y) == pytest.approx(pixels)
    assert loss(Y, edge_weight=0.5) == pytest.approx(pixels + 0.5 * (rows + columns))
    assert loss(X, edge_weight=1.0) == 0


def test_a_shift_of_all_pixels_changes_no_edge():
    assert loss(X + 0.25, edge_weight=7.0) == pytest.approx(0.25)


def test_latents_of_half_the_size_are_decoded_to_the_image_of_half_the_size():
    """An image of twice the size of X is decoded without a fault, and X as Y."""
    twice = X.repeat(2, 1).repeat(2, 2)
    for scale_weight in (0.0, 0.1):
        model = Answers(twice, Y, latents=(2, 3))
        found = float(reconstruction_loss(model, twice, None, 0.5, scale_weight, 0.0).data)
        assert found == pytest.approx(scale_weight * loss(Y, edge_weight=0.5))
        assert model.decoded == [(1, 2, 3, 2), (1, 1, 1, 2)][: 2 if scale_weight else 1]


def test_the_mean_of_blocks():
    x = np.arange(2 * 3 * 4 * 1.0).reshape(2, 3, 4, 1)
    found = halved(Tensor(x), 1, 2).data
    np.testing.assert_allclose(found[..., 0], [[[2.5, 4.5]], [[14.5, 16.5]]])  # the third row has no other


def test_the_divergence_from_standard_normals():
    """(mean² + variance - 1 - ln variance) / 2, in nats."""
    nats = lambda mean, log_variance: float(kl_divergence(Tensor(np.array(mean)), Tensor(np.array(log_variance))).data)
    assert nats([0.0], [0.0]) == 0
    assert nats([3.0], [0.0]) == pytest.approx(4.5)
    assert nats([0.0], [np.log(4.0)]) == pytest.approx((4 - 1 - np.log(4)) / 2)
    assert nats([0.0, 3.0], [np.log(4.0), 0.0]) == pytest.approx((4.5 + (3 - np.log(4)) / 2) / 2)  # the mean of both
    assert loss(X, kl_weight=0.1, mean=3.0) == pytest.approx(0.45)


def test_the_divergence_is_that_which_samples_have():
    """The mean of ln q - ln p over samples of q.  Its standard error is 0.002."""
    mean, log_variance = 0.7, -1.1
    z = mean + np.exp(log_variance / 2) * np.random.default_rng(0).standard_normal(200_000)
    ln_q = -((z - mean) ** 2) / (2 * np.exp(log_variance)) - log_variance / 2
    measured = np.mean(ln_q + z**2 / 2)
    assert float(kl_divergence(Tensor(np.array(mean)), Tensor(np.array(log_variance))).data) == pytest.approx(
        measured, abs=0.01
    )
