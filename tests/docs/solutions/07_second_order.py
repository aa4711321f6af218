"""Solution of exercise 7, and DPM-Solver++, which is exact for short steps only."""

import math


def coefficients(before, level, prev):
    h, back = prev.log_snr - level.log_snr, level.log_snr - before.log_snr
    c_x = prev.s / level.s  # property 1
    both = prev.a - c_x * level.a  # property 2 for x_t = a x0: c_x a + both = a'
    # Property 3: if x0_hat is lambda, y = lambda - 1 solves the equation, and x0_hat_last is lambda - back.  So
    # c_x a (lambda - 1) + both lambda - c_last back = a' (lambda' - 1).  With property 2, what is left of it is
    c_last = (both - prev.a * h) / back
    return c_x, both - c_last, c_last


def wrong_coefficients(before, level, prev):
    h, back = prev.log_snr - level.log_snr, level.log_snr - before.log_snr
    both = -prev.a * math.expm1(-h)
    c_last = -both * h / (2 * back)
    return prev.s / level.s, both - c_last, c_last
