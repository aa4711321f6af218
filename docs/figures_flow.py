"""The figure of chapter 23: the straight lines of flow matching's training, and the paths that a sampler takes."""

from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COUNT, HALF = 40, 2.5  # lines in each panel; how far a panel shows, up and down
COLOURS = ("#0072b2", "#d55e00")  # of what ends at -1, and at 1


def straight_lines() -> np.ndarray:
    """Two images of one pixel, -1 and 1: left lines from noises to images, right the ways of the mean velocity."""
    rng, s = np.random.default_rng(0), np.linspace(1, 0, 401)
    eps, x0 = rng.standard_normal(COUNT), rng.choice([-1.0, 1.0], COUNT)
    image = Image.new("RGB", (1720, 580), "white")
    _panel(image, 40, "training: lines between noises and images", (1 - s[:, None]) * x0 + s[:, None] * eps)
    _panel(image, 900, "sampling: along the mean of their velocities", followed(eps, s))
    return np.asarray(image.resize((860, 290), Image.Resampling.LANCZOS))


def followed(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Follow the exact mean velocity from noises x (n,) by Euler's method, through all s (k,): (k, n)."""
    places = [x]
    for here, there in pairwise(s):
        velocity = (places[-1] - np.tanh((1 - here) * places[-1] / here**2)) / here
        places.append(places[-1] + (there - here) * velocity)
    return np.array(places)


def _panel(image: Image.Image, left: int, title: str, ways: np.ndarray) -> None:
    """Draw ways (k, n) from left to right, in the colour of their end."""
    pen, font, small = ImageDraw.Draw(image), ImageFont.load_default(26), ImageFont.load_default(22)
    width, top, bottom = 780, 80, 500
    across = left + np.linspace(0, width, len(ways))
    up = lambda x: (top + bottom) / 2 - np.asarray(x) / HALF * (bottom - top) / 2
    pen.text((left + width // 2, 40), title, "#202028", font, "mm")
    pen.text((left, 545), "noise, s = 1", "#40404a", small, "lm")
    pen.text((left + width, 545), "image, s = 0", "#40404a", small, "rm")
    for way in ways.T:
        points = list(zip(across.tolist(), up(way).tolist()))
        pen.line(points, fill=COLOURS[int(way[-1] > 0)], width=3, joint="curve")
    for x in (-1, 1):
        pen.circle((left + width, float(up(x))), 9, fill="#202028")


FIGURES = [straight_lines]
