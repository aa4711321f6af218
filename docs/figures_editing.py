"""The figures of chapter 8: editing existing images with a trained model.

make_figures.py calls them, with the weights that minidiff comes with.  The images to edit are scenes that no training
sees.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from minidiff.diffusion.edit import Edit
from minidiff.diffusion.editing import estimate_sigma
from minidiff.images.files import make_grid, to_float, to_uint8
from minidiff.pipeline.pipeline import Pipeline
from minidiff.random import Key, Stream, normal
from minidiff.scenes import Scenes

ZOOM = 3
BOAT, DOG, SEA, TREE, FLOWER, CAT = 32, 44, 47, 27, 1, 4  # numbers of scenes


def scene(number: int) -> np.ndarray:
    """An image to edit: (32, 32, 3) float32 in [-1, 1]."""
    return to_float(Scenes(split="test").batch(np.array([number]))[0][0])


def sheet(rows: list[list[np.ndarray]], heads: list[str], zoom: int = ZOOM) -> np.ndarray:
    """Rows of images (H, W, 3), float or uint8, under a line of words."""
    u8 = [to_uint8(one) if one.dtype != np.uint8 else one for row in rows for one in row]
    below = make_grid(np.array(u8), columns=len(heads), zoom=zoom)
    image = Image.new("RGB", (below.shape[1], below.shape[0] + 24), "white")
    image.paste(Image.fromarray(below), (0, 24))
    pen, step = ImageDraw.Draw(image), below.shape[1] / len(heads)
    for i, head in enumerate(heads):
        pen.text((step * (i + 0.5), 12), head, "#40404a", ImageFont.load_default(13), "mm")
    return np.asarray(image)


def strengths(model: Pipeline) -> np.ndarray:
    """Image to image: three images with growing strength."""
    strength, rows = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0), []
    for number in (BOAT, DOG, TREE):
        x0 = scene(number)
        rows.append([x0, *(model.sample(edit=Edit(x0, strength=s), seed=1)[0] for s in strength)])
    return sheet(rows, ["image", *(f"{s:g}" for s in strength)])


def cleaned(model: Pipeline) -> np.ndarray:
    """Three images under noise of 15, 30, 60 and 120 grey levels; below, the same with the noise removed."""
    levels, rows = (15, 30, 60, 120), []
    for k, number in enumerate((BOAT, FLOWER, DOG)):
        x0, row = scene(number), []
        for grey in levels:
            eps = normal(Key(0, Stream.NOISE, k, grey), x0.shape)
            y = to_float(to_uint8(x0 + grey * 2 / 255 * eps))  # what a file can hold: cut at black and white
            row += [y, model.sample(edit=Edit(y, sigma="estimate"))[0]]
            print(f"  noise of {grey} grey levels, found {estimate_sigma(y[None]) * 255 / 2:.0f}")
        rows.append([x0, *row])
    return sheet(rows, ["image", *(head for grey in levels for head in (f"noise {grey}", "cleaned"))])


def masked(model: Pipeline) -> np.ndarray:
    """Inpainting: what the prompt asks for, where the mask is white, with each ten steps taken 1 or 5 times."""
    rows = []
    for number, prompt, (top, bottom, left, right) in (
        (SEA, "a boat", (6, 30, 6, 26)),
        (CAT, "a rabbit", (2, 31, 3, 28)),
        (DOG, None, (0, 32, 16, 32)),
    ):
        x0, mask = scene(number), np.zeros((32, 32, 1), np.float32)
        mask[top:bottom, left:right] = 1
        row = [x0, np.repeat(mask * 2 - 1, 3, axis=2)]
        for resample in (1, 5):
            row += list(model.sample(3, prompt=prompt, edit=Edit(x0, mask=mask, resample=resample), seed=2))
        rows.append(row)
    return sheet(rows, ["image", "mask", "once", "once", "once", "5 times", "5 times", "5 times"])


def ways(model: Pipeline) -> np.ndarray:
    """From one image to another: above, the mean of their pixels; below, the mean of their noises."""
    rows, weight = [], np.linspace(0, 1, 8)
    for a, b in ((BOAT, TREE), (CAT, DOG)):
        x, y = scene(a), scene(b)
        rows.append([((1 - w) * x + w * y).astype(np.float32) for w in weight])
        rows.append(list(model.sample(8, edit=Edit(x, to=y))))
    return sheet(rows, [f"{w:.2f}" for w in weight])


def variations(model: Pipeline) -> np.ndarray:
    """An image, the image from its inverted noise, and images from that noise mixed with more and more other noise."""
    amounts, rows = (0.0, 0.2, 0.3, 0.5, 0.7, 0.85, 1.0), []
    for number in (BOAT, DOG, CAT):
        x0 = scene(number)
        rows.append([x0, *(model.sample(edit=Edit(x0, vary=v), seed=3)[0] for v in amounts)])
    return sheet(rows, ["image", *(f"{v:g}" for v in amounts)])


FIGURES = [strengths, cleaned, masked, ways, variations]
