"""Solution of exercise 6, and a step that is not translated back."""

import numpy as np


def euler_step(x_t, eps_hat, alpha_bar, alpha_bar_prev):
    sigma, sigma_prev = (np.sqrt((1 - a) / a) for a in (alpha_bar, alpha_bar_prev))
    y_prev = x_t / np.sqrt(alpha_bar) + (sigma_prev - sigma) * eps_hat
    return np.sqrt(alpha_bar_prev) * y_prev


def wrong_euler_step(x_t, eps_hat, alpha_bar, alpha_bar_prev):
    sigma, sigma_prev = (np.sqrt((1 - a) / a) for a in (alpha_bar, alpha_bar_prev))
    return x_t / np.sqrt(alpha_bar) + (sigma_prev - sigma) * eps_hat
