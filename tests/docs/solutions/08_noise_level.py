"""Solution of exercise 8, and one that takes edges for noise."""

import numpy as np


def noise_level(y):
    d = (y[1:] - y[:-1]) / np.sqrt(2)
    return float(np.median(np.abs(d)) / 0.6745)


def wrong_noise_level(y):
    return float(np.std(y))
