"""Values of the operations against NumPy and SciPy; their derivatives are gradcheck's."""

import numpy as np
import pytest
import scipy.special

from minidiff import backend, ops
from minidiff.autograd import Tensor

rng = np.random.default_rng(0)


def test_silu_is_right_and_does_not_overflow():
    x = np.array([-1e4, -800.0, -3.0, 0.0, 2.0, 800.0, 1e4], np.float32)
    y = ops.silu(Tensor(x)).data
    np.testing.assert_allclose(y, x * scipy.special.expit(x.astype(np.float64)), rtol=2e-6, atol=1e-6)


def test_cross_entropy_against_scipy_and_far_logits():
    logits = np.concatenate([rng.standard_normal((5, 7)), 1e4 * rng.standard_normal((2, 7))])
    labels = rng.integers(0, 7, len(logits))
    expected = -scipy.special.log_softmax(logits, axis=1)[np.arange(len(logits)), labels].mean()
    assert ops.cross_entropy(Tensor(logits), labels).item() == pytest.approx(expected, rel=1e-12)


def test_mean_and_sum_over_axes():
    x = rng.standard_normal((2, 3, 4))
    np.testing.assert_allclose(ops.mean(Tensor(x), (0, 2)).data, x.mean((0, 2)), rtol=1e-14)
    assert ops.sum(Tensor(x)).item() == pytest.approx(x.sum(), rel=1e-13)


def test_linear_over_any_leading_axes():
    x, w, b = rng.standard_normal((2, 3, 4)), rng.standard_normal((4, 5)), rng.standard_normal(5)
    with backend.using("numpy"):  # in float64
        np.testing.assert_allclose(ops.linear(Tensor(x), Tensor(w), Tensor(b)).data, x @ w + b, rtol=1e-13)


def test_errors_name_both_sides():
    with pytest.raises(ValueError, match="linear: x has 3 channels, w expects 4"):
        ops.linear(Tensor(np.zeros((2, 3))), Tensor(np.zeros((4, 5))))
    with pytest.raises(ValueError, match=r"embedding: index must be in \[0, 4\), got 1 to 4"):
        ops.embedding(Tensor(np.zeros((4, 2))), np.array([1, 4]))
    with pytest.raises(ValueError, match="3 channels"):
        ops.conv2d(Tensor(np.zeros((1, 4, 4, 3), np.float32)), Tensor(np.zeros((3, 3, 16, 2), np.float32)))


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_on_the_tape(every_backend, stride):
    """Gradients reach x, w and b with the right shapes, also from a gradient that is not contiguous."""
    arrays = (rng.standard_normal(s).astype(np.float32) for s in [(2, 5, 7, 3), (3, 3, 3, 4), (4,)])
    x, w, b = (Tensor(backend.to_device(array), requires_grad=True) for array in arrays)
    y = ops.conv2d(x, w, b, stride)
    ops.sum(ops.transpose(y, (0, 2, 1, 3)) * 2.0).backward()
    for tensor in (x, w, b):
        assert tensor.grad.shape == tensor.shape and tensor.grad.dtype == np.float32
    np.testing.assert_allclose(backend.to_numpy(b.grad), np.full(4, 2 * y.data[..., 0].size), rtol=1e-6)
