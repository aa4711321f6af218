"""Solution of exercise 22, and one that compares with all training images instead of those that are near."""

import numpy as np

from minidiff.evaluation.metrics.precision_recall import distances


def copy_ratio(samples, training, k=50):
    near = np.sort(distances(samples, training), axis=1)[:, :k]
    return near[:, 0] / near.mean(axis=1)


def wrong_copy_ratio(samples, training, k=50):
    all_ = distances(samples, training)
    return all_.min(axis=1) / all_.mean(axis=1)
