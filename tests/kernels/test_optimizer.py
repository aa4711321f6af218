"""AdamW and the moving average against a loop over weights in Python floats; the sum of squares against math.fsum."""

import math

import numpy as np
import pytest

NAMES = (
    "lr",
    "beta1",
    "beta2",
    "eps",
    "weight_decay",
    "bias_correction1",
    "bias_correction2",
    "grad_scale",
    "ema_decay",
)


def hyper(t, **changes):
    numbers = dict(zip(NAMES, (1e-2, 0.9, 0.99, 1e-8, 0.1, 1 - 0.9**t, 1 - 0.99**t, 0.5, 0.95)))
    return np.array([*(numbers | changes).values()])


def loop(w, g, m, v, ema, n_decay, hyper):
    """`adamw_ema` a weight at a time, in float64; returns new lists."""
    lr, beta1, beta2, eps, weight_decay, correction1, correction2, grad_scale, ema_decay = hyper
    result = []
    for i in range(len(w)):
        g_i = float(g[i]) * grad_scale
        m_i = beta1 * float(m[i]) + (1 - beta1) * g_i
        v_i = beta2 * float(v[i]) + (1 - beta2) * g_i**2
        w_i = float(w[i]) * (1 - lr * weight_decay if i < n_decay else 1)
        w_i -= lr * (m_i / correction1) / (math.sqrt(v_i / correction2) + eps)
        result.append((w_i, m_i, v_i, ema[i] + (1 - ema_decay) * (w_i - float(ema[i]))))
    return np.array(result).T


def arrays(version, n):
    w, g, m, ema = (version.array(n, seed=seed) for seed in range(4))
    return w, g, m, np.square(version.array(n, seed=4)), ema


# One weight; less and more than a stretch of 2048; decay of none, of some on either side of a stretch's end, of all.
@pytest.mark.parametrize(
    ("n", "n_decay"), [(1, 0), (1, 1), (37, 20), (2048, 2048), (5000, 2047), (5000, 4097), (5000, 0), (0, 0)]
)
def test_equals_loop(version, n, n_decay):
    w, g, m, v, ema = arrays(version, n)
    exact = loop(w, g, m, v, ema, n_decay, hyper(3))
    old_g = g.copy()
    assert version.adamw_ema(w, g, m, v, ema, n_decay, hyper(3)) is None
    assert np.array_equal(g, old_g)
    for actual, expected in zip((w, m, v, ema), exact):
        assert np.abs(actual - expected).max() < version.bound * 4  # numbers up to 4


def test_several_steps_equal_loop(version):
    """Errors do not grow over steps; the first step's bias corrections are the extreme ones."""
    w, _, m, v, ema = arrays(version, 100)
    m[:], v[:] = 0, 0
    exact = [a.astype(np.float64) for a in (w, m, v, ema)]
    for t in range(1, 6):
        g = version.array(100, seed=10 + t)
        version.adamw_ema(w, g, m, v, ema, 50, hyper(t))
        exact = list(loop(exact[0], g, exact[1], exact[2], exact[3], 50, hyper(t)))
    for actual, expected in zip((w, m, v, ema), exact):
        assert np.abs(actual - expected).max() < version.bound * 4


def test_small_decay_is_not_lost(version):
    """lr weight_decay = 1e-7 over 1000 steps takes 1e-4 of a weight; 1 - 1e-7 in float32 would take 1.2e-4."""
    w, zero = np.full(8, 0.7, version.dtype), np.zeros(8, version.dtype)
    for _ in range(1000):
        version.adamw_ema(w, zero, zero.copy(), zero.copy(), zero.copy(), 8, hyper(1, lr=1e-6))
    lost = 1 - float(w[0]) / float(version.dtype(0.7))
    # 7e-8 is 1.17 ULP of 0.7 in float32, which rounds to 1 ULP each step: 15% too little, the best float32 can do.
    assert lost == pytest.approx(1e-4, rel=0.16)


def test_what_is_not_finite_shows(version):
    w, g, m, v, ema = arrays(version, 5000)
    g[4321] = np.nan
    assert math.isnan(version.square_sum(g))
    version.adamw_ema(w, g, m, v, ema, 0, hyper(1))
    assert np.flatnonzero(np.isnan(w)).tolist() == [4321]
    g[4321] = np.inf
    assert version.square_sum(g) == math.inf


@pytest.mark.parametrize("n", [0, 1, 2047, 2048, 100_003])
def test_square_sum(version, n):
    x = version.array(n, scale=100)
    exact = math.fsum(float(number) ** 2 for number in x)
    total = version.square_sum(x)
    assert isinstance(total, float)
    assert abs(total - exact) <= 1e-12 * exact  # float64 accumulation, whatever the dtype of x
    assert version.square_sum(x) == total


def test_square_sum_does_not_overflow_float32(version):
    assert version.square_sum(np.full(3, 1e30, version.dtype)) == pytest.approx(3e60, rel=1e-6)


def test_takes_non_contiguous_squares(version):
    x = version.array(600)
    assert version.square_sum(x[::2]) == pytest.approx(version.square_sum(x[::2].copy()), rel=1e-14)


def test_same_bits_every_time(version):
    runs = []
    for _ in range(2):
        w, g, m, v, ema = arrays(version, 100_003)
        version.adamw_ema(w, g, m, v, ema, 50_000, hyper(2))
        runs.append(b"".join(a.tobytes() for a in (w, m, v, ema)))
    assert runs[0] == runs[1]


def test_says_what_does_not_fit(version):
    w, g, m, v, ema = arrays(version, 10)
    with pytest.raises(ValueError, match=r"^adamw_ema: g has 9 numbers, w has 10$"):
        version.adamw_ema(w, g[:9], m, v, ema, 0, hyper(1))
    with pytest.raises(ValueError, match=r"^adamw_ema: n_decay must lie in 0\.\.10, got 11$"):
        version.adamw_ema(w, g, m, v, ema, 11, hyper(1))
    with pytest.raises(ValueError, match=r"^adamw_ema: hyper must hold 9 numbers, got 8$"):
        version.adamw_ema(w, g, m, v, ema, 0, hyper(1)[:8])
    with pytest.raises(ValueError, match=r"^square_sum: x must be flat, got shape \(2, 5\)$"):
        version.square_sum(w.reshape(2, 5))
