"""Normalise, SiLU, convolve, add, against its parts one after the other in float64; gradients by differences too."""

import itertools

import numpy as np
import pytest

from minidiff import backend
from minidiff.kernels.conv2d import implicit_gemm, winograd_backward_filter, winograd_forward
from minidiff.kernels.norm_silu_conv2d import numba_cpu, numba_gemm

EPS = 1e-5
# (N, H, W, C_in, C_out, groups, K): five where Numba takes Winograd's way, four where it does not, and two where it
# takes it for y or for gx alone
SHAPES = [
    (4, 7, 7, 8, 16, 2, 3),
    (5, 7, 7, 16, 17, 4, 3),
    (2, 12, 9, 9, 17, 3, 3),
    (2, 13, 9, 33, 9, 11, 3),
    (1, 16, 16, 32, 48, 8, 3),
    (2, 3, 5, 6, 4, 3, 3),
    (2, 4, 3, 6, 7, 2, 1),
    (3, 6, 4, 8, 24, 4, 1),
    (2, 8, 8, 16, 16, 4, 5),
    (2, 8, 16, 6, 16, 2, 3),
    (2, 16, 8, 16, 3, 4, 3),
]
exact = backend.get("numpy")
BOUND = 240 * np.finfo(np.float32).eps  # `winograd_bound`


class Ones:
    array = staticmethod(lambda *shape, **_: np.ones(shape, np.float32))


class Float32:
    """Random numbers as `version.array` has them, for tests that are on Numba alone."""

    array = staticmethod(
        lambda *shape, seed=0, scale=1, shift=0: np.float32(
            scale * np.random.default_rng((seed, *shape)).normal(size=shape) + shift
        )
    )


def problem(version, N, H, W, C_in, C_out, groups, K, each=False):
    x, w = version.array(N, H, W, C_in, scale=2, shift=1), version.array(K, K, C_in, C_out)
    scale, shift = (version.array(*((N, C_in) if each else (C_in,)), seed=seed, shift=0.5) for seed in (1, 2))
    b = version.array(*((N, C_out) if each else (C_out,)), seed=3)
    return x, scale, shift, w, b, version.array(N, H, W, C_out, seed=4), version.array(N, H, W, C_out, seed=5)


def composed(x, scale, shift, groups, eps, w, b, add):
    """The parts one after the other, in float64."""
    x, scale, shift, w, b = (a.astype(np.float64) for a in (x, scale, shift, w, b))
    a, mean, rstd = exact.group_norm(x, scale, shift, groups, eps, True)
    y = exact.conv2d(a, w) + b.reshape(-1, 1, 1, b.shape[-1])
    return y if add is None else y + add.astype(np.float64), mean, rstd


def composed_grad(gy, x, scale, shift, groups, eps, w):
    """Their gradients, last part first, in float64."""
    gy, x, scale, shift, w = (a.astype(np.float64) for a in (gy, x, scale, shift, w))
    a, mean, rstd = exact.group_norm(x, scale, shift, groups, eps, True)
    ga = exact.conv2d_grad_x(gy, w, x.shape)
    gx, gscale, gshift = exact.group_norm_grad(ga, x, scale, shift, mean, rstd, groups, True)
    return gx, gscale, gshift, exact.conv2d_grad_w(gy, a, w.shape), exact.conv2d_grad_b(gy)


PAIRS = [  # all four for the first two shapes
    pytest.param(shape, each, adds, id=f"{shape}-{'each' if each else 'shared'}-{'added' if adds else 'alone'}")
    for shape in SHAPES
    for each, adds in itertools.product((False, True), repeat=2)
    if shape in SHAPES[:2] or each == adds
]


@pytest.mark.parametrize("shape, each, adds", PAIRS)
def test_equals_its_parts(version, error, poison, shape, each, adds):
    groups = shape[5]
    x, scale, shift, w, b, add, gy = problem(version, *shape, each)
    add = add if adds else None
    y, mean, rstd = version.norm_silu_conv2d(x, scale, shift, groups, EPS, w, b, add)
    version.norm_silu_conv2d_grad(gy, x, scale, shift, mean, rstd, groups, w)
    poison()
    y, mean, rstd = version.norm_silu_conv2d(x, scale, shift, groups, EPS, w, b, add)
    correct = composed(x, scale, shift, groups, EPS, w, b, add)
    for name, actual, c in zip(("y", "mean", "rstd"), (y, mean, rstd), correct):
        assert actual.dtype == version.dtype and actual.flags.c_contiguous, name
        assert error(actual, c) < version.winograd_bound, name
    gradients = version.norm_silu_conv2d_grad(gy, x, scale, shift, mean, rstd, groups, w)
    correct = composed_grad(gy, x, scale, shift, groups, EPS, w)
    assert gradients[1].shape == gradients[2].shape == (len(x), x.shape[3])  # one row a picture, as group_norm has it
    for name, a, c in zip(("gx", "gscale", "gshift", "gw", "gb"), gradients, correct, strict=True):
        assert a.dtype == version.dtype and a.flags.c_contiguous, name
        assert error(a, c) < version.winograd_bound, name
    if adds:
        more = version.array(*x.shape, seed=6)
        summed = version.norm_silu_conv2d_grad(gy, x, scale, shift, mean, rstd, groups, w, more)
        assert error(summed[0], correct[0] + more) < version.winograd_bound
        assert all(np.array_equal(a, b) for a, b in zip(summed[1:], gradients[1:]))


@pytest.mark.parametrize("each", [False, True], ids=["shared", "each"])
def test_gradients_equal_central_differences(version, error, slope, each):
    groups, eps = 3, 1e-3
    x, scale, shift, w, b, add, gy = problem(version, 2, 3, 2, 6, 2, groups, 3, each)
    _, mean, rstd = version.norm_silu_conv2d(x, scale, shift, groups, eps, w, b, add)
    gx, gscale, gshift, gw, gb = version.norm_silu_conv2d_grad(gy, x, scale, shift, mean, rstd, groups, w)
    if not each:
        gscale, gshift = gscale.sum(0), gshift.sum(0)

    def loss(x=x, scale=scale, shift=shift, w=w, b=b):
        return (gy * composed(x, scale, shift, groups, eps, w, b, add)[0]).sum()

    bound = version.bound + 1e-8  # and the error of the differences themselves
    assert error(gx, slope(lambda x: loss(x=x), x)) < bound
    assert error(gscale, slope(lambda scale: loss(scale=scale), scale)) < bound
    assert error(gshift, slope(lambda shift: loss(shift=shift), shift)) < bound
    assert error(gw, slope(lambda w: loss(w=w), w)) < bound
    assert error(gb if each else gb.sum(0), slope(lambda b: loss(b=b), b)) < bound


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[5]], ids=["winograd", "gemm"])
def test_large_mean_keeps_its_digits(version, error, shape):
    """Pixels around 1000, deviation 2. The mean is rounded to eps 1000: 500 eps of the deviation."""
    x, scale, shift, w, b, add, gy = problem(version, *shape)
    x += version.dtype(1000)
    y, mean, rstd = version.norm_silu_conv2d(x, scale, shift, shape[5], EPS, w, b, add)
    gradients = version.norm_silu_conv2d_grad(gy, x, scale, shift, mean, rstd, shape[5], w)
    bound = 1000 * np.finfo(version.dtype).eps
    assert error(y, composed(x, scale, shift, shape[5], EPS, w, b, add)[0]) < bound
    correct = composed_grad(gy, x, scale, shift, shape[5], EPS, w)
    for name, a, c in zip(("gx", "gscale", "gshift", "gw", "gb"), gradients, correct, strict=True):
        assert error(a, c) < bound, name


@pytest.fixture
def ways(monkeypatch):
    """How Numba has computed each convolution since: a list that grows with each."""
    taken = []

    def counted(name, function):
        def call(*args, **kwargs):
            before = len(taken)
            result = function(*args, **kwargs)
            taken[before:] = [name]  # whatever it called itself
            return result

        return call

    for module, name, functions in (
        (implicit_gemm, "gemm", ("forward", "backward_data", "backward_filter")),
        (winograd_forward, "winograd", ("forward",)),
        (winograd_backward_filter, "winograd", ("backward_filter",)),
        (numba_cpu, "fused", ("forward_all", "backward_all")),
    ):
        for function in functions:
            monkeypatch.setattr(module, function, counted(name, getattr(module, function)))
    return taken


def test_each_way_is_taken_where_it_should(ways, threads):
    """y, gw and gx: at once, and with the normalisation, where Winograd's way is taken and pictures are enough."""
    threads(1)
    for shape, expected in (
        (SHAPES[0], ["fused", "fused"]),
        (SHAPES[5], ["gemm", "gemm", "gemm"]),
        (SHAPES[9], ["gemm", "gemm", "gemm"]),
        (SHAPES[10], ["gemm", "gemm", "gemm"]),
    ):
        x, scale, shift, w, b, add, gy = problem(Ones, *shape)
        for fused, fused_grad, correct in (
            (numba_cpu.norm_silu_conv2d, numba_cpu.norm_silu_conv2d_grad, expected),
            (numba_gemm.norm_silu_conv2d, numba_gemm.norm_silu_conv2d_grad, ["gemm"] * 3),
        ):
            ways.clear()
            _, mean, rstd = fused(x, scale, shift, shape[5], EPS, w, b, add)
            fused_grad(gy, x, scale, shift, mean, rstd, shape[5], w)
            assert ways == correct, shape


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(
    ("shape", "way"),
    [
        ((1, 16, 16, 64, 64, 8, 3), "winograd"),  # one picture for two threads
        ((5, 8, 8, 64, 64, 8, 3), "winograd"),  # five, where a thread takes four at a time
        ((10, 8, 12, 48, 33, 6, 3), "winograd"),  # few tiles: the threads share out the columns of the filter
        ((22, 8, 12, 48, 33, 6, 3), "fused"),  # a share of one picture is left over
        ((5, 20, 28, 33, 48, 11, 3), "fused"),  # pictures of several blocks
        ((3, 24, 32, 32, 20, 8, 3), "fused"),  # pictures larger than the filter's gradient: one after the other
    ],
    ids=str,
)
def test_shares_of_threads(ways, threads, error, number, shape, way):
    threads(number)
    x, scale, shift, w, b, add, gy = problem(Float32, *shape, True)
    y, mean, rstd = numba_cpu.norm_silu_conv2d(x, scale, shift, shape[5], EPS, w, b, add)
    assert number == 1 or ways == [way]
    assert error(y, composed(x, scale, shift, shape[5], EPS, w, b, add)[0]) < BOUND
    gradients = numba_cpu.norm_silu_conv2d_grad(gy, x, scale, shift, mean, rstd, shape[5], w)
    for a, c in zip(gradients, composed_grad(gy, x, scale, shift, shape[5], EPS, w)):
        assert error(a, c) < BOUND


@pytest.mark.parametrize("shape", [SHAPES[2], SHAPES[5]], ids=["winograd", "gemm"])
def test_takes_arrays_of_any_layout(version, shape):
    x, scale, shift, w, b, add, gy = problem(version, *shape)
    y, mean, rstd = version.norm_silu_conv2d(x, scale, shift, shape[5], EPS, w, b, add)
    plain = version.norm_silu_conv2d_grad(gy, x, scale, shift, mean, rstd, shape[5], w)
    views = [np.asfortranarray(a) if a.ndim > 1 else np.repeat(a, 2)[::2] for a in (x, scale, shift, w, b, add, gy)]
    fixed = [a.copy() for a in (x, scale, shift, w, b, add, gy)]
    before = [a.copy() for a in fixed]
    for a in fixed:
        a.flags.writeable = False
    for x2, scale2, shift2, w2, b2, add2, gy2 in (views, fixed):
        results = version.norm_silu_conv2d(x2, scale2, shift2, shape[5], EPS, w2, b2, add2)
        for a, c in zip(results, (y, mean, rstd)):
            np.testing.assert_allclose(a, c, rtol=1e-4, atol=1e-4)  # the reference may add in another order
        for a, c in zip(version.norm_silu_conv2d_grad(gy2, x2, scale2, shift2, mean, rstd, shape[5], w2), plain):
            np.testing.assert_allclose(a, c, rtol=1e-3, atol=1e-3)
    assert all(np.array_equal(a, c) for a, c in zip(fixed, before))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("shape", [SHAPES[2], SHAPES[5]], ids=["winograd", "gemm"])
def test_what_is_not_finite_shows(version, shape):
    """A picture with NaN is NaN: its groups' statistics are. The others are not."""
    x, scale, shift, w, b, add, gy = problem(version, *shape)
    x[1, 2, 2] = np.nan
    y, mean, rstd = version.norm_silu_conv2d(x, scale, shift, shape[5], EPS, w, b, add)
    assert np.isnan(y[1]).all() and np.isnan(mean[1]).all() and np.isfinite(y[0]).all()
    gx, gscale, _, gw, _ = version.norm_silu_conv2d_grad(gy, x, scale, shift, mean, rstd, shape[5], w)
    assert np.isnan(gx[1]).all() and np.isnan(gscale[1]).all() and np.isnan(gw).all() and np.isfinite(gx[0]).all()


def test_says_what_does_not_fit(version):
    x, scale, shift, w, b, add, gy = problem(version, 2, 3, 4, 6, 4, 3, 3)

    def call(x=x, scale=scale, groups=3, w=w, b=b, add=add):
        return version.norm_silu_conv2d(x, scale, shift, groups, EPS, w, b, add)

    _, mean, rstd = call()

    def back(gy=gy, mean=mean, w=w, add=None):
        return version.norm_silu_conv2d_grad(gy, x, scale, shift, mean, rstd, 3, w, add)

    for message, wrong in {
        "norm_silu_conv2d: x must be (N, H, W, C), got shape (3, 4, 6)": lambda: call(x=x[0]),
        "norm_silu_conv2d: 4 groups do not divide 6 channels": lambda: call(groups=4),
        "norm_silu_conv2d: scale must be (6,) or (2, 6), got shape (5,)": lambda: call(scale=scale[:5]),
        "norm_silu_conv2d: x has 6 channels, w expects 5": lambda: call(w=w[:, :, :5]),
        "norm_silu_conv2d: filter sizes must be odd, got 2x3": lambda: call(w=w[:2]),
        "norm_silu_conv2d: b must be (4,) or (2, 4), got shape (3,)": lambda: call(b=b[:3]),
        "norm_silu_conv2d: residual must be (2, 3, 4, 4), got shape (1, 3, 4, 4)": lambda: call(add=add[:1]),
        "norm_silu_conv2d_grad: gy must be (2, 3, 4, 4), got shape (1, 3, 4, 4)": lambda: back(gy=gy[:1]),
        "norm_silu_conv2d_grad: mean must be (2, 3), got shape (1, 3)": lambda: back(mean=mean[:1]),
        "norm_silu_conv2d_grad: x has 6 channels, w expects 5": lambda: back(w=w[:, :, :5]),
        "norm_silu_conv2d_grad: gx_so_far must be (2, 3, 4, 6), got shape (1, 3, 4, 6)": lambda: back(add=x[:1]),
    }.items():
        with pytest.raises(ValueError) as raised:
            wrong()
        assert str(raised.value) == message
