"""A whole diffusion model: `python docs/chapter1/two_moons.py [FIGURE.png]` trains it and draws two moons with it."""

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for NumPy's BLAS: on products this small its threads only wait

import numpy as np
from PIL import Image, ImageDraw

T = 1000  # noise levels: t = 0 is almost clean, t = T - 1 is noise alone
alpha_bar = 1 / (1 + np.exp(np.linspace(-8, 7, T)))  # the clean point's share of the variance at t
a, s = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)  # how much of the clean point and of the noise is in x_t
rng = np.random.default_rng(0)


def two_moons(n):
    """The data: n clean points, and which moon each is of, 0 or 1. A point is an image of two pixels."""
    label, angle = rng.integers(0, 2, n), rng.uniform(0, np.pi, n)
    moon = np.stack([2 * np.cos(angle) - 1, 0.5 - 2 * np.sin(angle)], axis=1)
    return np.where(label[:, None] == 0, moon, -moon) + 0.08 * rng.normal(size=(n, 2)), label


def network_input(x_t, t, label):
    """The network's input: the noisy point, how noisy it is, and a label (2 says: none). (n, 13)"""
    phase = np.pi * t[:, None] / T * np.array([0.5, 1, 2, 4])
    return np.concatenate([x_t, np.cos(phase), np.sin(phase), np.eye(3)[label]], axis=1)


def forward(network, h):
    """eps_hat, the network's estimate of the noise in its input, and all that backward will need."""
    saved = []
    for i, (w, b) in enumerate(network):
        u = h @ w + b
        gate = 1 / (1 + np.exp(-u)) if i < len(network) - 1 else 1.0
        saved.append((h, u, gate))
        h = u * gate  # SiLU, u sigmoid(u); the last layer is left as it is
    return h, saved


def backward(network, saved, gy):
    """The chain rule, from the last layer to the first: each layer's gradients of w and of b."""
    gradients = []
    for (w, _), (h, u, gate) in zip(reversed(network), reversed(saved)):
        gu = gy * gate * (1 + u * (1 - gate))  # the derivative of u sigmoid(u), or 1 where gate is 1
        gradients.insert(0, (h.T @ gu, gu.sum(axis=0)))
        gy = gu @ w.T
    return gradients


def train(layers=((13, 128), (128, 128), (128, 128), (128, 2)), steps=4000, n=256):
    """Add noise to clean points, estimate the noise, improve the network a little (Adam), repeat."""
    network = [(rng.normal(size=(i, o)) * np.sqrt(2 / i), np.zeros(o)) for i, o in layers]
    moments, losses = [[(0 * p, 0 * p) for p in layer] for layer in network], []
    for step in range(1, steps + 1):
        x0, label = two_moons(n)
        label = np.where(rng.random(n) < 0.5, 2, label)  # half of them without, so that it learns both
        t, eps = rng.integers(0, T, n), rng.normal(size=(n, 2))
        x_t = a[t, None] * x0 + s[t, None] * eps  # a clean point plus noise
        eps_hat, saved = forward(network, network_input(x_t, t, label))
        losses.append(np.mean((eps_hat - eps) ** 2))
        gradients = backward(network, saved, 2 * (eps_hat - eps) / eps.size)
        rate = 3e-3 * (1 - step / steps) * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        for layer, gradient, moment in zip(network, gradients, moments):
            for p, g, (m, v) in zip(layer, gradient, moment):
                m += 0.1 * (g - m)
                v += 0.001 * (g * g - v)
                p -= rate * m / (np.sqrt(v) + 1e-8)
    return network, losses


def sample(network, label, steps=50):
    """Start with noise and remove a little of it, again and again (DDIM). Every x_t: (steps + 1, n, 2)"""
    path, times = [rng.normal(size=(len(label), 2))], np.linspace(T - 1, 0, steps).astype(int)
    for t, a_prev, s_prev in zip(times, [*a[times[1:]], 1.0], [*s[times[1:]], 0.0]):
        eps_hat, _ = forward(network, network_input(path[-1], np.full(len(label), t), label))
        x0_hat = (path[-1] - s[t] * eps_hat) / a[t]  # the estimate of the clean point
        path.append(a_prev * x0_hat + s_prev * eps_hat)  # a little less noise
    return np.array(path)


def draw(file, rows, size=480):
    """A row for each (path, colours): x_t at five times from noise to image, then the way there."""
    image = Image.new("RGB", (6 * size, len(rows) * size), "#0d1020")
    pen = ImageDraw.Draw(image, "RGBA")
    for row, (path, colours) in enumerate(rows):
        for points, colour in zip((path.swapaxes(0, 1) / 8 + [0.5, row + 0.5]) * size, colours):
            for x, y in points[[0, 18, 26, 32, 50]] + [[column * size, 0] for column in range(5)]:
                pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=(*colour, 130))
            pen.line([(x + 5 * size, y) for x, y in points], fill=(*colour, 28), width=2)
    image.reduce(2).save(file)


if __name__ == "__main__":
    network, losses = train()
    print(f"loss {np.mean(losses[:100]):.3f} -> {np.mean(losses[-100:]):.3f}")
    colours = np.array([(255, 176, 84), (94, 205, 255), (226, 228, 240)])
    rows = [(sample(network, label), colours[label]) for label in (np.full(3000, 2), np.arange(3000) % 2)]
    draw(sys.argv[1] if len(sys.argv) > 1 else "two_moons.png", rows)
