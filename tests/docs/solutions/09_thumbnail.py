"""Solution of exercise 9, and one that takes every n-th pixel instead of means."""

import numpy as np


def square(picture):
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    return picture[top : top + side, left : left + side]


def thumbnail(picture, size):
    picture = square(picture)
    block = len(picture) // size
    means = picture.reshape(size, block, size, block, -1).mean(axis=(1, 3))
    return np.rint(means).astype(np.uint8)


def wrong_thumbnail(picture, size):
    picture = square(picture)
    return picture[:: len(picture) // size, :: len(picture) // size]
