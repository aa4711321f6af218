"""Attention against a loop over pictures, heads and queries with SciPy's softmax; gradients by central differences."""

import numpy as np
import pytest
import scipy.special

# (N, L, M, D, heads): other keys than queries, one token, one head, one channel a head
SHAPES = [(2, 5, 5, 6, 2), (1, 4, 7, 3, 1), (2, 1, 1, 4, 2), (1, 3, 2, 4, 4)]


def loops(q, k, v, heads):
    """`attention` a query at a time, in float64; returns y and p."""
    N, L, D = q.shape
    d = D // heads
    y, p = np.empty(q.shape), np.empty((N, heads, L, k.shape[1]))
    for n in range(N):
        for head in range(heads):
            c = slice(head * d, (head + 1) * d)
            for i in range(L):
                p[n, head, i] = scipy.special.softmax(k[n, :, c] @ q[n, i, c] / np.sqrt(d))
                y[n, i, c] = p[n, head, i] @ v[n, :, c]
    return y, p


def problem(version, N, L, M, D):
    return tuple(version.array(N, tokens, D, seed=seed) for seed, tokens in enumerate((L, M, M, L)))


@pytest.mark.parametrize("shape", [*SHAPES, (3, 37, 50, 48, 3)], ids=str)
def test_equals_loops(version, error, poison, shape):
    *sizes, heads = shape
    q, k, v, _ = problem(version, *sizes)
    version.attention(q, k, v, heads)
    poison()
    y, p = version.attention(q, k, v, heads)
    exact_y, exact_p = loops(*(a.astype(np.float64) for a in (q, k, v)), heads)
    assert y.dtype == p.dtype == version.dtype
    assert error(y, exact_y) < version.bound
    assert error(p, exact_p) < version.bound


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_equal_central_differences(version, poison, slope, shape):
    *sizes, heads = shape
    q, k, v, gy = problem(version, *sizes)
    _, p = version.attention(q, k, v, heads)
    version.attention_grad(gy, q, k, v, p, heads)
    poison()
    grads = version.attention_grad(gy, q, k, v, p, heads)
    q, k, v, gy = (a.astype(np.float64) for a in (q, k, v, gy))
    exact = (
        slope(lambda q: (gy * loops(q, k, v, heads)[0]).sum(), q),
        slope(lambda k: (gy * loops(q, k, v, heads)[0]).sum(), k),
        slope(lambda v: (gy * loops(q, k, v, heads)[0]).sum(), v),
    )
    largest = max(np.abs(a).max() for a in exact)  # with one token the gradients of q and k are 0
    for actual, expected in zip(grads, exact):
        assert np.abs(actual - expected).max() < (version.bound + 1e-8) * largest


def test_gradients_of_many_tokens(version, error):
    """Enough work for every thread; float64 reference gradients, which the test above has checked, as the oracle."""
    from minidiff.kernels.attention.reference import attention_grad

    q, k, v, gy = problem(version, 3, 37, 50, 48)
    p = version.attention(q, k, v, 3)[1]
    exact = attention_grad(*(a.astype(np.float64) for a in (gy, q, k, v, p)), 3)
    for actual, expected in zip(version.attention_grad(gy, q, k, v, p, 3), exact):
        assert error(actual, expected) < version.bound


def test_large_scores_do_not_overflow(version):
    """Scores of 1e4 would overflow exp at 88 (float32); the weights are then 0 and 1."""
    q = np.array([[[1e4], [-1e4]]], version.dtype)
    k = np.array([[[1], [0.5]]], version.dtype)
    v = np.array([[[3], [5]]], version.dtype)
    y, p = version.attention(q, k, v, 1)
    np.testing.assert_array_equal(y, [[[3], [5]]])
    np.testing.assert_allclose(p, [[[[1, 0], [0, 1]]]], atol=1e-30)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy says so too
def test_what_is_not_finite_shows(version):
    q, k, v, gy = problem(version, 2, 5, 5, 6)
    q[1, 2, 0] = np.nan
    y, p = version.attention(q, k, v, 2)
    assert np.isnan(y[1, 2, :3]).all() and np.isfinite(y[0]).all()
    gq, _, _ = version.attention_grad(gy, q, k, v, p, 2)
    assert np.isnan(gq[1, 2, :3]).all()


def test_takes_non_contiguous_arrays(version):
    q, k, v, gy = problem(version, 2, 5, 5, 6)
    views = [np.asfortranarray(q), k[:, ::-1].copy()[:, ::-1], np.repeat(v, 2, axis=2)[..., ::2]]
    y, p = version.attention(q, k, v, 2)
    for a, b in zip(version.attention(*views, 2), (y, p)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for a, b in zip(
        version.attention_grad(np.asfortranarray(gy), *views, p, 2), version.attention_grad(gy, q, k, v, p, 2)
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_same_bits_every_time(version):
    q, k, v, gy = problem(version, 3, 37, 50, 48)
    first, second = (version.attention(q, k, v, 3) for _ in range(2))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first, second))
    first, second = (version.attention_grad(gy, q, k, v, first[1], 3) for _ in range(2))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first, second))


def test_says_what_does_not_fit(version):
    q, k, v, gy = problem(version, 2, 5, 4, 6)
    with pytest.raises(ValueError, match=r"^attention: 4 heads do not divide 6 channels$"):
        version.attention(q, k, v, 4)
    with pytest.raises(ValueError, match=r"^attention: q must be \(N, L, D\), got shape \(5, 6\)$"):
        version.attention(q[0], k, v, 2)
    with pytest.raises(ValueError, match=r"^attention: k must be \(2, M, 6\), got shape \(1, 4, 6\)$"):
        version.attention(q, k[:1], v, 2)
    with pytest.raises(ValueError, match=r"^attention: v must be \(2, 4, 6\) like k, got shape \(2, 3, 6\)$"):
        version.attention(q, k, v[:, :3], 2)
    _, p = version.attention(q, k, v, 2)
    with pytest.raises(ValueError, match=r"^attention_grad: gy must be \(2, 5, 6\), got shape \(2, 4, 6\)$"):
        version.attention_grad(gy[:, :4], q, k, v, p, 2)
    with pytest.raises(ValueError, match=r"^attention_grad: p must be \(2, 3, 5, 4\), got shape \(2, 2, 5, 4\)$"):
        version.attention_grad(gy, q, k, v, p, 3)
