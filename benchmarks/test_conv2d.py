"""Convolution at the shapes of a U-Net with 32, 64 and 128 channels: output, gradient of x, gradient of w."""

import pytest
from conftest import float32, float64

from minidiff.kernels.conv2d import reference

# (N, H = W, C_in, C_out, filter size, stride)
SHAPES = [
    (32, 32, 32, 32, 3, 1),
    (32, 32, 64, 64, 3, 1),
    (32, 32, 128, 64, 3, 1),
    (32, 16, 128, 128, 3, 1),
    (32, 8, 128, 128, 3, 1),
    (32, 32, 3, 64, 3, 1),
    (32, 32, 64, 3, 3, 1),
    (32, 32, 64, 64, 3, 2),
    (32, 32, 128, 64, 1, 1),
    (1, 8, 128, 128, 3, 1),
]


def problem(N, H, C_in, C_out, K, stride):
    x, w = float32(N, H, H, C_in), float32(K, K, C_in, C_out)
    gy = float32(N, -(-H // stride), -(-H // stride), C_out)
    return x, w, gy, 2 * gy.size * w[..., 0].size, f"{N}x{H}x{H} {C_in}->{C_out} {K}x{K} /{stride}"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_conv2d(table, measure, shape):
    x, w, _, operations, name = problem(*shape)
    exact = reference.conv2d(*float64(x, w), stride=shape[-1])
    measure(f"conv2d {name}", lambda: table.conv2d(x, w, None, shape[-1]), exact, operations)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_conv2d_grad_x(table, measure, shape):
    x, w, gy, operations, name = problem(*shape)
    exact = reference.conv2d_grad_x(*float64(gy, w), x.shape, shape[-1])
    measure(f"conv2d_grad_x {name}", lambda: table.conv2d_grad_x(gy, w, x.shape, shape[-1]), exact, operations)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_conv2d_grad_w(table, measure, shape):
    x, w, gy, operations, name = problem(*shape)
    exact = reference.conv2d_grad_w(*float64(gy, x), w.shape, shape[-1])
    measure(f"conv2d_grad_w {name}", lambda: table.conv2d_grad_w(gy, x, w.shape, shape[-1]), exact, operations)
