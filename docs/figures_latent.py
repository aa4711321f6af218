"""The figures of chapter 9: what an autoencoder keeps of images, and what noise does to latents.

make_figures.py calls them, with the weights that minidiff comes with.
"""

import numpy as np
from figures_editing import sheet

from minidiff.images.files import to_float, to_uint8
from minidiff.pipeline.pipeline import Pipeline
from minidiff.random import Key, Stream, normal
from minidiff.scenes import Scenes
from minidiff.training.autoencoder import contact_sheet

SHOWN = (32, 44, 27, 4, 18, 61)  # numbers of scenes
TIMES = (0, 200, 400, 550, 700, 850, 999)


def images(model: Pipeline, *numbers: int) -> np.ndarray:
    """Scenes that no training sees: (N, H, W, 3) uint8."""
    return Scenes(model.shape[0], split="test").batch(np.array(numbers))[0]


def decoded(model: Pipeline) -> np.ndarray:
    """Images, the same decoded from their latents, and the differences."""
    original = images(model, *SHOWN)
    again = to_uint8(model.space.decode(model.space.encode(to_float(original))))
    rows = contact_sheet(original, again, len(SHOWN)).reshape(3, len(SHOWN), *original.shape[1:])
    return sheet([list(row) for row in rows], [""] * len(SHOWN), zoom=1)


def latent_noise(model: Pipeline) -> np.ndarray:
    """One image with growing noise: on its pixels, and on its latents, decoded."""
    x0, schedule, rows = to_float(images(model, SHOWN[1])), model.process.schedule, []
    for space, array in (("pixels", x0), ("latents", model.space.encode(x0))):
        eps, row = normal(Key(0, Stream.NOISE, 0, np.arange(1)), array.shape[1:]), []
        for t in TIMES:
            level = schedule.level(t)
            x_t = (level.a * array + level.s * eps).astype(np.float32)
            row.append((x_t if space == "pixels" else model.space.decode(x_t))[0])
        rows.append(row)
    return sheet(rows, [f"t = {t}" for t in TIMES], zoom=1)


def latent_preview(model: Pipeline) -> np.ndarray:
    """Images decoded from their latents, and the linear previews of the same latents."""
    z = model.space.encode(to_float(images(model, *SHOWN)))
    return sheet([list(model.space.decode(z)), list(model.space.preview(z))], [""] * len(SHOWN), zoom=1)


FIGURES = [decoded, latent_noise, latent_preview]
