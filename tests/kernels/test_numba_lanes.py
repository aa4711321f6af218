"""The sum and the largest of a vector's lanes: right, and the same bits in every lane."""

import numpy as np
from numba import njit

from minidiff.kernels.numba_lanes import largest_of_lanes, sum_of_lanes
from minidiff.kernels.numba_vector import LANES, load, pointer, store


@njit
def over(x, sums, largest):
    for i in range(0, x.size, LANES):
        store(pointer(sums), i, sum_of_lanes(load(pointer(x), i)))
        store(pointer(largest), i, largest_of_lanes(load(pointer(x), i)))


def test_every_lane_holds_the_result():
    x = np.random.default_rng(0).normal(size=(200, LANES)).astype(np.float32)
    x[0], x[1] = -np.inf, np.arange(LANES)
    sums, largest = np.full_like(x, np.nan), np.full_like(x, np.nan)
    over(x, sums, largest)
    assert (sums.view(np.uint32) == sums[:, :1].view(np.uint32)).all()
    assert (largest == x.max(1, keepdims=True)).all() and sums[1, 0] == sum(range(LANES))
    # four additions, each rounded to half a last bit of what is at most the sum of the absolute numbers
    bound = 4 * 2.0**-24 * np.abs(x[1:]).sum(1, dtype=np.float64)
    assert (np.abs(sums[1:, 0] - x[1:].sum(1, dtype=np.float64)) <= bound).all()


def test_what_is_not_a_number_stays_so():
    x = np.ones((1, LANES), np.float32)
    x[0, 5] = np.nan
    sums, largest = np.zeros_like(x), np.zeros_like(x)
    over(x, sums, largest)
    assert np.isnan(sums).all()
