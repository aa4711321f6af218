"""The tape: what it records, how it walks, what it refuses."""

import weakref

import numpy as np
import pytest

from minidiff import backend, ops
from minidiff.autograd import Tensor, no_grad, unbroadcast


def leaf(*shape, seed=0):
    return Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


def test_a_value_used_twice_gets_both_gradients():
    x = leaf(3)
    ops.sum(x * x + x).backward()
    np.testing.assert_allclose(x.grad, 2 * x.data + 1, rtol=1e-15)


def test_gradients_add_up_over_walks_and_in_place():
    x = leaf(3)
    x.grad = memory = np.zeros(3)
    for _ in range(2):
        ops.sum(x * 3.0).backward()
    assert x.grad is memory
    np.testing.assert_array_equal(memory, [6, 6, 6])


def test_two_inputs_that_share_a_gradient_do_not_share_memory():
    a, b = leaf(3), leaf(3, seed=1)
    ops.sum(a + b).backward()
    a.grad += 1
    np.testing.assert_array_equal(b.grad, np.ones(3))


@pytest.mark.parametrize("shape", [(), (5,), (1, 5), (3, 1), (4, 1, 1), (1, 1, 1)])
def test_broadcasting_is_undone(shape):
    x, big = leaf(*shape), leaf(4, 3, 5, seed=1)
    ops.sum(x * big).backward()
    assert x.grad.shape == shape
    np.testing.assert_allclose(x.grad, unbroadcast(big.data, shape), rtol=1e-12)
    assert x.grad.sum() == pytest.approx(big.data.sum(), rel=1e-12)  # nothing is lost on the way


def test_deep_tapes_do_not_recurse():
    x = y = leaf(1)
    for _ in range(20_000):
        y = y + 1.0
    ops.sum(y).backward()
    assert x.grad == [1.0]


def test_diamonds_are_walked_once():
    """2**60 paths from end to start: a walk by paths would never end."""
    x = y = leaf(1)
    for _ in range(60):
        y = y * 0.5 + y * 0.5
    ops.sum(y).backward()
    np.testing.assert_allclose(x.grad, [1.0], rtol=1e-12)


def test_no_grad_records_nothing():
    x = leaf(3)
    with no_grad():
        y = ops.sum(x * x)
    assert not y.requires_grad
    with pytest.raises(ValueError, match="nothing was recorded"):
        y.backward()
    assert ops.sum(x * x).requires_grad


def test_no_grad_inside_no_grad_ends_with_the_outer_one():
    x = leaf(3)
    with no_grad():
        with no_grad():
            pass
        assert not (x * x).requires_grad
    assert (x * x).requires_grad


def test_no_grad_ends_with_an_error_inside():
    x = leaf(3)
    with pytest.raises(RuntimeError), no_grad():
        raise RuntimeError
    assert (x * x).requires_grad


def test_the_tape_is_freed_as_it_is_walked():
    x = leaf(1000)
    middle = x * 2.0
    alive = weakref.ref(middle)
    loss = ops.sum(middle * middle)
    del middle
    assert alive() is not None
    loss.backward()
    assert alive() is None  # though the loss itself is still here
    assert loss.item() == pytest.approx(4 * float((x.data**2).sum()))


def test_a_second_walk_is_refused_by_a_fused_sum_too():
    with backend.using("numpy"):
        y = ops.conv2d(leaf(1, 3, 3, 2), leaf(3, 3, 2, 2))
        ops.sum(y).backward()
        with pytest.raises(ValueError, match="this tape was walked before"):
            ops.sum(y).backward()


def test_a_second_walk_is_refused():
    x = leaf(3)
    loss = ops.sum(x * x)
    loss.backward()
    with pytest.raises(ValueError, match="this tape was walked before"):
        loss.backward()
    shared = x * x
    first, second = ops.sum(shared), ops.sum(shared)
    first.backward()
    with pytest.raises(ValueError, match="walked before"):
        second.backward()


def test_only_numbers_have_gradients():
    with pytest.raises(ValueError, match=r"expected a single number, got shape \(3,\)"):
        (leaf(3) * 2.0).backward()


def test_plain_numbers_keep_float32():
    x = Tensor(np.ones(3, np.float32), requires_grad=True)
    for y in (x + 1, 1.0 - x, x * 0.5, 2 / x, x / 3, np.float64(2.0) * x):
        assert y.dtype == np.float32, y
    ops.mean(x * 2.0).backward()
    assert x.grad.dtype == np.float32


def test_operators_read_like_arithmetic():
    x = Tensor(np.array([2.0, 4.0]))
    y = Tensor(np.array([1.0, 2.0]))
    np.testing.assert_array_equal((1 - x).data, [-1, -3])
    np.testing.assert_array_equal((8 / x).data, [4, 2])
    np.testing.assert_array_equal((-x + y * 3.0).data, [1, 2])
    np.testing.assert_array_equal((x.reshape((1, 2)) @ y.reshape((2, 1))).data, [[10.0]])
    np.testing.assert_array_equal((np.ones(2) + x).data, [3, 5])
    assert "Tensor" in repr(x)


@pytest.mark.parametrize("uses", [1, 2, 3])
def test_a_gradient_that_is_added_to_on_the_way(every_backend, uses):
    """A convolution's input that is used elsewhere too, before and after it, and as what the convolution adds to."""
    rng = np.random.default_rng(0)
    dtype = np.float64 if every_backend.name == "numpy" else np.float32
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in ((2, 12, 12, 16), (3, 3, 16, 16)))

    def loss(x):
        filters, one, nothing = (Tensor(backend.to_device(a)) for a in (w, np.ones(16, dtype), np.zeros(16, dtype)))
        y = x * 2.0 if uses > 1 else Tensor(backend.current().xp.zeros_like(x.data))
        y = y + ops.norm_silu_conv2d(x, one, nothing, 4, 1e-5, filters, nothing, add=x)
        y = y + ops.conv2d(x, filters)
        return ops.mean(ops.square(y + x if uses > 2 else y))

    tensor = Tensor(backend.to_device(x), requires_grad=True)
    loss(tensor).backward()
    direction = rng.standard_normal(x.shape).astype(dtype)
    with backend.using("numpy"):
        steps = [loss(Tensor(x.astype(np.float64) + h * direction)).item() for h in (1e-5, -1e-5)]
    expected = (steps[0] - steps[1]) / 2e-5
    assert (backend.to_numpy(tensor.grad) * direction).sum() == pytest.approx(
        expected, rel=1e-6 if dtype == np.float64 else 1e-3
    )
