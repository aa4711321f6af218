"""The figures of README and of chapters 10 to 12: one model with prompts, drawings and references.

make_figures.py calls them, with the weights that minidiff comes with.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from figures_editing import sheet
from PIL import Image, ImageDraw, ImageFont

from minidiff.data.control import read_control
from minidiff.explain.recording import Recording
from minidiff.images.files import make_grid, to_uint8
from minidiff.pipeline.pipeline import Pipeline
from minidiff.scenes.factors import STYLES, choose, sensible
from minidiff.scenes.scenes import render

GROUND, INK = "white", "#40404a"


def dog_and_forest(model: Pipeline) -> np.ndarray:
    """README's first screen: two prompts at seed 0."""
    prompts = ("a dog", "an autumn forest")
    return _captioned([(prompt, model.sample(8, prompt=prompt, seed=0), 4) for prompt in prompts], 2, 15)


def prompts(model: Pipeline) -> np.ndarray:
    """Twelve prompts, three images each."""
    asked = (
        "a small dog in a winter forest", "two red cars in the city", "a boat on the sea at sunset",
        "a big blue balloon in the mountains", "a yellow house at night", "a cat in a desert",
        "three flowers in a spring field", "a rabbit as an ink drawing", "a tree as an old photo",
        "a bird in neon light", "a city in the rain", "autumn mountains in pastel",
    )  # fmt: skip
    return _captioned([(prompt, model.sample(3, prompt=prompt, seed=0), 3) for prompt in asked], 3, 13)


def guidance(model: Pipeline) -> np.ndarray:
    """The same noise, the same prompts, with growing guidance scales."""
    scales, rows = (0, 1, 2, 3, 5, 8, 12), []
    for prompt in ("a red flower in a field", "a small boat on the sea", "a purple house in a winter forest"):
        rows.append([model.sample(1, prompt=prompt, guidance_scale=w, seed=2)[0] for w in scales])
    return sheet(rows, [str(w) for w in scales], zoom=1)


def looks(model: Pipeline) -> np.ndarray:
    """The attention map of each word, early, in the middle and late; bright is high."""
    prompt = "a red car in a winter forest at night"
    recording = Recording(model.model, model.process, images=1)
    with recording:
        for step in model.generate(1, prompt=prompt, seed=1, on_prediction=recording.on_prediction):
            recording.take(step)
    words, rows = prompt.split(), []
    for index in (5, 20, 35):
        frame = recording.frames[index]
        assert frame.outputs is not None
        maps = np.concatenate([_large(each) for each in frame.outputs.attention.values()]).mean(axis=0)  # (32, 32, M)
        shown = [
            to_uint8(frame.step.x_t[0]),
            to_uint8(frame.step.x0_hat[0]),
        ]
        for k in range(len(words)):
            one = maps[:, :, k] / maps[:, :, k].max()
            shown.append(np.repeat(np.uint8(255 * one)[:, :, None], 3, axis=2))
        rows.append(shown)
    return sheet(rows, ["x_t", "x0_hat", *words])


def sketches(model: Pipeline) -> np.ndarray:
    """Two drawings made by hand, and four images each."""
    asked = {
        _house: (
            "a house in a winter forest", "a red house in a desert", "a house at night", "a house as an ink drawing",
        ),
        _boat: ("a boat on the sea", "a yellow boat at sunset", "a boat in the rain", "a boat as an old photo"),
    }  # fmt: skip
    rows = []
    for scribble, several in asked.items():
        drawing = scribble()
        with tempfile.TemporaryDirectory() as place:
            drawing.save(Path(place) / "drawing.png")
            control = read_control(Path(place) / "drawing.png", *model.shape[:2], "edges")
        small = np.asarray(drawing.resize(model.shape[1::-1], Image.Resampling.LANCZOS).convert("RGB"))
        drawn = [model.sample(1, prompt=prompt, control=control, seed=0)[0] for prompt in several]
        rows.append([("a drawing", small), ("its lines", np.repeat(control, 3, axis=2)), *zip(several, drawn)])
    return _captioned([(head, one[None], 1) for row in rows for head, one in row], 6, 12)


def styles(model: Pipeline) -> np.ndarray:
    """One prompt and one noise under five references; below the words alone, and each reference with another prompt."""
    several = ("duotone", "vintage", "neon", "ink", "pastel")
    n = len(several)
    sample = np.arange(40, 40 + n)
    factors = choose(0, "test", sample)
    tones = np.array([STYLES.index(style) for style in several])
    shown = render(sensible(replace(factors, style=tones)), model.shape[0], 0, "test", sample).image
    rows = [[np.full_like(shown[0], 255), *shown]]
    for prompt in ("a cat in a field", "a house in the mountains"):
        drawn = model.sample(n, prompt=prompt, reference=shown, seed=1)
        rows.append([model.sample(1, prompt=prompt, seed=1)[0], *drawn])
    return sheet(rows, ["words alone", *several], zoom=1)


def _captioned(parts: list[tuple[str, np.ndarray, int]], across: int, size: int) -> np.ndarray:
    """Groups of images (N, H, W, 3) uint8, so many columns each, side by side in rows, their words below."""
    grids = [make_grid(each, columns, max(96 // each.shape[1], 1)) for _, each, columns in parts]
    width, height, below, gap = grids[0].shape[1], grids[0].shape[0], 2 * size, 14
    down = -(-len(parts) // across)
    image = Image.new("RGB", (across * (width + gap) - gap, down * (height + below)), GROUND)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    for k, ((words, _, _), made) in enumerate(zip(parts, grids)):
        x, y = k % across * (width + gap), k // across * (height + below)
        image.paste(Image.fromarray(made), (x, y))
        lines = _broken(words, pen, font, width)
        pen.multiline_text((x + width // 2, y + height + below // 2 - 2), lines, INK, font, "mm", 1, "center")
    return np.asarray(image)


def _broken(words: str, pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Break words that are too long for one line into two."""
    if pen.textlength(words, font) <= width:
        return words
    each = words.split()
    return "\n".join([" ".join(each[: (len(each) + 1) // 2]), " ".join(each[(len(each) + 1) // 2 :])])


def _large(look: np.ndarray) -> np.ndarray:
    """Maps (N, h, w, M), as large as the image."""
    times = 32 // look.shape[1]
    return look.repeat(times, axis=1).repeat(times, axis=2)


def _paper() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("L", (512, 512), 250)
    return image, ImageDraw.Draw(image)


def _house() -> Image.Image:
    image, pen = _paper()
    pen.line([(110, 430), (112, 250), (400, 246), (402, 428), (110, 430)], 20, 9, "curve")
    pen.line([(80, 258), (252, 110), (436, 250)], 20, 9, "curve")
    pen.line([(225, 426), (226, 330), (290, 328), (292, 426)], 20, 8, "curve")
    pen.rectangle((140, 290, 195, 345), None, 20, 8)
    pen.rectangle((320, 288, 375, 343), None, 20, 8)
    return image


def _boat() -> Image.Image:
    image, pen = _paper()
    pen.line([(90, 350), (150, 420), (370, 418), (430, 346), (90, 350)], 20, 9, "curve")
    pen.line([(256, 348), (254, 90)], 20, 9)
    pen.line([(268, 110), (390, 310), (270, 312)], 20, 9, "curve")
    pen.line([(242, 130), (150, 312), (244, 312)], 20, 9, "curve")
    pen.line([(10, 396), (120, 392)], 20, 7)
    pen.line([(400, 390), (505, 394)], 20, 7)
    return image


FIGURES = [dog_and_forest, prompts, guidance, sketches, styles]
SMALL = [looks]
