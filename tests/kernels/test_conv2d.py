"""Convolution against loops over pixels, SciPy's correlation, and the identity that ties its three functions."""

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

# (N, H, W, C_in, C_out, KH, KW): odd, ragged, one pixel, one channel, wider than it is high
SHAPES = [
    (2, 5, 7, 3, 4, 3, 3),
    (1, 1, 1, 1, 1, 3, 3),
    (3, 1, 1, 5, 2, 3, 3),
    (2, 6, 5, 1, 8, 3, 3),
    (1, 2, 9, 17, 1, 3, 3),
    (2, 4, 3, 6, 7, 1, 1),
    (1, 7, 4, 2, 3, 5, 5),
    (1, 6, 5, 2, 3, 1, 3),
]


def loops(x, w, b, stride):
    """`conv2d` as its definition reads, in float64."""
    x, w = x.astype(np.float64), w.astype(np.float64)
    N, H, W, _ = x.shape
    KH, KW, _, C_out = w.shape
    y = np.zeros((N, -(-H // stride), -(-W // stride), C_out))
    for n, i, j in np.ndindex(y.shape[:3]):
        for kh in range(KH):
            for kw in range(KW):
                h, v = i * stride + kh - KH // 2, j * stride + kw - KW // 2
                if 0 <= h < H and 0 <= v < W:
                    y[n, i, j] += x[n, h, v] @ w[kh, kw]
    return y if b is None else y + b.astype(np.float64)


def loops_grad(gy, x, w, stride):
    """Both gradients by the same loops, run backwards, in float64."""
    gy, x, w = gy.astype(np.float64), x.astype(np.float64), w.astype(np.float64)
    _, H, W, _ = x.shape
    KH, KW, _, _ = w.shape
    gx, gw = np.zeros(x.shape), np.zeros(w.shape)
    for n, i, j in np.ndindex(gy.shape[:3]):
        for kh in range(KH):
            for kw in range(KW):
                h, v = i * stride + kh - KH // 2, j * stride + kw - KW // 2
                if 0 <= h < H and 0 <= v < W:
                    gx[n, h, v] += w[kh, kw] @ gy[n, i, j]
                    gw[kh, kw] += np.outer(x[n, h, v], gy[n, i, j])
    return gx, gw


def problem(version, N, H, W, C_in, C_out, KH, KW, stride):
    x, w, b = version.array(N, H, W, C_in), version.array(KH, KW, C_in, C_out), version.array(C_out)
    return x, w, b, version.array(N, -(-H // stride), -(-W // stride), C_out, seed=1)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_loops(version, error, poison, shape, stride):
    x, w, b, gy = problem(version, *shape, stride)
    version.conv2d(x, w, b, stride)  # Numba compiles before np.empty is replaced
    version.conv2d_grad_x(gy, w, x.shape, stride)
    version.conv2d_grad_w(gy, x, w.shape, stride)
    poison()
    exact_gx, exact_gw = loops_grad(gy, x, w, stride)
    results = {
        "y": (version.conv2d(x, w, b, stride), loops(x, w, b, stride)),
        "y without b": (version.conv2d(x, w, None, stride), loops(x, w, None, stride)),
        "gx": (version.conv2d_grad_x(gy, w, x.shape, stride), exact_gx),
        "gw": (version.conv2d_grad_w(gy, x, w.shape, stride), exact_gw),
    }
    for name, (actual, exact) in results.items():
        assert actual.dtype == version.dtype and actual.flags.c_contiguous, name
        assert error(actual, exact) < version.bound, name


@pytest.mark.parametrize("stride", [1, 2])
def test_many_blocks_equal_scipy(version, error, stride):
    """2 x 37 x 41 pixels: several blocks and both threads, with a ragged last block."""
    x, w, _, gy = problem(version, 2, 37, 41, 16, 20, 3, 3, stride)
    exact = np.zeros((2, 37, 41, 20))
    for n, o, i in np.ndindex(2, 20, 16):
        exact[n, :, :, o] += scipy.signal.correlate(x[n, :, :, i].astype(float), w[:, :, i, o].astype(float), "same")
    y = version.conv2d(x, w, None, stride)
    assert error(y, exact[:, ::stride, ::stride]) < version.bound
    # The gradients have no SciPy twin; conv2d is linear in x and in w, so <gy, y> = <gx, x> = <gw, w>.
    gx, gw = version.conv2d_grad_x(gy, w, x.shape, stride), version.conv2d_grad_w(gy, x, w.shape, stride)
    inner = float(np.vdot(gy.astype(float), exact[:, ::stride, ::stride]))
    size = np.linalg.norm(gy) * np.linalg.norm(y)  # the error is relative to this: the inner product may be near 0
    assert abs(np.vdot(gx.astype(float), x) - inner) < version.bound * size
    assert abs(np.vdot(gw.astype(float), w) - inner) < version.bound * size


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    N=st.integers(1, 3),
    H=st.integers(1, 9),
    W=st.integers(1, 9),
    C_in=st.integers(1, 5),
    C_out=st.integers(1, 5),
    K=st.sampled_from([1, 3]),
    stride=st.sampled_from([1, 2]),
)
def test_any_shape(version, error, N, H, W, C_in, C_out, K, stride):
    x, w, b, gy = problem(version, N, H, W, C_in, C_out, K, K, stride)
    gx, gw = loops_grad(gy, x, w, stride)
    scale = max(1.0, np.abs(gx).max(), np.abs(gw).max())  # so few terms may cancel that "largest" says nothing
    assert np.abs(version.conv2d(x, w, b, stride) - loops(x, w, b, stride)).max() < version.bound * scale
    assert np.abs(version.conv2d_grad_x(gy, w, x.shape, stride) - gx).max() < version.bound * scale
    assert np.abs(version.conv2d_grad_w(gy, x, w.shape, stride) - gw).max() < version.bound * scale


def test_takes_non_contiguous_arrays(version):
    x, w, b, gy = problem(version, 2, 6, 5, 4, 3, 3, 3, 1)
    x_view, w_view = np.asfortranarray(x), np.repeat(w, 2, axis=3)[..., ::2]
    b_view, gy_view = np.repeat(b, 2)[::2], gy[:, ::-1].copy()[:, ::-1]
    assert np.array_equal(version.conv2d(x_view, w_view, b_view), version.conv2d(x, w, b))
    assert np.array_equal(version.conv2d_grad_x(gy_view, w_view, x.shape), version.conv2d_grad_x(gy, w, x.shape))
    np.testing.assert_allclose(  # the reference may add in another order then
        version.conv2d_grad_w(gy_view, x_view, w.shape), version.conv2d_grad_w(gy, x, w.shape), rtol=1e-4, atol=1e-5
    )


def test_same_bits_every_time(version):
    x, w, b, gy = problem(version, 2, 37, 41, 16, 20, 3, 3, 1)
    for f in (
        lambda: version.conv2d(x, w, b),
        lambda: version.conv2d_grad_x(gy, w, x.shape),
        lambda: version.conv2d_grad_w(gy, x, w.shape),
    ):
        assert f().tobytes() == f().tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy says so too
def test_what_is_not_finite_shows(version, bad):
    x, w, b, gy = problem(version, 2, 6, 5, 4, 3, 3, 3, 1)
    x[1, 3, 2, 0] = gy[1, 3, 2, 0] = bad
    assert not np.isfinite(version.conv2d(x, w, b)[1, 3, 2]).any()
    assert not np.isfinite(version.conv2d_grad_x(gy, w, x.shape)[1, 3, 2]).any()
    assert not np.isfinite(version.conv2d_grad_w(gy, x, w.shape)[1, 1, 0, 0])


def test_leaves_its_inputs_alone(version):
    x, w, b, gy = problem(version, 2, 6, 5, 4, 3, 3, 3, 1)
    before = [a.copy() for a in (x, w, b, gy)]
    version.conv2d(x, w, b)
    version.conv2d_grad_x(gy, w, x.shape)
    version.conv2d_grad_w(gy, x, w.shape)
    assert all(np.array_equal(a, old) for a, old in zip((x, w, b, gy), before))


@pytest.mark.parametrize(
    ("shapes", "stride", "message"),
    [
        (((1, 4, 4, 3), (3, 3, 16, 8), None), 1, "conv2d: x has 3 channels, w expects 16"),
        (((4, 4, 3), (3, 3, 3, 8), None), 1, r"conv2d: x must be (N, H, W, C_in), got shape (4, 4, 3)"),
        (((1, 4, 4, 3), (3, 3, 3), None), 1, r"conv2d: w must be (KH, KW, C_in, C_out), got shape (3, 3, 3)"),
        (((1, 4, 4, 3), (2, 3, 3, 8), None), 1, "conv2d: filter sizes must be odd, got 2x3"),
        (((1, 4, 4, 3), (3, 3, 3, 8), (7,)), 1, "conv2d: b must be (8,), got shape (7,)"),
        (((1, 4, 4, 3), (3, 3, 3, 8), None), 3, "conv2d: stride must be 1 or 2, got 3"),
    ],
)
def test_says_what_does_not_fit(version, shapes, stride, message):
    x, w, b = (None if shape is None else version.array(*shape) for shape in shapes)
    with pytest.raises(ValueError) as raised:
        version.conv2d(x, w, b, stride)
    assert str(raised.value) == message


def test_gradients_say_what_does_not_fit(version):
    gy, w = version.array(1, 2, 2, 8), version.array(3, 3, 3, 8)
    with pytest.raises(ValueError, match=r"^conv2d_grad_x: gy must be \(1, 4, 4, 8\), got shape \(1, 2, 2, 8\)$"):
        version.conv2d_grad_x(gy, w, (1, 4, 4, 3))
    with pytest.raises(ValueError, match=r"^conv2d_grad_w: gy must be \(1, 4, 4, 8\), got shape \(1, 2, 2, 8\)$"):
        version.conv2d_grad_w(gy, version.array(1, 4, 4, 3), w.shape)
