"""AdamW, learning rate, clipping and average, against formulas written out a second time in float64."""

import math
from itertools import pairwise

import numpy as np
import pytest

from minidiff import backend
from minidiff.checkpoint.config import OptimizerConfig
from minidiff.nn import UNet, UNetConfig
from minidiff.nn.flat_parameters import FlatParameters, averaged
from minidiff.training.optimizer import EPS, ema_decay, gradient_norm, learning_rate, update

TINY = UNetConfig(
    height=4, width=4, channels=1, model_channels=4, channel_mult=(1,), attention_at=(), heads=1, classes=2
)


@pytest.fixture
def model():
    model = UNet(TINY)
    model.initialize(0)
    return model


def test_the_networks_parameters_become_views(model):
    before = {name: p.data.copy() for name, p in model.named_parameters().items()}
    parameters = FlatParameters(model)
    assert parameters.w.size == model.count_parameters()
    for name, p in model.named_parameters().items():
        assert np.array_equal(p.data, before[name])
        assert np.shares_memory(p.data, parameters.w)
        assert np.shares_memory(p.grad, parameters.g)
        assert np.shares_memory(p.data, parameters.split(parameters.w)[name])


def test_decayed_are_weights_and_not_gains_or_biases(model):
    parameters = FlatParameters(model)
    parameters.w[: parameters.n_decay] = 7
    parameters.w[parameters.n_decay :] = 8
    for name, p in model.named_parameters().items():
        assert (p.data == (7 if name.endswith((".w", ".table")) else 8)).all(), name


def test_backward_adds_into_the_flat_gradient(model):
    parameters = FlatParameters(model)
    x, t = np.ones((2, 4, 4, 1), np.float32), np.zeros(2, np.float32)
    for times in (1, 2):
        (model(x, t, None) * 1.0).sum().backward()
        # the last bias adds to each of the 32 outputs
        assert parameters.split(parameters.g)["conv_out.b"] == pytest.approx(32 * times)


def test_adamw_and_average_against_float64(every_backend, model):
    """30 steps with random gradients, warm-up, decay and clipping, on each backend, against Adam as its paper has it.

    Bound: each float32 step rounds weights of size 1 by at most 6e-8, and moves them by at most lr = 1e-2, computed
    to about 1e-6 relative; 30 steps stay below 3e-6.
    """
    parameters = FlatParameters(model)
    random = np.random.default_rng(0)
    parameters.w[:] = backend.to_device(random.standard_normal(parameters.w.size))
    parameters.ema[:] = parameters.w
    w = backend.to_numpy(parameters.w).astype(np.float64)
    ema, m, v = w.copy(), np.zeros_like(w), np.zeros_like(w)
    optimizer = OptimizerConfig(lr=1e-2, beta1=0.8, beta2=0.95, weight_decay=0.1, clip=20.0)
    clipped = 0
    for step in range(1, 31):
        g = (random.standard_normal(w.size) * random.uniform(0.1, 3)).astype(np.float32)
        parameters.g[:] = backend.to_device(g * 2)  # as if two parts had been added up
        norm, losses = gradient_norm(parameters, [backend.to_device(np.float32(loss)) for loss in (1.5, 2.5)], parts=2)
        assert losses == [1.5, 2.5]
        assert norm == pytest.approx(np.linalg.norm(g.astype(np.float64)), rel=1e-6)
        lr = learning_rate(optimizer, step, 30)
        update(parameters, optimizer, step, lr, norm, ema_decay(step, 0.9), parts=2)

        exact = g.astype(np.float64)
        if norm > 20:
            exact *= 20 / norm
            clipped += 1
        m = 0.8 * m + 0.2 * exact
        v = 0.95 * v + 0.05 * exact**2
        w[: parameters.n_decay] *= 1 - lr * 0.1
        w -= lr * (m / (1 - 0.8**step)) / (np.sqrt(v / (1 - 0.95**step)) + EPS)
        decay = min(0.9, (1 + step) / (10 + step))
        ema = decay * ema + (1 - decay) * w
    assert 0 < clipped < 30
    assert np.abs(backend.to_numpy(parameters.w) - w).max() < 3e-6
    assert np.abs(backend.to_numpy(parameters.ema) - ema).max() < 3e-6


def test_learning_rate_rises_straight_and_falls_along_a_cosine():
    optimizer = OptimizerConfig(lr=2.0, warmup=10)
    rates = [learning_rate(optimizer, step, 110) for step in range(1, 111)]
    assert rates[:10] == pytest.approx([0.2 * step for step in range(1, 11)])
    assert max(rates) == rates[9] == 2.0
    assert all(after < before for before, after in pairwise(rates[9:]))
    assert rates[59] == pytest.approx(2.0 * (1 + math.cos(math.pi * 50 / 101)) / 2)
    assert 0 < rates[-1] < 1e-3  # the last step still moves


def test_learning_rate_of_the_rise_does_not_need_the_end():
    optimizer = OptimizerConfig(lr=2.0, warmup=10)
    assert learning_rate(optimizer, 10, None) == 2.0
    with pytest.raises(ValueError, match="after the 10 steps of warm-up the last step must be known"):
        learning_rate(optimizer, 11, None)


def test_learning_rate_without_warmup_and_of_one_step():
    assert learning_rate(OptimizerConfig(lr=1.0, warmup=0), 1, 1) == pytest.approx(0.5)
    assert learning_rate(OptimizerConfig(lr=1.0, warmup=100), 1, 1) == 0.01


def test_average_decays_slowly_only_later():
    assert ema_decay(1, 0.999) == 2 / 11
    assert ema_decay(90, 0.999) == 0.91
    assert ema_decay(10**6, 0.999) == 0.999


def test_averaged_weights_go_in_and_out_to_the_bit(model):
    parameters = FlatParameters(model)
    parameters.ema[:] = 0.25
    before = parameters.w.copy()
    with pytest.raises(KeyError), averaged(parameters):
        assert all((p.data == 0.25).all() for p in model.named_parameters().values())
        raise KeyError
    assert np.array_equal(parameters.w, before)
    assert (parameters.ema == 0.25).all()


def test_whether_all_is_finite(model):
    parameters = FlatParameters(model)
    assert parameters.finite()
    for flat in (parameters.w, parameters.m, parameters.v, parameters.ema):
        flat[3] = np.inf
        assert not parameters.finite()
        flat[3] = 0
    assert backend.current().name == "numpy"
