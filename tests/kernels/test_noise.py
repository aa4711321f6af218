"""Philox against its published vectors and a plain-integer version; numbers against their definitions and moments."""

import math

import numpy as np
import pytest
import scipy.stats

from minidiff import backend
from minidiff.kernels.noise.reference import philox4x32

F = 0xFFFFFFFF
# The known answers of philox4x32-10 from the Random123 distribution (kat_vectors).
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((F, F, F, F), (F, F), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
KEY = (0x299F31D0A4093822, 3, 7)  # a seed that fills both halves of the key
SAMPLES = np.array([0, 1, 77, F])


def philox(counter, key):
    """Philox 4x32-10 in Python integers, from the paper's figure."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 % 2**32, (p0 >> 32) ^ c3 ^ k1, p0 % 2**32
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def words(key, sample, n):
    """The first n words of a sample, from the contract: counter (block, sample, step, stream), key = seed's halves."""
    seed, stream, step = key
    blocks = [philox((b, sample, step, stream), (seed % 2**32, seed // 2**32)) for b in range(-(-n // 4))]
    return [word for block in blocks for word in block][:n]


def test_published_vectors():
    for counter, key, answer in KNOWN:
        assert philox(counter, key) == answer
        out = philox4x32(np.array(counter, np.uint32), np.array(key, np.uint32))
        assert out.dtype == np.uint32 and tuple(out) == answer


def test_published_vectors_through_bits(version):
    """The same vectors as a seed, stream, step and sample, where the block is 0; the others have other blocks."""
    counter, key, answer = KNOWN[0]
    bits = version.random_bits((key[0] + (key[1] << 32), counter[3], counter[2]), np.array([counter[1]]), 4)
    assert tuple(bits[0]) == answer


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 22])
def test_bits_equal_python_integers(version, n):
    bits = version.random_bits(KEY, SAMPLES, n)
    assert bits.dtype == np.uint32 and bits.shape == (4, n)
    assert bits.tolist() == [words(KEY, int(sample), n) for sample in SAMPLES]


@pytest.mark.parametrize("key", [(0, 0, 0), (2**64 - 1, F, F)])
def test_bits_at_the_ends_of_the_range(version, key):
    assert version.random_bits(key, SAMPLES, 6).tolist() == [words(key, int(sample), 6) for sample in SAMPLES]


def test_uniform(version):
    u = version.uniform(KEY, SAMPLES, 22)
    assert u.dtype == np.float32
    assert u.astype(float).tolist() == [[(w >> 8) / 2**24 for w in words(KEY, int(s), 22)] for s in SAMPLES]


def test_normal_equals_box_muller(version):
    z = version.normal(KEY, SAMPLES, 21)
    assert z.dtype == np.float32 and z.shape == (4, 21)
    for row, sample in zip(z, SAMPLES):
        w = words(KEY, int(sample), 22)
        for j in range(21):
            r = math.sqrt(-2 * math.log((w[j - j % 2] + 0.5) / 2**32))
            theta = 2 * math.pi * w[j - j % 2 + 1] / 2**32
            exact = r * (math.sin(theta) if j % 2 else math.cos(theta))
            # Rounded once: half a float32 ULP, and a whisker for libraries whose float64 functions differ. The angle
            # itself is rounded (relative to its size, not to its distance from a zero): 1e-15 r near sin = 0.
            assert abs(row[j] - exact) <= 0.5001 * np.spacing(np.float32(abs(exact))) + 1e-14


def test_backends_agree():
    """A million numbers: words and uniforms to the bit, normals within 1 ULP."""
    samples = np.arange(100, 150)
    numpy, numba = backend.get("numpy"), backend.get("numba")
    assert np.array_equal(numpy.random_bits(KEY, samples, 20_000), numba.random_bits(KEY, samples, 20_000))
    assert np.array_equal(numpy.uniform(KEY, samples, 20_000), numba.uniform(KEY, samples, 20_000))
    a, b = (table.normal(KEY, samples, 20_000).view(np.int32).astype(np.int64) for table in (numpy, numba))
    assert np.abs(a - b).max() <= 1  # neighbouring float32 of one sign are neighbours as integers


def test_normal_moments(version):
    z = version.normal((2, 0, 0), np.arange(20), 50_000).astype(np.float64).ravel()
    n = len(z)  # a million: bounds are four standard errors of each moment of a true normal sample
    assert abs(z.mean()) < 4 / math.sqrt(n)
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((z**3).mean()) < 4 * math.sqrt(15 / n)
    assert abs((z**4).mean() - 3) < 4 * math.sqrt(96 / n)
    assert abs((z[0::2] * z[1::2]).mean()) < 4 / math.sqrt(n)  # the two numbers of a pair
    assert scipy.stats.kstest(z[::10], "norm").pvalue > 1e-3
    assert np.abs(z).max() < 6.77


def test_no_two_keys_share_numbers(version):
    keys = [(s, stream, step) for s in (0, 1, 2**32) for stream in (0, 1) for step in (0, 1)]
    rows = np.concatenate([version.random_bits(key, np.arange(3), 8) for key in keys])
    assert len(np.unique(rows)) == rows.size  # 288 words: two equal by chance once in 100,000 sets


def test_a_sample_does_not_depend_on_its_batch(version):
    batch = version.normal(KEY, np.arange(64), 1000)
    for i in (0, 17, 63):
        assert np.array_equal(version.normal(KEY, np.array([i]), 1000)[0], batch[i])
    assert np.array_equal(version.normal(KEY, np.arange(64), 10), batch[:, :10])
    assert np.array_equal(version.normal(KEY, np.arange(64)[::-2], 1000), batch[::-2])  # a view, not contiguous


@pytest.mark.parametrize("shape", [(3, 5, 7, 3), (2, 1), (40, 32, 32, 3)], ids=str)
def test_add_noise(version, poison, shape):
    x0, sample = version.array(*shape), np.arange(5, 5 + shape[0])
    a, s = np.linspace(0.1, 0.9, shape[0]), np.linspace(0.8, 0.2, shape[0])
    version.add_noise(x0, a, s, KEY, sample)
    poison()
    x_t, eps = version.add_noise(x0, a, s, KEY, sample)
    assert x_t.dtype == eps.dtype == version.dtype
    assert np.array_equal(eps, version.normal(KEY, sample, math.prod(shape[1:])).reshape(shape))
    each = (-1,) + (1,) * (len(shape) - 1)
    exact = a.reshape(each) * x0.astype(float) + s.reshape(each) * eps.astype(float)
    assert np.abs(x_t - exact).max() < version.bound
    views = version.add_noise(np.asfortranarray(x0), a, s, KEY, sample)
    np.testing.assert_allclose(views[0], x_t, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("c", [(0.5, 0.4, 0.3, 0.2), (0.5, 0.4, 0.0, 0.2), (0.5, 0.4, 0.3, 0.0), (1.0, -2.0, 0.0, 0.0)])
@pytest.mark.parametrize("shape", [(3, 5, 7, 3), (40, 32, 32, 3)], ids=str)
def test_sampler_update(version, poison, shape, c):
    x, x0_hat, x0_hat_last = (version.array(*shape, seed=seed) for seed in range(3))
    sample = np.arange(shape[0])
    version.sampler_update(x, x0_hat, x0_hat_last, np.array(c), KEY, sample)
    z = version.normal(KEY, sample, math.prod(shape[1:])).reshape(shape).astype(float)
    exact = c[0] * x.astype(float) + c[1] * x0_hat.astype(float) + c[2] * x0_hat_last.astype(float) + c[3] * z
    poison()
    y = version.sampler_update(x, x0_hat, x0_hat_last, np.array(c), KEY, sample)
    assert y.dtype == version.dtype
    assert np.abs(y - exact).max() < version.bound
    if c[2] == 0:
        assert np.array_equal(version.sampler_update(x, x0_hat, None, c, KEY, sample), y)


def test_says_what_does_not_fit(version):
    x, a = version.array(2, 4), np.ones(2)
    two, c = np.arange(2), (1, 1, 0, 0)
    cases = {
        f"seed must lie in 0..2**64 - 1, got {2**64}": lambda: version.random_bits((2**64, 0, 0), SAMPLES, 4),
        "stream must lie in 0..2**32 - 1, got -1": lambda: version.normal((0, -1, 0), SAMPLES, 4),
        f"step must lie in 0..2**32 - 1, got {2**32}": lambda: version.uniform((0, 0, 2**32), SAMPLES, 4),
        "samples must lie in 0..2**32 - 1, got -1..3": lambda: version.random_bits(KEY, np.array([-1, 3]), 4),
        "sample must be (N,) integers, got shape (1,) of float64": lambda: version.normal(KEY, np.array([0.5]), 4),
        "add_noise: a must be (2,), one for each image, got shape (1,)": lambda: version.add_noise(
            x, a[:1], a, KEY, two
        ),
        "sample must be (2,), one for each image, got shape (1,)": lambda: version.add_noise(x, a, a, KEY, two[:1]),
        "x0_hat must be (2, 4) like x, got shape (1, 4)": lambda: version.sampler_update(x, x[:1], None, c, KEY, two),
        "c[2] is 0.5 but there is no x0_hat_last": lambda: version.sampler_update(x, x, None, (1, 1, 0.5, 0), KEY, two),
        "c must hold 4 numbers, got 3": lambda: version.sampler_update(x, x, x, c[:3], KEY, two),
    }
    for message, call in cases.items():
        with pytest.raises(ValueError) as raised:
            call()
        assert str(raised.value).endswith(message) and "\n" not in str(raised.value)
