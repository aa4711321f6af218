"""Solution of exercise 23, and one that numbers all places in a row, as one numbers words."""

import numpy as np


def waves(t, width):
    frequency = 10000.0 ** (-np.arange(width // 2) / (width // 2 - 1))
    angle = t[..., None] * frequency
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1)


def positions(height, width, size):
    row, column = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    return np.concatenate([waves(row, size // 2), waves(column, size // 2)], axis=-1)


def wrong_positions(height, width, size):
    return waves(np.arange(height * width).reshape(height, width), size)
