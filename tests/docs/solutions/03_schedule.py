"""Solution of exercise 3, and a schedule whose snr falls by the same amount instead of the same factor."""

import numpy as np


def alpha_bar_of(T, first, last):
    snr = np.exp(np.linspace(np.log(first), np.log(last), T))
    return snr / (1 + snr)


def wrong_alpha_bar_of(T, first, last):
    snr = np.linspace(first, last, T)
    return snr / (1 + snr)
