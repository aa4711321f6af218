"""Solution of exercise 14, and one that draws from the wrong distribution."""

import numpy as np


def divergence(mean, std, mean_q, std_q):
    return np.log(std_q / std) + (std**2 + (mean - mean_q) ** 2) / (2 * std_q**2) - 0.5


def drawn(mean, std, mean_q, std_q, eps):
    z = mean + std * eps
    log = lambda mean, std: -(((z - mean) / std) ** 2) / 2 - np.log(std)
    return float((log(mean, std) - log(mean_q, std_q)).mean())


def wrong_divergence(mean, std, mean_q, std_q):
    return np.log(std_q / std) + (std**2 + (mean - mean_q) ** 2) / (2 * std_q**2) - 0.5


def wrong_drawn(mean, std, mean_q, std_q, eps):
    z = mean_q + std_q * eps
    log = lambda mean, std: -(((z - mean) / std) ** 2) / 2 - np.log(std)
    return float((log(mean, std) - log(mean_q, std_q)).mean())
