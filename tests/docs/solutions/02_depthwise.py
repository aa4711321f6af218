"""Solution of exercise 2, and one that forgets to turn the filter round in the backward pass."""

import numpy as np


def views(x):
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return {(k, l): padded[:, k : k + x.shape[1], l : l + x.shape[2]] for k in range(3) for l in range(3)}


def forward(x, w):
    return sum(view * w[at] for at, view in views(x).items())


def gradient_of_w(x, w, gy):
    gw = np.empty_like(w)
    for at, view in views(x).items():
        gw[at] = (view * gy).sum(axis=(0, 1, 2))
    return gw


def backward(x, w, gy):
    return forward(gy, w[::-1, ::-1]), gradient_of_w(x, w, gy)


wrong_forward = forward


def wrong_backward(x, w, gy):
    return forward(gy, w), gradient_of_w(x, w, gy)
