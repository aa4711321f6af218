"""Random numbers, noising and the sampler's update for a batch of 32 images of 32x32x3."""

import numpy as np
from conftest import float32, float64

from minidiff.kernels.noise import reference

N, SHAPE, KEY = 32, (32, 32, 32, 3), (1, 2, 3)
SAMPLE, AMOUNT = np.arange(N), np.linspace(0.1, 0.9, N)


def test_random_bits(table, measure):
    exact = reference.random_bits(KEY, SAMPLE, 3072).astype(np.float64)
    measure("random_bits 32 x 3072", lambda: table.random_bits(KEY, SAMPLE, 3072), exact)


def test_normal(table, measure):
    exact = reference.normal(KEY, SAMPLE, 3072)
    measure("normal 32 x 3072", lambda: table.normal(KEY, SAMPLE, 3072), exact)


def test_add_noise(table, measure):
    x0 = float32(*SHAPE)
    exact = reference.add_noise(*float64(x0, AMOUNT, AMOUNT), KEY, SAMPLE)
    measure(f"add_noise {SHAPE}", lambda: table.add_noise(x0, AMOUNT, AMOUNT, KEY, SAMPLE), exact)


def test_sampler_update_without_noise(table, measure):
    x, x0_hat = float32(*SHAPE), float32(*SHAPE, seed=1)
    c = np.array([0.6, 0.4, 0, 0])
    exact = reference.sampler_update(*float64(x, x0_hat), None, c, KEY, SAMPLE)
    measure(f"sampler_update c3 = 0 {SHAPE}", lambda: table.sampler_update(x, x0_hat, None, c, KEY, SAMPLE), exact)


def test_sampler_update_with_noise(table, measure):
    x, x0_hat, x0_hat_last = (float32(*SHAPE, seed=seed) for seed in range(3))
    c = np.array([0.6, 0.4, -0.1, 0.2])
    exact = reference.sampler_update(*float64(x, x0_hat, x0_hat_last), c, KEY, SAMPLE)
    measure(f"sampler_update {SHAPE}", lambda: table.sampler_update(x, x0_hat, x0_hat_last, c, KEY, SAMPLE), exact)
