"""Solution of exercise 12, and a step that bends by r instead of 1 / r."""

import math


def step(x_t, x0_hat, x0_hat_before, before, level, prev):
    h = prev.log_snr - level.log_snr
    r = (level.log_snr - before.log_snr) / h
    D = x0_hat + (x0_hat - x0_hat_before) / (2 * r)
    return prev.s / level.s * x_t - prev.a * math.expm1(-h) * D


def wrong_step(x_t, x0_hat, x0_hat_before, before, level, prev):
    h = prev.log_snr - level.log_snr
    r = (level.log_snr - before.log_snr) / h
    D = x0_hat + (x0_hat - x0_hat_before) * r / 2
    return prev.s / level.s * x_t - prev.a * math.expm1(-h) * D
