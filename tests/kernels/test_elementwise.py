"""Addition and channels side by side: copies and single roundings, so equal to the bit."""

import numpy as np
import pytest

SHAPES = [(1,), (3, 17), (2, 5, 7, 3), (4, 32, 32, 19), (0, 4)]  # one beyond what is left to NumPy


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_add(version, poison, shape):
    a, b = version.array(*shape), version.array(*shape, seed=1)
    version.add(a, b)
    poison()
    y = version.add(a, b)
    assert y.dtype == version.dtype and np.array_equal(y, a + b)
    assert np.array_equal(version.add(np.asfortranarray(a), b[::-1].copy()[::-1]), y)


@pytest.mark.parametrize("others", [1, 16, 33])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_concat_and_split(version, poison, shape, others):
    a, b = version.array(*shape), version.array(*shape[:-1], others, seed=1)
    version.split(version.concat(a, b), 1)
    poison()
    y = version.concat(a, b)
    assert y.dtype == version.dtype and np.array_equal(y, np.concatenate([a, b], axis=-1))
    parts = version.split(y, shape[-1])
    for part, whole in zip(parts, (a, b)):
        assert part.flags.c_contiguous and np.array_equal(part, whole)
    assert np.array_equal(version.concat(np.asfortranarray(a), b[..., ::-1].copy()[..., ::-1]), y)
    assert all(np.array_equal(p, q) for p, q in zip(version.split(np.asfortranarray(y), shape[-1]), parts))


def test_says_what_does_not_fit(version):
    a, b = version.array(2, 3, 4), version.array(2, 2, 4)
    with pytest.raises(ValueError, match=r"^add: shapes must be equal, got \(2, 3, 4\) and \(2, 2, 4\)$"):
        version.add(a, b)
    with pytest.raises(ValueError, match=r"^concat: shapes must be equal, got \(2, 3\) and \(2, 2\)$"):
        version.concat(a, b)
