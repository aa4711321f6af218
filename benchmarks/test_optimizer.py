"""The optimiser over a network of four million weights."""

import numpy as np
from conftest import float32, float64

from minidiff.kernels.optimizer import reference

COUNT = 4_170_000
HYPER = np.array([1e-3, 0.9, 0.999, 1e-8, 0.01, 0.1, 0.001, 0.5, 0.99])


def test_square_sum(table, measure):
    x = float32(COUNT)
    exact = np.array([reference.square_sum(x.astype(np.float64))])
    measure(f"square_sum {COUNT}", lambda: np.array([table.square_sum(x)]), exact)


def test_adamw_ema(table, measure):
    w, g, m, v, ema = (np.abs(float32(COUNT, seed=seed)) for seed in range(5))
    actual, exact = [a.copy() for a in (w, m, v, ema)], list(float64(w, m, v, ema))
    table.adamw_ema(actual[0], g, *actual[1:], COUNT // 2, HYPER)
    reference.adamw_ema(exact[0], g.astype(np.float64), *exact[1:], COUNT // 2, HYPER)
    for a, e in zip(actual, exact):
        assert np.abs(a - e).max() < 1e-5 * np.abs(e).max()
    measure(f"adamw_ema {COUNT}", lambda: table.adamw_ema(w, g, m, v, ema, COUNT // 2, HYPER))
