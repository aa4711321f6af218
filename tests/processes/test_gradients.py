"""Gradients are added up over parts and processes, and complete pieces leave before the backward pass has ended."""

import numpy as np
import pytest

from minidiff import backend, ops
from minidiff.autograd import Tensor, on_gradient
from minidiff.errors import MinidiffError
from minidiff.nn import Linear, Module
from minidiff.nn.flat_parameters import FlatParameters
from minidiff.processes import gradients
from minidiff.processes.gradients import GradientSum
from minidiff.processes.report import SLICES, Report, share
from minidiff.processes.world import ALONE, World
from tests.processes.threads_as_processes import in_threads


class Layers(Module):
    def __init__(self, count):
        self.layers = [Linear(8, 8) for _ in range(count)]

    def forward(self, x):
        for layer in self.layers:
            x = ops.silu(layer(x))
        return x


class Twin(World):
    """A world of two in which the other process has computed the same."""

    size = 2

    def __init__(self):
        self.started = []

    def exchange(self, peer, give, take, tag):
        self.started.append(tag)
        take[:] = 1
        return lambda: True

    def wait(self, done):
        assert done()


@pytest.fixture
def model():
    with backend.using("numpy"):
        made = Layers(6).initialize(0)
        yield made, FlatParameters(made)


def loss_of(model, seed=0, rows=2):
    x = np.random.default_rng(seed).standard_normal((rows, 8), np.float32)
    return ops.mean(ops.square(model(Tensor(x))))


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 6])
def test_alone_it_is_the_sum_over_the_parts(model, parts):
    model, flat = model
    expected = np.zeros_like(flat.g)
    for part in range(parts):
        flat.g[:] = 0
        loss_of(model, part).backward()
        expected += flat.g
    total = GradientSum(flat, ALONE, parts)
    for _ in range(2):  # nothing is left of the batch before
        total.clear()
        for part in range(parts):
            with total.adding():
                loss_of(model, part).backward()
        total.finish()
        np.testing.assert_allclose(flat.g, expected, rtol=1e-5, atol=1e-7)


def test_pieces_leave_during_the_backward_pass(model, monkeypatch):
    monkeypatch.setattr(gradients, "PIECE", 64)
    model, flat = model
    for early in (True, False):
        world = Twin()
        total = GradientSum(flat, world, 2, early)
        total.clear()
        with total.adding():
            loss_of(model).backward()
        pieces = len(total.pieces)
        assert pieces == 7  # six matrices, and the biases
        assert len(world.started) == (2 * pieces if early else 0)
        total.finish()
        assert sorted(world.started) == sorted(2 * list(range(pieces)))
        if early:  # the matrix of the last layer first
            assert [tag for tag in world.started[::2] if tag < 6] == [5, 4, 3, 2, 1, 0]


def test_a_parameter_without_a_gradient_is_sent_at_the_end(model):
    model, flat = model
    total = GradientSum(flat, Twin(), 2)
    total.clear()
    with total.adding():
        ops.mean(model.layers[0](Tensor(np.ones((1, 8), np.float32)))).backward()
    total.finish()
    assert all(piece.sum is not None for piece in total.pieces) and not total.running


def test_a_leaf_reports_once_when_all_its_uses_have_added():
    a, b = (Tensor(np.full(3, value), requires_grad=True) for value in (2.0, 3.0))
    seen = []
    with on_gradient(lambda leaf: seen.append((leaf, leaf.grad.copy()))):
        ops.sum(a * b * a + a).backward()
    assert [leaf for leaf, _ in seen] in ([a, b], [b, a])
    for leaf, gradient in seen:
        np.testing.assert_array_equal(gradient, {id(a): 2 * 2.0 * 3.0 + 1, id(b): 4.0}[id(leaf)])


def test_processes_tell_each_other_losses_signals_and_different_weights():
    w = np.arange(1000, dtype=np.float32)
    reports = in_threads(3, lambda world: share(world, Report([world.rank, 0.5], 2 * (world.rank == 1)), w, 7))
    assert reports == [[Report([float(k), 0.5], 2 * (k == 1)) for k in range(3)]] * 3

    def run(world):
        own = w.copy()
        own[-1] += world.rank == 2
        for step in range(SLICES):
            share(world, Report([0.0], 0), own, step)

    with pytest.raises(MinidiffError, match="the weights of process 2 are not those of process 0"):
        in_threads(3, run)
