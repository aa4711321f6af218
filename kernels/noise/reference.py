"""Random numbers from keys, defined: Philox 4x32-10, and the two functions that use them.

A counter-based generator has no state: it is a function that maps a key and a counter to four random words. Any number
of any sample can be computed at any time, in any order, on any machine.

minidiff's `Key` is (seed, stream, step): which experiment, for which purpose, at which step. The seed is Philox's key.
Its counter consists of the stream, the step, `sample`, which is the number of an image, and the number of a block of
four words.

Reading order: with `minidiff/random.py`, which names the streams. Leaves out all other generators and distributions.
"""

import math

import numpy as np

from minidiff.kernels.noise.checks import check_add_noise, check_key, check_sampler_update

Key = tuple[int, int, int]  # (seed, stream, step)

# The constants of Philox 4x32: two multipliers for the counter, two increments for the key.
MULTIPLIER_0, MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
INCREMENT_0, INCREMENT_1 = 0x9E3779B9, 0xBB67AE85
MASK = 0xFFFFFFFF


def philox4x32(counter: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Map counters to random words by ten rounds of multiplying, swapping and mixing in the key.

        (c0, c1, c2, c3) <- (high(M1 c2) ^ c1 ^ k0,  low(M1 c2),  high(M0 c0) ^ c3 ^ k1,  low(M0 c0))
        (k0, k1) <- (k0 + I0, k1 + I1)

    high and low are the halves of the 64-bit product.
    counter: (..., 4) uint32. key: (2,) uint32. Returns (..., 4) uint32.
    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3 and figure 2,
    doi:10.1145/2063384.2063405; the published test vectors hold.
    """
    c0, c1, c2, c3 = (counter[..., i].astype(np.uint64) for i in range(4))  # 64 bits hold a whole product
    k0, k1 = int(key[0]), int(key[1])
    for _ in range(10):
        product0, product1 = c0 * np.uint64(MULTIPLIER_0), c2 * np.uint64(MULTIPLIER_1)
        c0, c1, c2, c3 = (
            (product1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            product1 & np.uint64(MASK),
            (product0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            product0 & np.uint64(MASK),
        )
        k0, k1 = (k0 + INCREMENT_0) & MASK, (k1 + INCREMENT_1) & MASK
    return np.stack([c0, c1, c2, c3], -1).astype(np.uint32)


def random_bits(key: Key, sample: np.ndarray, n: int) -> np.ndarray:
    """n random words for each sample: the blocks 0, 1, 2, ... of four words, one after another.

        block b of sample k = philox4x32(counter = (b, k, step, stream), key = (seed mod 2^32, seed div 2^32))

    key: (seed, stream, step), seed in [0, 2^64), stream and step in [0, 2^32). sample: (N,) integers in [0, 2^32).
    Returns (N, n) uint32, equal to the bit on every backend.
    """
    check_key("random_bits", key, sample, n)
    seed, stream, step = key
    counter = np.zeros_like(sample, shape=(len(sample), -(-n // 4), 4), dtype=np.uint32)  # (N, blocks, 4)
    counter[:, :, 0] = np.arange(counter.shape[1], like=sample)
    counter[:, :, 1] = sample[:, None]
    counter[:, :, 2] = step
    counter[:, :, 3] = stream
    words = philox4x32(counter, np.array([seed & MASK, seed >> 32], np.uint32))
    return words.reshape(len(sample), 4 * counter.shape[1])[:, :n]


def uniform(key: Key, sample: np.ndarray, n: int) -> np.ndarray:
    """n uniform numbers in [0, 1) for each sample: the upper 24 bits of each word, all that float32 holds.

        u = (bits >> 8) 2^-24

    key, sample: as for `random_bits`. Returns (N, n) float32, equal to the bit on every backend.
    """
    return (random_bits(key, sample, n) >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)


def normal(key: Key, sample: np.ndarray, n: int) -> np.ndarray:
    """n standard normal numbers for each sample, two from each pair of words.

        r = sqrt(-2 ln((w0 + 1/2) 2^-32)),   theta = 2 pi w1 2^-32,   (z0, z1) = (r cos(theta), r sin(theta))

    The half keeps the logarithm finite; the largest |z| is sqrt(2 ln 2^33) = 6.76.
    key, sample: as for `random_bits`. Returns (N, n) float32, computed in float64 and rounded once, so that backends
    whose logarithm or cosine differ in the last float64 bits agree within 1 float32 ULP.
    Source: Box & Muller 1958, doi:10.1214/aoms/1177706645.
    """
    words = random_bits(key, sample, n + n % 2).astype(np.float64)
    r = np.sqrt(-2 * np.log((words[:, 0::2] + 0.5) * 2.0**-32))
    theta = words[:, 1::2] * (2 * math.pi * 2.0**-32)
    pairs = np.stack([r * np.cos(theta), r * np.sin(theta)], -1)  # (N, pairs, 2)
    return pairs.reshape(words.shape)[:, :n].astype(np.float32)


def add_noise(
    x0: np.ndarray, a: np.ndarray, s: np.ndarray, key: Key, sample: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Add noise to images, to each its own amount.

        x_t = a x0 + s eps,   eps = normal(key, sample)        a = sqrt(alpha_bar_t), s = sqrt(1 - alpha_bar_t)

    x0: (N, ...) of any float dtype. a, s: (N,). key, sample: as for `random_bits`.
    Returns x_t and eps, both like x0.
    Source: Ho et al. 2020, arXiv:2006.11239, eq. 4.
    """
    check_add_noise(x0.shape, a.shape, s.shape, sample)
    eps = normal(key, sample, math.prod(x0.shape[1:])).reshape(x0.shape).astype(x0.dtype)
    each = (-1,) + (1,) * (x0.ndim - 1)  # one number for each image
    return a.astype(x0.dtype).reshape(each) * x0 + s.astype(x0.dtype).reshape(each) * eps, eps


def sampler_update(
    x: np.ndarray, x0_hat: np.ndarray, x0_hat_last: np.ndarray | None, c: np.ndarray, key: Key, sample: np.ndarray
) -> np.ndarray:
    """Take one step of a sampler: that of every common sampler is a weighted sum of these four.

        x' = c0 x + c1 x0_hat + c2 x0_hat_last + c3 z,   z = normal(key, sample)

    x, x0_hat, x0_hat_last: (N, ...) of one float dtype; x0_hat_last (the estimate of the step before) may be None,
    then c2 must be 0. c: four floats; z is drawn only if c3 is not 0. key, sample: as for `random_bits`.
    Returns x', like x.
    """
    check_sampler_update(x.shape, x0_hat.shape, None if x0_hat_last is None else x0_hat_last.shape, c, sample)
    c0, c1, c2, c3 = map(float, c)
    y = c0 * x + c1 * x0_hat
    if x0_hat_last is not None:
        y += c2 * x0_hat_last
    if c3 != 0:
        y += c3 * normal(key, sample, math.prod(x.shape[1:])).reshape(x.shape).astype(x.dtype)
    return y
