"""The loss on held-out images: the same questions for everybody, in whatever batches they are asked."""

import numpy as np
import pytest
import toy_images

from minidiff import backend
from minidiff.autograd import Tensor
from minidiff.diffusion import Process, make_schedule
from minidiff.evaluation.heldout import HeldOutLoss, held_out_loss
from minidiff.nn import UNet, UNetConfig


@pytest.fixture(autouse=True)
def plain_backend():
    with backend.using("numpy"):
        yield


@pytest.fixture
def network():
    """Untrained, but its answer depends on the image, the time and the label."""
    model = UNet(UNetConfig(8, 8, 3, model_channels=8, channel_mult=(1, 2), attention_at=(), heads=2, classes=3))
    model.initialize(1)
    model.conv_out.w.data += 0.1
    return model


PROCESS = Process(make_schedule("cosine"), "v")
IMAGES = toy_images.make(30)


class Silent:
    """A network that always predicts 0 and records its inputs."""

    def __init__(self, classes):
        self.config = UNetConfig(8, 8, 3, model_channels=8, channel_mult=(1,), attention_at=(), classes=classes)
        self.inputs = []

    def condition(self, n, labels):
        return labels

    def __call__(self, x, t, labels):
        self.inputs.append((x, t, labels))
        return Tensor(np.zeros_like(x))


def test_does_not_depend_on_batches_or_on_how_many_follow(network):
    whole = held_out_loss(network, PROCESS, IMAGES, triples=40, batch_size=40)
    parts = held_out_loss(network, PROCESS, IMAGES, triples=40, batch_size=7)
    fewer = held_out_loss(network, PROCESS, IMAGES, triples=11, batch_size=11)
    np.testing.assert_array_equal(parts.t, whole.t)
    # float32 products of other sizes add up in another order; a loss is a mean of 192 squares of about 1
    np.testing.assert_allclose(parts.losses, whole.losses, rtol=1e-5)
    np.testing.assert_array_equal(fewer.t, whole.t[:11])
    np.testing.assert_allclose(fewer.losses, whole.losses[:11], rtol=1e-5)


def test_the_seed_names_the_triples(network):
    one, same, other = (held_out_loss(network, PROCESS, IMAGES, seed, triples=20) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.losses, same.losses)
    assert not np.array_equal(one.t, other.t)


def test_value_where_it_is_known():
    """A network that says "no noise" is wrong by eps², which is 1 on average; 300 · 192 squares: ± 0.006."""
    loss = held_out_loss(Silent(3), Process(make_schedule("linear"), "eps"), IMAGES, triples=300)
    mean, error = loss.overall()
    assert mean == pytest.approx(1, abs=0.03)
    assert error == pytest.approx(np.sqrt(2 / 192 / 300), rel=0.2)  # the variance of eps² is 2


def test_no_label_is_dropped_and_every_image_is_used():
    silent = Silent(3)
    held_out_loss(silent, PROCESS, IMAGES, triples=30, batch_size=30)
    ((_, _, labels),) = silent.inputs
    assert np.bincount(labels).tolist() == [10, 10, 10]  # each image once; none has its label hidden
    unconditional = Silent(0)
    held_out_loss(unconditional, PROCESS, IMAGES, triples=5)
    assert unconditional.inputs[0][2] is None


def test_nothing_is_recorded(network):
    held_out_loss(network, PROCESS, IMAGES, triples=4)
    assert all(parameter.grad is None for parameter in network.named_parameters().values())


def test_buckets_share_out_the_triples():
    loss = HeldOutLoss(np.array([0, 9, 10, 49, 49]), np.array([1.0, 2, 3, 4, 5], np.float32))
    assert [(first, last, each.tolist()) for first, last, each in loss.buckets(50, 5)] == [
        (0, 9, [1, 2]),
        (10, 19, [3]),
        (40, 49, [4, 5]),
    ]
    uneven = HeldOutLoss(np.arange(7), np.arange(7.0))
    assert sum(len(each) for _, _, each in uneven.buckets(7, 3)) == 7
