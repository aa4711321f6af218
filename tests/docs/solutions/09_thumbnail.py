"""Solution of exercise 9, and one that takes every n-th pixel instead of means."""

import numpy as np


def square(image):
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return image[top : top + side, left : left + side]


def thumbnail(image, size):
    image = square(image)
    block = len(image) // size
    means = image.reshape(size, block, size, block, -1).mean(axis=(1, 3))
    return np.rint(means).astype(np.uint8)


def wrong_thumbnail(image, size):
    image = square(image)
    return image[:: len(image) // size, :: len(image) // size]
