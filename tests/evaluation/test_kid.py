"""The kernel distance, precision and recall, the nearest training image: on sets whose answers are known."""

import numpy as np
import pytest

from minidiff.evaluation.metrics.kid import kid, kid_deviation
from minidiff.evaluation.metrics.nearest import nearest
from minidiff.evaluation.metrics.precision_recall import distances, precision_recall


def normal(n, seed, shift=0.0, D=8):
    return np.random.default_rng(seed).normal(size=(n, D)) + shift


def test_kid_is_the_sum_over_all_pairs():
    a, b = normal(4, 0, D=3), normal(5, 1, D=3)

    def k(x, y):
        return (sum(x * y) / 3 + 1) ** 3

    within = [np.mean([k(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j]) for x in (a, b)]
    across = np.mean([k(x, y) for x in a for y in b])
    assert kid(a, b) == pytest.approx(sum(within) - 2 * across)
    assert kid(a, b) == pytest.approx(kid(b, a))


def test_kid_has_no_bias_and_sees_a_shift():
    same = [kid(normal(50, 2 * i), normal(50, 2 * i + 1)) for i in range(200)]
    assert abs(np.mean(same)) < 4 * np.std(same) / np.sqrt(200)
    assert kid(normal(200, 0), normal(200, 1, shift=1.0)) > 20 * np.std(same)


def test_the_deviation_is_about_what_repetition_shows():
    values = [kid(normal(100, 2 * i, 0.3), normal(100, 2 * i + 1)) for i in range(100)]
    told = np.mean([kid_deviation(normal(100, 2 * i, 0.3), normal(100, 2 * i + 1)) for i in range(20)])
    assert 0.5 * np.std(values) < told < 2.5 * np.std(values)
    assert np.isnan(kid_deviation(normal(3, 0), normal(3, 1)))


@pytest.mark.parametrize("shapes", [((1, 3), (5, 3)), ((5, 3), (5, 4)), ((5,), (5, 3))])
def test_what_has_no_distance_is_refused(shapes):
    with pytest.raises(ValueError, match="kid: expected"):
        kid(*(np.zeros(shape) for shape in shapes))


def test_distances():
    a, b = normal(120, 0), normal(70, 1)
    np.testing.assert_allclose(distances(a, b), np.linalg.norm(a[:, None] - b, axis=-1))
    assert np.diag(distances(a, a)).max() == 0


def test_precision_and_recall():
    real = normal(300, 0)
    assert precision_recall(real, real) == (1, 1)
    assert precision_recall(normal(300, 1, shift=50.0), real) == (0, 0)
    few = np.repeat(real[:5], 60, axis=0) + 1e-9 * normal(300, 2)  # five good images, again and again
    precision, recall = precision_recall(few, real)
    assert precision == 1 and recall < 0.05
    wide = np.concatenate([normal(300, 3), normal(300, 4, shift=50.0)])  # all there is, and as much that is not
    precision, recall = precision_recall(wide, real)
    assert 0.4 < precision < 0.5 and recall > 0.7
    with pytest.raises(ValueError, match="expected more than 3"):
        precision_recall(real[:3], real)


def test_a_copy_is_nearer_than_a_stranger():
    training = normal(2500, 0)
    assert nearest(training[[7, 2400]], training).max() == 0
    strangers = nearest(normal(100, 1), training)
    np.testing.assert_allclose(strangers, distances(normal(100, 1), training).min(axis=1))
    copies = nearest(training[:100] + 0.05 * normal(100, 2), training)
    assert np.median(copies) < 0.2 * np.median(strangers)
