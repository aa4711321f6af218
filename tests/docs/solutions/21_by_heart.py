"""Solution of exercise 21, and one that forgets how many samples are nearest to a training image by chance."""

import numpy as np


def share_near(samples, training, held_out):
    folder = np.concatenate([training, held_out])
    distance = ((samples[:, None] - folder) ** 2).sum(axis=2)  # (n, m + k)
    return np.mean(distance.argmin(axis=1) < len(training))


def share_of_copies(samples, training, held_out):
    chance = len(training) / (len(training) + len(held_out))
    return (share_near(samples, training, held_out) - chance) / (1 - chance)  # share_near is p + (1 - p) chance


def wrong_share_of_copies(samples, training, held_out):
    return share_near(samples, training, held_out)
