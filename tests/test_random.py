"""Keys name randomness: same key, same numbers, whatever the order, the batch or the backend."""

import numpy as np
import pytest

from minidiff import backend, random
from minidiff.random import Key, Stream
from tests.backends import RUN_HERE


@pytest.mark.parametrize("draw", [random.bits, random.uniform, random.normal])
def test_a_sample_does_not_depend_on_its_batch(every_backend, draw):
    together = backend.to_numpy(draw(Key(7, Stream.NOISE, 3, np.arange(5)), (4, 3)))
    assert together.shape == (5, 4, 3)
    for sample in (4, 0, 2):
        alone = backend.to_numpy(draw(Key(7, Stream.NOISE, 3, sample), (4, 3)))
        np.testing.assert_array_equal(alone, together[sample])


@pytest.mark.parametrize("change", [(8, 4, 3, 2), (7, 5, 3, 2), (7, 4, 4, 2), (7, 4, 3, 1), (7 + (1 << 32), 4, 3, 2)])
def test_each_part_of_the_key_counts(every_backend, change):
    one, other = random.bits(Key(7, 4, 3, 2), 64), random.bits(Key(*change), 64)
    assert (one == other).mean() < 0.05


def test_a_longer_draw_begins_with_the_shorter():
    long = random.normal(Key(1, 4, 0, 0), 101)
    for n in (1, 2, 3, 50):
        np.testing.assert_array_equal(random.normal(Key(1, 4, 0, 0), n), long[:n])


@pytest.mark.parametrize("draw", [random.bits, random.uniform])
def test_bits_and_uniforms_are_equal_on_every_backend(draw):
    key = Key(2**63 + 11, Stream.T, 2**32 - 1, np.array([0, 1, 2**32 - 1]))
    results = []
    for name in RUN_HERE:
        with backend.using(name):
            results.append(draw(key, 1001))
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


def test_normals_agree_within_one_ulp():
    results = []
    for name in RUN_HERE:
        with backend.using(name):
            results.append(backend.to_numpy(random.normal(Key(5, Stream.NOISE, 1, np.arange(20)), 5000)))
    for other in results[1:]:
        assert (np.abs(other.view(np.int32).astype(np.int64) - results[0].view(np.int32)) <= 1).all()


def test_integers_cover_their_range_evenly(every_backend):
    drawn = random.integers(Key(0, Stream.T, 0, np.arange(100)), 1000, 10)
    counts = np.bincount(drawn.ravel(), minlength=10)
    assert len(counts) == 10 and drawn.dtype == np.int64
    # 100,000 draws in 10 bins: chi-squared has 9 degrees of freedom and passes 27.9 once in a thousand
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 27.9


def test_integers_refuse_an_empty_range():
    with pytest.raises(ValueError, match=r"integers: high must be in \[1, 2\*\*32\], got 0"):
        random.integers(Key(0, 0, 0, 0), 3, 0)


def test_a_permutation_has_each_number_once(every_backend):
    order = random.permutation(Key(3, Stream.ORDER, 0, 0), 1000)
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    assert (order != np.arange(1000)).mean() > 0.9
    assert (order != random.permutation(Key(3, Stream.ORDER, 1, 0), 1000)).mean() > 0.9


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed must be in"):
        random.bits(Key(-1, 0, 0, 0), 4)
