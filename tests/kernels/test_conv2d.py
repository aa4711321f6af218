"""Convolution against loops over pixels, SciPy's correlation, and the identity that ties its three functions.

Small shapes first, which Numba convolves by implicit GEMM; then those that it convolves by Winograd's algorithm, and
images at twice their size.
"""

from functools import partial

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff.kernels.conv2d import (
    implicit_gemm,
    numba_cpu,
    reference,
    winograd,
    winograd_backward_filter,
    winograd_forward,
    winograd_transforms,
)

# (N, H, W, C_in, C_out, KH, KW): odd, ragged, one pixel, one channel, wider than it is high
SHAPES = [
    (2, 5, 7, 3, 4, 3, 3),
    (1, 1, 1, 1, 1, 3, 3),
    (3, 1, 1, 5, 2, 3, 3),
    (2, 6, 5, 1, 8, 3, 3),
    (1, 2, 9, 17, 1, 3, 3),
    (2, 4, 3, 6, 7, 1, 1),
    (2, 40, 33, 40, 41, 1, 1),  # too large for BLAS
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
    bound = version.winograd_bound if stride == 1 else version.bound
    y = version.conv2d(x, w, None, stride)
    assert error(y, exact[:, ::stride, ::stride]) < bound
    # The gradients have no SciPy twin; conv2d is linear in x and in w, so <gy, y> = <gx, x> = <gw, w>.
    gx, gw = version.conv2d_grad_x(gy, w, x.shape, stride), version.conv2d_grad_w(gy, x, w.shape, stride)
    inner = float(np.vdot(gy.astype(float), exact[:, ::stride, ::stride]))
    size = np.linalg.norm(gy) * np.linalg.norm(y)  # the error is relative to this: the inner product may be near 0
    assert abs(np.vdot(gx.astype(float), x) - inner) < bound * size
    assert abs(np.vdot(gw.astype(float), w) - inner) < bound * size


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
        (((4, 8, 8, 3), (3, 3, 16, 8), None), 1, "conv2d: x has 3 channels, w expects 16"),
        (((4, 8, 8, 3), (3, 3, 3, 8), (1, 8)), 1, "conv2d: b must be (8,), got shape (1, 8)"),
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
    with pytest.raises(ValueError, match=r"^conv2d_grad_x: gy must be \(1, 8, 8, 8\), got shape \(1, 4, 4, 8\)$"):
        version.conv2d_grad_x(version.array(1, 4, 4, 8), w, (1, 4, 4, 3), upsample=True)
    for call in (
        lambda: version.conv2d(version.array(1, 4, 4, 3), w, None, 2, upsample=True),
        lambda: version.conv2d_grad_x(gy, w, (1, 4, 4, 3), 2, upsample=True),
        lambda: version.conv2d_grad_w(gy, version.array(1, 4, 4, 3), w.shape, 2, upsample=True),
    ):
        with pytest.raises(ValueError, match=r"^conv2d(_grad_[xw])?: upsample needs stride 1, got 2$"):
            call()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [(3, 4), (3, 9), (16, 3), (16, 16)], ids=str)
@pytest.mark.parametrize("size", [(0, 8, 8), (2, 0, 8), (2, 8, 0)], ids=str)
def test_nothing_to_convolve(version, size, channels, stride):
    """As the reference has it: no pictures, or none with pixels, convolve to such; the filter's gradient is 0."""
    for K in (1, 3):
        x, w, b, gy = problem(version, *size, *channels, K, K, stride)
        assert version.conv2d(x, w, b, stride).shape == gy.shape
        assert version.conv2d_grad_x(gy, w, x.shape, stride).shape == x.shape
        assert np.array_equal(version.conv2d_grad_w(gy, x, w.shape, stride), np.zeros(w.shape))
        if stride == 1:
            large = version.conv2d(x, w, b, upsample=True)
            assert large.shape == (size[0], 2 * size[1], 2 * size[2], channels[1])
            assert version.conv2d_grad_x(large, w, x.shape, upsample=True).shape == x.shape
            assert np.array_equal(version.conv2d_grad_w(large, x, w.shape, upsample=True), np.zeros(w.shape))


# ---- Winograd -------------------------------------------------------------------------------------------------------

WINOGRAD, GEMM = "winograd", "implicit GEMM"
# (N, H, W, C_in, C_out) and the way of y, gx and gw; filters are 3x3, the stride is 1
LARGER = [
    ((4, 7, 7, 9, 17), WINOGRAD),  # 16 ragged tiles, odd channels
    ((2, 13, 9, 33, 9), WINOGRAD),
    ((16, 3, 3, 16, 48), WINOGRAD),  # a tile a picture, not full
    ((1, 16, 16, 96, 8), WINOGRAD),
    ((3, 5, 23, 17, 16), WINOGRAD),  # wider than high
    ((3, 23, 5, 16, 17), WINOGRAD),
    ((1, 32, 32, 48, 48), WINOGRAD),  # several blocks a thread
    ((5, 4, 24, 8, 33), WINOGRAD),  # one row of tiles a picture, a multiple of 8 in it
    ((2, 8, 16, 1, 16), GEMM),  # fewer than 8 channels on one side
    ((2, 8, 17, 7, 33), GEMM),
    ((2, 12, 12, 16, 3), GEMM),
    ((2, 12, 12, 7, 7), GEMM),
    ((15, 3, 3, 16, 16), GEMM),  # 15 tiles
    ((4, 5, 5, 16, 16), GEMM),  # tiles that are less than half full
    ((16, 2, 2, 16, 16), GEMM),
]
# The same for pictures that are doubled: H and W are theirs before.
DOUBLED = [
    ((4, 4, 4, 9, 17), WINOGRAD),
    ((2, 7, 5, 16, 9), WINOGRAD),
    ((1, 9, 13, 33, 48), WINOGRAD),
    ((1, 16, 16, 96, 32), WINOGRAD),
    ((3, 3, 10, 17, 33), WINOGRAD),  # 6 rows: the second tile is half outside
    ((2, 8, 8, 3, 16), GEMM),
    ((2, 8, 8, 16, 1), GEMM),
    ((1, 3, 2, 5, 4), GEMM),
    ((2, 5, 3, 9, 10), GEMM),  # 12 tiles
]


@pytest.fixture
def ways(monkeypatch):
    """The ways that Numba's convolutions have been computed since: a list that grows with each."""
    taken = []

    def counted(name, function):
        def call(*args, **kwargs):
            taken.append(name)
            return function(*args, **kwargs)

        return call

    for module, name, functions in (
        (winograd_forward, WINOGRAD, ("forward",)),
        (winograd_backward_filter, WINOGRAD, ("backward_filter",)),
        (implicit_gemm, GEMM, ("forward", "backward_data", "backward_filter")),
    ):
        for function in functions:
            monkeypatch.setattr(module, function, counted(name, getattr(module, function)))
    return taken


def doubled(x):
    return x.repeat(2, axis=1).repeat(2, axis=2)


def undoubled(gx):
    """The sum of each 2x2 pixels."""
    N, H, W, C = gx.shape
    return gx.reshape(N, H // 2, 2, W // 2, 2, C).sum((2, 4))


@pytest.mark.parametrize("upsample", [False, True], ids=["as it is", "doubled"])
def test_each_way_is_taken_where_it_should(ways, upsample):
    times = 2 if upsample else 1
    for (N, H, W, C_in, C_out), way in DOUBLED if upsample else LARGER:
        x, w, gy = (np.ones(s, np.float32) for s in ((N, H, W, C_in), (3, 3, C_in, C_out), (N, H, W, C_out)))
        gy = gy.repeat(times, 1).repeat(times, 2)
        for call in (
            partial(numba_cpu.conv2d, x, w, None, 1, upsample),
            partial(numba_cpu.conv2d_grad_x, gy, w, x.shape, 1, upsample),
            partial(numba_cpu.conv2d_grad_w, gy, x, w.shape, 1, upsample),
        ):
            ways.clear()
            call()
            assert set(ways) == {way}, (x.shape, C_out)
            ways.clear()
            numba_cpu.without_winograd(call.func)(*call.args)
            assert set(ways) == {GEMM}
    x, w = np.ones((4, 8, 8, 16), np.float32), np.ones((5, 5, 16, 16), np.float32)
    for size, stride in ((1, 1), (5, 1), (3, 2), (1, 2)):
        ways.clear()
        numba_cpu.conv2d(x, w[:size, :size], None, stride)
        assert set(ways) == {GEMM}


@pytest.mark.parametrize(("shape", "upsample"), [(s, False) for s, _ in LARGER] + [(s, True) for s, _ in DOUBLED])
def test_larger_shapes_equal_loops(version_for_large_arrays, error, poison, shape, upsample):
    """The table above: ragged tiles, odd numbers of channels, one picture and more; and doubled against doubling."""
    version = version_for_large_arrays
    N, H, W, C_in, C_out = shape
    x, w, b = version.array(N, H, W, C_in), version.array(3, 3, C_in, C_out), version.array(C_out)
    large = doubled(x) if upsample else x
    gy = version.array(*large.shape[:3], C_out, seed=1)
    exact = loops(large, w, None, 1)
    exact_gx, exact_gw = loops_grad(gy, large, w, 1)
    correct = {
        "y": exact + b,
        "y without b": exact,
        "gx": undoubled(exact_gx) if upsample else exact_gx,
        "gw": exact_gw,
    }

    def all_four():
        return {
            "y": version.conv2d(x, w, b, 1, upsample),
            "y without b": version.conv2d(x, w, None, 1, upsample),
            "gx": version.conv2d_grad_x(gy, w, x.shape, 1, upsample),
            "gw": version.conv2d_grad_w(gy, x, w.shape, 1, upsample),
        }

    all_four()
    poison()
    for name, actual in all_four().items():
        assert actual.dtype == version.dtype and actual.flags.c_contiguous, name
        assert error(actual, correct[name]) < version.winograd_bound, name


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    N=st.integers(1, 4),
    H=st.integers(3, 14),
    W=st.integers(3, 14),
    C_in=st.integers(1, 35),
    C_out=st.integers(1, 35),
    upsample=st.booleans(),
)
def test_any_larger_shape(version_for_large_arrays, error, N, H, W, C_in, C_out, upsample):
    """Most of these are convolved Winograd's way."""
    version = version_for_large_arrays
    x, w = version.array(N, H, W, C_in), version.array(3, 3, C_in, C_out)
    large = doubled(x) if upsample else x
    gy = version.array(*large.shape[:3], C_out, seed=1)
    gx, gw = loops_grad(gy, large, w, 1)
    assert error(version.conv2d(x, w, None, 1, upsample), loops(large, w, None, 1)) < version.winograd_bound
    gx = undoubled(gx) if upsample else gx
    assert error(version.conv2d_grad_x(gy, w, x.shape, 1, upsample), gx) < version.winograd_bound
    assert error(version.conv2d_grad_w(gy, x, w.shape, 1, upsample), gw) < version.winograd_bound


def test_256_channels(version_for_large_arrays, error):
    """The longest sums that the bounds speak of: 2304 terms a number of y and gx."""
    version = version_for_large_arrays
    x, w, gy = version.array(1, 24, 20, 256), version.array(3, 3, 256, 256), version.array(1, 24, 20, 256, seed=1)
    exact = np.zeros((1, 24, 20, 256))
    for a, b in np.ndindex(3, 3):
        padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
        exact += padded[:, a : a + 24, b : b + 20] @ w[a, b]
    assert error(version.conv2d(x, w), exact) < version.winograd_bound
    inner, size = float(np.vdot(gy.astype(float), exact)), np.linalg.norm(gy) * np.linalg.norm(exact)
    assert abs(np.vdot(version.conv2d_grad_x(gy, w, x.shape).astype(float), x) - inner) < version.winograd_bound * size
    assert abs(np.vdot(version.conv2d_grad_w(gy, x, w.shape).astype(float), w) - inner) < version.winograd_bound * size


def test_many_pixels(version_for_large_arrays, error):
    """The filter's gradient adds up every pixel of a batch, 65,536 here, block by block lest errors grow with it."""
    version = version_for_large_arrays
    x, gy = version.array(64, 32, 32, 16), version.array(64, 32, 32, 8, seed=1)
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    exact = np.zeros((3, 3, 16, 8))
    for a, b in np.ndindex(3, 3):
        exact[a, b] = np.tensordot(padded[:, a : a + 32, b : b + 32], gy, ((0, 1, 2), (0, 1, 2)))
    assert error(version.conv2d_grad_w(gy, x, exact.shape), exact) < version.winograd_bound
    assert error(version.conv2d_grad_w(gy, x, (1, 1, 16, 8)), exact[1:2, 1:2]) < version.bound


@pytest.mark.parametrize("upsample", [False, True], ids=["as it is", "doubled"])
def test_larger_arrays_may_be_of_any_layout(version, upsample):
    x, w, b = version.array(4, 8, 8, 9), version.array(3, 3, 9, 17), version.array(17)
    gy = version.array(*((4, 16, 16, 17) if upsample else (4, 8, 8, 17)), seed=1)
    views = np.asfortranarray(x), np.repeat(w, 2, axis=3)[..., ::2], np.repeat(b, 2)[::2], gy[:, ::-1].copy()[:, ::-1]
    fixed = tuple(a.copy() for a in (x, w, b, gy))
    for a in fixed:
        a.flags.writeable = False
    for x2, w2, b2, gy2 in (views, fixed):
        assert np.array_equal(version.conv2d(x2, w2, b2, 1, upsample), version.conv2d(x, w, b, 1, upsample))
        np.testing.assert_array_equal(
            version.conv2d_grad_x(gy2, w2, x.shape, 1, upsample), version.conv2d_grad_x(gy, w, x.shape, 1, upsample)
        )
        gw, gw2 = (version.conv2d_grad_w(*a, w.shape, 1, upsample) for a in ((gy, x), (gy2, x2)))
        np.testing.assert_allclose(gw2, gw, rtol=1e-4, atol=1e-4)  # the reference may add in another order then


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_not_finite_shows_in_tiles_too(version, bad):
    """And only there: a tile knows nothing of tiles that do not touch it, nor of other pictures."""
    x, w, gy = version.array(4, 12, 12, 9), version.array(3, 3, 9, 17), version.array(4, 12, 12, 17)
    x[1, 5, 6, 0] = gy[1, 5, 6, 0] = bad
    for y in (version.conv2d(x, w), version.conv2d_grad_x(gy, w, x.shape)):
        assert not np.isfinite(y[1, 4:7, 5:8]).any()
        assert np.isfinite(y[[0, 2, 3]]).all() and np.isfinite(y[1, 8:]).all() and np.isfinite(y[1, :, :4]).all()
    gw = version.conv2d_grad_w(gy, x, w.shape)
    assert not np.isfinite(gw[:, :, 0]).any() and np.isfinite(gw[:, :, 1:, 1:]).all()


@pytest.mark.parametrize("shape", [(2, 5, 7, 3, 4), (1, 1, 1, 1, 1), (3, 8, 12, 6, 5)], ids=str)
def test_winograd_in_numpy_equals_the_definition(shape):
    """The readable rung, in float64: another way to the same numbers, to 1e-12 of the largest."""
    rng, (N, H, W, C_in, C_out) = np.random.default_rng(0), shape
    x, w, gy = rng.normal(size=(N, H, W, C_in)), rng.normal(size=(3, 3, C_in, C_out)), rng.normal(size=(N, H, W, C_out))
    for found, exact in (
        (winograd.conv2d(x, w), reference.conv2d(x, w)),
        (winograd.conv2d_grad_w(gy, x), reference.conv2d_grad_w(gy, x, w.shape)),
    ):
        assert found.shape == exact.shape and np.abs(found - exact).max() < 1e-12 * np.abs(exact).max()


# ---- the bias, and filters that stay the same -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (2, 5, 7, 3), (3, 9, 4, 17), (5, 16, 16, 48), (1, 1, 20_000, 5)], ids=str
)
def test_bias_gradient_is_the_sum_over_pixels(version, error, poison, shape):
    """20,000 pixels in one row: what `linear` makes of a batch."""
    gy = version.array(*shape, shift=1)
    version.conv2d_grad_b(gy)
    poison()
    gb = version.conv2d_grad_b(gy)
    assert gb.dtype == version.dtype
    assert error(gb, gy.astype(np.float64).sum((1, 2))) < version.bound
    fixed = np.asfortranarray(gy)
    fixed.flags.writeable = False
    np.testing.assert_allclose(version.conv2d_grad_b(fixed), gb, rtol=1e-5, atol=1e-5)
    assert version.conv2d_grad_b(gy[:0]).shape == (0, shape[3])


def test_constant_filters_give_the_same_bits(version):
    x, w, gy = version.array(4, 8, 8, 16), version.array(3, 3, 16, 16), version.array(4, 8, 8, 16, seed=1)

    def all_three():
        return version.conv2d(x, w), version.conv2d_grad_x(gy, w, x.shape), version.conv2d_grad_w(gy, x, w.shape)

    outside, constant = all_three(), version.constant_filters()
    for _ in range(2):
        with constant:
            for inside in (all_three(), all_three()):
                assert all(np.array_equal(a, b) for a, b in zip(inside, outside))


def test_a_constant_filter_is_transformed_once(monkeypatch):
    made, make = [], winograd_transforms.transform_filter
    monkeypatch.setattr(
        winograd_transforms,
        "transform_filter",
        lambda w, *options, **named: made.append(w) or make(w, *options, **named),
    )
    x, w, other = (np.ones(shape, np.float32) for shape in ((4, 8, 8, 16), (3, 3, 16, 16), (3, 3, 16, 16)))
    constant = numba_cpu.constant_filters()

    def count(*calls):
        made.clear()
        for call in calls:
            call()
        return len(made)

    forward, back = lambda: numba_cpu.conv2d(x, w), lambda: numba_cpu.conv2d_grad_x(x, w, x.shape)
    assert count(forward, forward) == 2
    with constant:
        assert count(forward, forward) == 1
        assert count(back, back, forward) == 1  # turned around, it is another filter
        assert count(lambda: numba_cpu.conv2d(x, other)) == 1
        with constant:
            assert count(forward, back) == 0
        assert count(forward, back) == 0
        with numba_cpu.constant_filters():
            assert count(forward, back, forward) == 2  # another block keeps its own
        assert count(forward, back) == 0
    assert count(forward, back) == 2
    with constant:
        assert count(forward, back) == 0
    with pytest.raises(ZeroDivisionError), constant:
        _ = 1 / 0
    assert count(forward) == 1
    w *= 2  # between blocks of one's own, filters may change
    with numba_cpu.constant_filters():
        assert np.array_equal(numba_cpu.conv2d(x, w), 2 * numba_cpu.conv2d(x, other))


def test_constant_filters_do_not_mix_filters_that_are_gone(version):
    """Each filter here is a copy that dies after its convolution; the next may get its place in memory."""
    x, filters = version.array(4, 8, 8, 16), [version.array(3, 3, 16, 16, seed=seed) for seed in range(5)]
    apart = [version.conv2d(x, w) for w in filters]
    with version.constant_filters():
        copies = [version.conv2d(x, np.asfortranarray(w)) for w in filters]
        temporary = [version.conv2d(x, w * 1) for w in filters]
    for y, copied, passed in zip(apart, copies, temporary):
        assert np.array_equal(y, copied) and np.array_equal(y, passed)


# ---- gradients that are added to what is there already --------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "K", "stride", "upsample"),
    [
        ((2, 5, 7, 3, 9), 3, 1, False),  # few channels
        ((2, 5, 7, 9, 3), 3, 1, False),
        ((2, 5, 7, 9, 10), 5, 1, False),
        ((2, 5, 7, 9, 10), 3, 2, False),
        ((2, 5, 7, 9, 10), 1, 1, False),
        ((2, 5, 7, 9, 10), 1, 2, False),  # pixels that no output saw
        ((4, 7, 7, 9, 17), 3, 1, False),  # Winograd
        ((4, 4, 4, 9, 17), 3, 1, True),
        ((2, 3, 3, 5, 4), 3, 1, True),
    ],
    ids=str,
)
def test_gradient_is_added(version, error, poison, shape, K, stride, upsample):
    N, H, W, _, C_out = shape
    x, w, _, gy = problem(version, *shape, K, K, stride)
    gy = version.array(N, 2 * H, 2 * W, C_out) if upsample else gy
    so_far = version.array(*x.shape, seed=7)
    exact = version.conv2d_grad_x(gy, w, x.shape, stride, upsample).astype(np.float64) + so_far
    version.conv2d_grad_x(gy, w, x.shape, stride, upsample, so_far)
    poison()
    before = so_far.copy()
    for other in (so_far, np.asfortranarray(so_far)):
        gx = version.conv2d_grad_x(gy, w, x.shape, stride, upsample, other)
        assert gx.dtype == version.dtype and gx.flags.c_contiguous
        assert error(gx, exact) < version.bound
    assert np.array_equal(so_far, before) and not np.shares_memory(gx, so_far)


def test_added_gradient_must_fit(version):
    gy, w = version.array(1, 4, 4, 8), version.array(3, 3, 3, 8)
    with pytest.raises(
        ValueError, match=r"^conv2d_grad_x: gx_so_far must be \(1, 4, 4, 3\), got shape \(1, 4, 4, 2\)$"
    ):
        version.conv2d_grad_x(gy, w, (1, 4, 4, 3), gx_so_far=version.array(1, 4, 4, 2))
