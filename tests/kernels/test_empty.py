"""No pictures, no rows, no columns, no channels: every version gives what the reference gives."""

import itertools

import numpy as np
import pytest

from minidiff import backend

KEY = 1, 2, 3
SIZES = [sizes for sizes in itertools.product((0, 2), (0, 3), (0, 3), (0, 4), (0, 6)) if sizes.count(0) in (1, 5)]

pytestmark = pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value", "ignore:divide by zero")


def draw(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def convolutions():
    for (N, H, W, C, O), (kernel, stride, upsample) in itertools.product(
        SIZES, ((3, 1, False), (3, 2, False), (1, 1, False), (3, 1, True))
    ):
        x, w, how = draw(N, H, W, C), draw(kernel, kernel, C, O), (stride, upsample)
        gy = draw(N, *((2 * H, 2 * W) if upsample else (-(-H // stride), -(-W // stride))), O)
        yield "conv2d", (x, w, draw(O), *how)
        yield "conv2d", (x, w, None, *how)
        yield "conv2d_grad_x", (gy, w, x.shape, *how)
        yield "conv2d_grad_x", (gy, w, x.shape, *how, draw(*x.shape))
        yield "conv2d_grad_w", (gy, x, w.shape, *how)
        yield "conv2d_grad_b", (gy,)


def norms():
    for (N, H, W, C, O), for_each in itertools.product(SIZES, (False, True)):
        x, gy, w, b = draw(N, H, W, C), draw(N, H, W, O), draw(3, 3, C, O), draw(*((N, O) if for_each else (O,)))
        scale, shift = draw(2, *((N, C) if for_each else (C,)))
        mean, rstd = draw(2, N, 2)
        for add in (None, draw(*x.shape)):
            yield "norm_silu_conv2d_grad", (gy, x, scale, shift, mean, rstd, 2, w, add)
            yield "group_norm_grad", (x, x, scale, shift, mean, rstd, 2, True, add)
        for add in (None, gy):
            yield "norm_silu_conv2d", (x, scale, shift, 2, 1e-5, w, b, add)
        yield "group_norm", (x, scale, shift, 2, 1e-5, False)


def others():
    for N, L in ((0, 3), (2, 0), (0, 0)):
        q, k = draw(N, L, 4), draw(N, 5, 4)
        yield "attention", (q, k, k, 2)
        yield "attention_grad", (q, q, k, k, draw(N, 2, L, 5), 2)
    for N, n in ((0, 7), (2, 0), (0, 0)):
        x, samples = draw(N, n), np.arange(N)
        for name in ("random_bits", "uniform", "normal"):
            yield name, (KEY, samples, n)
        yield "add_noise", (x, draw(N), draw(N), KEY, samples)
        yield "sampler_update", (x, x, x, np.array([1.0, 2, 3, 4]), KEY, samples)
        yield "sampler_update", (x, x, None, np.array([1.0, 2, 0, 0]), KEY, samples)
        yield "add", (x, x)
        yield "concat", (x, draw(N, 3))
        yield "concat", (draw(N, 3), x)
        yield "split", (x, 0)
    yield "split", (draw(2, 7), 0)
    yield "split", (draw(2, 7), 7)
    yield "square_sum", (draw(0),)


@pytest.mark.parametrize("calls", [convolutions, norms, others])
def test_as_the_reference_has_it(version, calls):
    reference = backend.get("numpy")
    for name, given in calls():
        found, exact = getattr(version, name)(*given), getattr(reference, name)(*given)
        for one, other in zip(found, exact, strict=True) if isinstance(exact, tuple) else [(found, exact)]:
            shapes = [a.shape if isinstance(a, np.ndarray) else a for a in given]
            assert np.shape(one) == np.shape(other), (name, shapes)
            assert np.allclose(one, other, rtol=1e-5, atol=1e-5, equal_nan=True), (name, shapes)


def test_an_optimiser_without_weights(version):
    nothing = [np.empty(0, version.dtype) for _ in range(5)]
    version.adamw_ema(*nothing, 0, np.ones(9))


@pytest.mark.parametrize(("keys", "channels"), [(0, 4), (5, 0)])
def test_a_query_has_something_to_look_at(version, keys, channels):
    q, k = version.array(2, 3, channels), version.array(2, keys, channels)
    said = rf"^attention: a query needs channels and at least one key, k has shape \(2, {keys}, {channels}\)$"
    with pytest.raises(ValueError, match=said):
        version.attention(q, k, k, 2)
