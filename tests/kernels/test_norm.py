"""Group normalisation against its definition written as loops, and its gradients against central differences."""

import numpy as np
import pytest
import scipy.special

from minidiff.kernels.norm import reference

# (N, H, W, C, groups): several strips of 64 pixels, one pixel, one group, one channel a group, odd everything
SHAPES = [(2, 3, 2, 6, 3), (1, 9, 15, 4, 2), (3, 1, 1, 8, 2), (2, 2, 3, 5, 1), (2, 3, 3, 7, 7)]


def loops(x, scale, shift, groups, eps, silu):
    """`group_norm` a group at a time, in float64; returns y alone."""
    y = np.empty(x.shape)
    width = x.shape[3] // groups
    for n in range(len(x)):
        for g in range(groups):
            c = slice(g * width, (g + 1) * width)
            z = (x[n, :, :, c] - np.mean(x[n, :, :, c])) / np.sqrt(np.var(x[n, :, :, c]) + eps)
            y[n, :, :, c] = z * np.broadcast_to(scale, (len(x), x.shape[3]))[n, c]
            y[n, :, :, c] += np.broadcast_to(shift, (len(x), x.shape[3]))[n, c]
    return y / (1 + np.exp(-y)) if silu else y


def problem(version, N, H, W, C, each):
    x = version.array(N, H, W, C, scale=2, shift=1)
    scale, shift = (version.array(*((N, C) if each else (C,)), seed=seed, shift=0.5) for seed in (1, 2))
    return x, scale, shift, version.array(N, H, W, C, seed=3)


@pytest.mark.parametrize("silu", [False, True], ids=["plain", "silu"])
@pytest.mark.parametrize("each", [False, True], ids=["shared", "each"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_loops(version, error, poison, shape, each, silu):
    *sizes, groups = shape
    x, scale, shift, _ = problem(version, *sizes, each)
    version.group_norm(x, scale, shift, groups, 1e-5, silu)
    poison()
    y, mean, rstd = version.group_norm(x, scale, shift, groups, 1e-5, silu)
    exact = loops(*(a.astype(np.float64) for a in (x, scale, shift)), groups, 1e-5, silu)
    assert y.dtype == mean.dtype == rstd.dtype == version.dtype
    assert error(y, exact) < version.bound
    grouped = x.astype(np.float64).reshape(len(x), -1, groups, x.shape[3] // groups)
    assert error(mean, grouped.mean((1, 3))) < version.bound
    assert error(rstd, 1 / np.sqrt(grouped.var((1, 3)) + 1e-5)) < version.bound


@pytest.mark.parametrize("groups", [3, 4])
def test_groups_of_one_large_image(version, error, groups):
    """Threads share out groups, but only whole ones: three cannot be halved."""
    x, scale, shift, gy = problem(version, 1, 40, 40, 96, False)
    y, mean, rstd = version.group_norm(x, scale, shift, groups, 1e-5, True)
    assert error(y, loops(*(a.astype(np.float64) for a in (x, scale, shift)), groups, 1e-5, True)) < version.bound
    found = version.group_norm_grad(gy, x, scale, shift, mean, rstd, groups, True)
    exact = (a.astype(np.float64) for a in (gy, x, scale, shift, mean, rstd))
    for name, one, other in zip(("gx", "gscale", "gshift"), found, reference.group_norm_grad(*exact, groups, True)):
        assert error(one, other) < version.bound, name


@pytest.mark.parametrize("silu", [False, True], ids=["plain", "silu"])
@pytest.mark.parametrize("shape", SHAPES[:1] + SHAPES[3:], ids=str)
def test_gradients_equal_central_differences(version, error, poison, slope, shape, silu):
    *sizes, groups = shape
    x, scale, shift, gy = problem(version, *sizes, True)
    eps = 1e-3
    _, mean, rstd = version.group_norm(x, scale, shift, groups, eps, silu)
    version.group_norm_grad(gy, x, scale, shift, mean, rstd, groups, silu)
    poison()
    gx, gscale, gshift = version.group_norm_grad(gy, x, scale, shift, mean, rstd, groups, silu)

    x, scale, shift, gy = (a.astype(np.float64) for a in (x, scale, shift, gy))
    bound = version.bound + 1e-8  # and the error of the differences themselves
    assert error(gx, slope(lambda x: (gy * loops(x, scale, shift, groups, eps, silu)).sum(), x)) < bound
    assert error(gscale, slope(lambda scale: (gy * loops(x, scale, shift, groups, eps, silu)).sum(), scale)) < bound
    assert error(gshift, slope(lambda shift: (gy * loops(x, scale, shift, groups, eps, silu)).sum(), shift)) < bound


@pytest.mark.parametrize("shape", [*SHAPES, (1, 16, 16, 64, 8)], ids=str)
def test_gradient_is_added(version, error, shape):
    *sizes, groups = shape
    x, scale, shift, gy = problem(version, *sizes, True)
    add = version.array(*x.shape, seed=9)
    _, mean, rstd = version.group_norm(x, scale, shift, groups, 1e-3, True)
    plain = version.group_norm_grad(gy, x, scale, shift, mean, rstd, groups, True)
    for given in (add, np.asfortranarray(add)):
        summed = version.group_norm_grad(gy, x, scale, shift, mean, rstd, groups, True, given)
        assert error(summed[0], plain[0].astype(np.float64) + add) < version.bound
        assert all(np.array_equal(a, b) for a, b in zip(summed[1:], plain[1:]))
    with pytest.raises(ValueError, match=r"^group_norm_grad: gx_so_far must be \(.*\), got shape \(.*\)$"):
        version.group_norm_grad(gy, x, scale, shift, mean, rstd, groups, True, add[:, :, :, 1:])


def test_shared_scale_has_gradients_a_picture(version):
    x, scale, shift, gy = problem(version, 3, 2, 3, 5, False)
    _, mean, rstd = version.group_norm(x, scale, shift, 1, 1e-5, True)
    shared = version.group_norm_grad(gy, x, scale, shift, mean, rstd, 1, True)
    repeated = [np.tile(a, (3, 1)) for a in (scale, shift)]
    each = version.group_norm_grad(gy, x, *repeated, mean, rstd, 1, True)
    assert shared[1].shape == shared[2].shape == (3, 5)
    assert all(np.array_equal(a, b) for a, b in zip(shared, each))


def test_large_mean_keeps_its_digits(version, error):
    """Mean 1000, deviation 1: the naive mean of squares minus squared mean has no digit left in float32."""
    x = version.array(2, 8, 8, 4, shift=1000)
    one, zero = np.ones(4, version.dtype), np.zeros(4, version.dtype)
    y, _, _ = version.group_norm(x, one, zero, 2, 1e-5, False)
    # The mean itself is rounded to eps 1000, which is 1000 eps of the deviation.
    assert error(y, loops(x.astype(np.float64), one, zero, 2, 1e-5, False)) < 1000 * np.finfo(version.dtype).eps


def test_many_pictures_and_channels(version, error):
    """Enough work for every thread; and one picture alone, whose groups are then shared out."""
    x, scale, shift, gy = problem(version, 4, 16, 24, 32, True)
    y, mean, rstd = version.group_norm(x, scale, shift, 8, 1e-5, True)
    grads = version.group_norm_grad(gy, x, scale, shift, mean, rstd, 8, True)
    assert error(y, loops(*(a.astype(np.float64) for a in (x, scale, shift)), 8, 1e-5, True)) < version.bound
    for n in range(4):
        one = slice(n, n + 1)
        alone = version.group_norm(x[one], scale[one], shift[one], 8, 1e-5, True)
        for a, b in zip(alone, (y, mean, rstd)):
            np.testing.assert_array_equal(a, b[one])
        alone = version.group_norm_grad(gy[one], x[one], scale[one], shift[one], mean[one], rstd[one], 8, True)
        for a, b in zip(alone, grads):
            np.testing.assert_allclose(a, b[one], rtol=100 * np.finfo(version.dtype).eps, atol=version.bound)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_extreme_values(version, error):
    """SiLU far from 0 neither overflows nor wanders off; what is not finite stays so."""
    x = version.array(1, 4, 4, 2)
    scale, zero = np.full(2, 1000, version.dtype), np.zeros(2, version.dtype)
    plain, mean, rstd = version.group_norm(x, scale, zero, 1, 1e-5, False)
    y, _, _ = version.group_norm(x, scale, zero, 1, 1e-5, True)
    assert error(y, plain.astype(np.float64) * scipy.special.expit(plain.astype(np.float64))) < version.bound
    gx, _, _ = version.group_norm_grad(x, x, scale, zero, mean, rstd, 1, True)
    assert np.isfinite(gx).all()
    x[0, 1, 2, 1] = np.nan
    y, mean, rstd = version.group_norm(x, scale, zero, 1, 1e-5, True)
    assert np.isnan(y).all() and np.isnan(mean).all()


def test_takes_non_contiguous_arrays(version):
    x, scale, shift, gy = problem(version, 2, 4, 6, 6, False)
    x_view, gy_view, scale_view = np.asfortranarray(x), gy[:, ::-1].copy()[:, ::-1], np.repeat(scale, 2)[::2]
    y, mean, rstd = version.group_norm(x, scale, shift, 3, 1e-5, True)
    views = version.group_norm(x_view, scale_view, shift, 3, 1e-5, True)
    for a, b in zip(views, (y, mean, rstd)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    plain = version.group_norm_grad(gy, x, scale, shift, mean, rstd, 3, True)
    for a, b in zip(version.group_norm_grad(gy_view, x_view, scale_view, shift, mean, rstd, 3, True), plain):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_same_bits_every_time(version):
    x, scale, shift, gy = problem(version, 4, 16, 24, 32, True)
    first, second = (version.group_norm(x, scale, shift, 8, 1e-5, True) for _ in range(2))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first, second))
    first, second = (version.group_norm_grad(gy, x, scale, shift, *first[1:], 8, True) for _ in range(2))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first, second))


def test_says_what_does_not_fit(version):
    x, scale, shift, gy = problem(version, 2, 3, 2, 6, False)
    with pytest.raises(ValueError, match=r"^group_norm: 4 groups do not divide 6 channels$"):
        version.group_norm(x, scale, shift, 4, 1e-5, True)
    with pytest.raises(ValueError, match=r"^group_norm: scale must be \(6,\) or \(2, 6\), got shape \(5,\)$"):
        version.group_norm(x, scale[:5], shift, 3, 1e-5, True)
    with pytest.raises(ValueError, match=r"^group_norm: x must be \(N, H, W, C\), got shape \(2, 6, 6\)$"):
        version.group_norm(x.reshape(2, 6, 6), scale, shift, 3, 1e-5, True)
    _, mean, rstd = version.group_norm(x, scale, shift, 3, 1e-5, True)
    with pytest.raises(ValueError, match=r"^group_norm_grad: gy must be \(2, 3, 2, 6\), got shape \(1, 3, 2, 6\)$"):
        version.group_norm_grad(gy[:1], x, scale, shift, mean, rstd, 3, True)
    with pytest.raises(ValueError, match=r"^group_norm_grad: mean must be \(2, 2\), got shape \(2, 3\)$"):
        version.group_norm_grad(gy, x, scale, shift, mean, rstd, 2, True)
