"""Group normalisation with SiLU at the shapes of a U-Net, forward and backward."""

import pytest
from conftest import float32, float64

from minidiff.kernels.norm import reference

SHAPES = [(32, 32, 32, 32), (32, 32, 32, 64), (32, 16, 16, 128), (32, 8, 8, 128), (1, 32, 32, 64)]
GROUPS, EPS, SILU = 8, 1e-5, True


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_group_norm(table, measure, shape):
    x, scale, shift = float32(*shape), float32(shape[0], shape[3]), float32(shape[0], shape[3], seed=1)
    exact = reference.group_norm(*float64(x, scale, shift), GROUPS, EPS, SILU)
    measure(f"group_norm silu {shape}", lambda: table.group_norm(x, scale, shift, GROUPS, EPS, SILU)[0], exact[0])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_group_norm_grad(table, measure, shape):
    x, scale, shift = float32(*shape), float32(shape[0], shape[3]), float32(shape[0], shape[3], seed=1)
    gy = float32(*shape, seed=2)
    _, mean, rstd = reference.group_norm(x, scale, shift, GROUPS, EPS, SILU)
    arguments = (gy, x, scale, shift, mean, rstd)
    exact = reference.group_norm_grad(*float64(*arguments), GROUPS, SILU)
    measure(f"group_norm_grad silu {shape}", lambda: table.group_norm_grad(*arguments, GROUPS, SILU), exact)
