"""Replay: steps of every kind of training and of sampling are replayed, and are those of Python, to the bit."""

import dataclasses
import itertools

import numpy as np
import pytest

from minidiff import backend, ops
from minidiff.autograd import Tensor, no_grad, on_gradient
from minidiff.diffusion.guidance import denoiser
from minidiff.graphed import Graphed
from minidiff.nn import UNet, UNetConfig
from minidiff.nn.module import watching

X = np.linspace(-1, 1, 6, dtype=np.float32)


@pytest.fixture(autouse=True)
def compiled():
    with backend.using("numba"):
        yield


class Counted:
    """A function that counts how often Python runs it."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *arrays):
        self.calls += 1
        return self.function(*arrays)


def test_python_runs_three_times():
    function = Counted(lambda x: (np.exp(x) + 1,))
    replayed = Graphed(function)
    for i in range(6):
        (y,) = replayed(X + i)
        np.testing.assert_array_equal(y, np.exp(X + i) + 1)
    assert function.calls == 3


def test_results_are_not_overwritten_by_the_next_call():
    replayed = Graphed(lambda x: (2 * x,))
    results = [replayed(X + i)[0] for i in range(6)]
    for i, result in enumerate(results):
        np.testing.assert_array_equal(result, 2 * (X + i))


def test_new_shapes_begin_anew_and_none_is_a_shape():
    function = Counted(lambda x, y: (x if y is None else x + y,))
    replayed = Graphed(function)
    for _ in range(5):
        for arrays in ((X, None), (X, X), (X[:3], X[:3])):
            (y,) = replayed(*arrays)
            np.testing.assert_array_equal(y, arrays[0] * (1 if arrays[1] is None else 2))
    assert function.calls == 9


def test_gradients_are_added_by_each_call():
    weight = Tensor(np.ones(6, np.float32), requires_grad=True)
    weight.grad = np.zeros(6, np.float32)
    flat = weight.grad

    def function(x):
        loss = ops.sum(ops.mul(weight, Tensor(x)))
        loss.backward()
        return (loss.data,)

    counted = Counted(function)
    replayed = Graphed(counted, [weight])
    for i in range(6):
        replayed(X)
        np.testing.assert_allclose(flat, (i + 1) * X, rtol=1e-6)
    assert counted.calls == 3
    assert weight.grad is flat


def test_a_gradient_hook_is_called_by_each_call():
    weight, seen = Tensor(np.ones(6, np.float32), requires_grad=True), []
    weight.grad = np.zeros(6, np.float32)

    def function(x):
        loss = ops.sum(ops.mul(weight, Tensor(x)))
        loss.backward()
        return (loss.data,)

    replayed = Graphed(function, [weight])
    for _ in range(6):
        replayed(X)
    assert not seen
    for i in range(6):
        with on_gradient(seen.append):
            replayed(X)
        assert seen == [weight] * (i + 1)


COUNT = itertools.count(1)
REFUSED = {
    "asks for a number": lambda x: (x * float(x.sum()),),
    "is not always the same": lambda x: (x * next(COUNT),),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_replayed_runs_in_python_and_is_told_once(name, capsys):
    replayed = Graphed(REFUSED[name])
    results = [float(replayed(X)[0].sum()) for _ in range(5)]
    exact = [float((X * X.sum()).sum())] * 5 if "number" in name else [float((X * (i + 1)).sum()) for i in range(5)]
    np.testing.assert_allclose(results, exact, atol=1e-6)
    assert (
        capsys.readouterr().err.count("note     nothing is replayed, which is slower and gives the same result: ") == 1
    )


def test_a_graph_that_gives_other_numbers_is_found(capsys, monkeypatch):
    class Wrong(backend.current().Graph):
        def replay(self, performing=True):
            super().replay(performing)
            self.outputs[0][0] += 1

    monkeypatch.setattr(backend, "_stack", [dataclasses.replace(backend.current(), Graph=Wrong)])
    replayed = Graphed(lambda x: (x + 1,))
    for _ in range(4):
        np.testing.assert_array_equal(replayed(X)[0], X + 1)
    assert "it gave other numbers" in capsys.readouterr().err


def test_while_somebody_watches_python_runs():
    function = Counted(lambda x: (x + 1,))
    replayed = Graphed(function)
    for _ in range(5):
        replayed(X)
    with watching():
        replayed(X)
    assert function.calls == 4


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_sampling_is_replayed(name):
    config = UNetConfig(height=8, width=8, channels=3, model_channels=8, channel_mult=(1, 2), heads=2, classes=3)
    with backend.using(name):
        model, x = UNet(config), np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
        model.initialize(0)
        for parameter in model.named_parameters().values():
            parameter.data += np.float32(0.05)
        predict = denoiser(model, np.array([0, 2]), 2.0)
        for t in (900.0, 700.0, 500.0, 300.0, 100.0):
            with no_grad():
                cond = model.condition(4, np.array([0, 2, 3, 3]))
                both = model(np.concatenate([x, x]), np.full(4, t, np.float32), cond).data
            np.testing.assert_array_equal(predict(x, t), both[2:] + 2.0 * (both[:2] - both[2:]))


def test_weights_that_have_moved_are_noticed():
    weight = Tensor(np.ones(6, np.float32))
    replayed = Graphed(lambda x: (ops.mul(weight, Tensor(x)).data,), [weight])
    for _ in range(5):
        replayed(X)
    weight.data = np.full(6, 3, np.float32)
    np.testing.assert_array_equal(replayed(X)[0], 3 * X)


def test_a_mistake_of_the_function_is_its_own(capsys):
    fail = []

    def function(x):
        if fail:
            raise ValueError("its own")
        return (x + 1,)

    replayed = Graphed(function)
    replayed(X)
    fail.append(True)
    with pytest.raises(ValueError, match="its own"):
        replayed(X)
    assert capsys.readouterr().err == ""


def test_nothing_is_printed_where_all_is_well(capsys):
    replayed = Graphed(lambda x: (x + 1,))
    for _ in range(5):
        replayed(X)
    assert capsys.readouterr().err == ""
