"""Solution of exercise 24, and one that decides for the nearer image instead of taking the mean."""

import numpy as np

EPS = np.linspace(-8, 8, 4001)
WEIGHT = np.exp(-(EPS**2) / 2) / np.sqrt(2 * np.pi) * (EPS[1] - EPS[0])


def eps_hat(x_t, a, s):
    return (x_t - a * np.tanh(a * x_t / s**2)) / s


def least_loss(a, s):
    return float(WEIGHT @ (eps_hat(a + s * EPS, a, s) - EPS) ** 2)


def wrong_eps_hat(x_t, a, s):
    return (x_t - a * np.sign(x_t)) / s


def wrong_least_loss(a, s):
    return float(WEIGHT @ (wrong_eps_hat(a + s * EPS, a, s) - EPS) ** 2)
