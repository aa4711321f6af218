"""Exercise 22: finding copies.

A copy of a training image is close to that image and much further from all others. But how close is close? Where
training images are dense, every image is close to one. So compare the distance to the nearest training image with the
distances to the others that are near:

    ratio = d_1 / mean(d_1, d_2, …, d_k)

where d_1 <= d_2 <= … are the distances to the training images. It is 0 for an exact copy, and not far below 1 for an
image that has no training image closer than usual. (Carlini et al. 2023, arXiv:2301.13188, section 5.1, with k = 50 and
a constant factor.)

Hint: `distances` gives all of them, (n, m), and np.sort or np.partition brings the smallest k to the front.
"""

import sys

import numpy as np
from checking import expect, report

from minidiff.evaluation.metrics.precision_recall import distances


def copy_ratio(samples: np.ndarray, training: np.ndarray, k: int = 50) -> np.ndarray:
    """samples: (n, D) and training: (m, D), features, with m of k or more. Returns the ratio of each sample, (n,)."""
    raise NotImplementedError


def check() -> None:
    """Raise an error that says what is missing, unless `copy_ratio` is right."""
    line = np.arange(10.0)[:, None]
    found = copy_ratio(np.array([[3.1], [5.0]]), line, 3)
    expect(np.shape(found) == (2,), f"two samples have two ratios, (2,), found {np.shape(found)}")
    expect(abs(found[0] - 0.1 / 0.7) < 1e-9, f"distances of 0.1, 0.9 and 1.1 give 0.1 / 0.7, found {found[0]:.4f}")
    expect(abs(found[1]) < 1e-9, f"the ratio of an exact copy is 0, found {found[1]:.4f}")

    rng = np.random.default_rng(0)
    spread = np.where(np.arange(1000) < 500, 0.05, 1.0)[:, None]  # dense on the left, sparse on the right
    place = np.where(spread < 1, -5.0, 5.0)
    training = place + spread * rng.standard_normal((1000, 8))
    fresh = (place + spread * rng.standard_normal((1000, 8)))[::20]
    copies = (training + 0.1 * spread * rng.standard_normal((1000, 8)))[::50]
    nearest = [distances(each, training).min(axis=1) for each in (copies, fresh)]
    expect(nearest[0].max() > nearest[1].min(), "here a distance alone cannot tell copies from other images")
    as_copies, as_fresh = copy_ratio(copies, training), copy_ratio(fresh, training)
    expect(
        max(as_copies) < min(as_fresh),
        f"copies have ratios up to {max(as_copies):.2f}, other images from {min(as_fresh):.2f} on: they overlap",
    )
    again = copy_ratio(10 * copies, 10 * training)
    expect(np.allclose(as_copies, again), "if all features are ten times as large, the ratios are the same")


if __name__ == "__main__":
    sys.exit(report(check))
