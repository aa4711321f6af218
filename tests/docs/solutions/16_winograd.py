"""Solution of exercise 16, and one that forgets to transpose the inverse."""

import numpy as np


def powers(points, count):
    return np.vstack([points[:, None] ** np.arange(count), np.eye(count)[-1]])


def matrices(points):
    n = len(points) + 1
    return powers(points, n - 2).T, powers(points, 3), np.linalg.inv(powers(points, n)).T


def wrong_matrices(points):
    n = len(points) + 1
    return powers(points, n - 2).T, powers(points, 3), np.linalg.inv(powers(points, n))
