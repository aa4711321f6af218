"""The figure of chapter 22: real points, and those of five models whose faults are known.

make_figures.py calls it.  The points are those of the chapter's first example, drawn in the same order.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIZE, TITLE = 572, 40  # pixels of a panel, drawn at twice its size
HALF = 1.9  # how far a panel shows to each side


def five_models() -> np.ndarray:
    """Points of "real" and of each model, over the real ones in grey."""
    rng = np.random.default_rng(1)
    angle = 2 * np.pi * np.arange(8) / 8
    centres = np.stack([np.cos(angle), np.sin(angle)], axis=1)  # (8, 2)
    around = lambda kinds, spread: centres[kinds] + spread * rng.standard_normal((len(kinds), 2))
    asked = rng.integers(8, size=500)
    training = around(asked, 0.1)
    real, _ = (around(rng.integers(8, size=500), 0.1) for _ in range(2))
    panels = {
        "real": real,
        "good": around(asked, 0.1),
        "copies": training + 0.001 * rng.standard_normal((500, 2)),
        "typical": around(asked, 0.02),
        "one kind": around(np.zeros(500, int), 0.1),
        "blur": np.sqrt(0.51) * rng.standard_normal((500, 2)),
    }
    image = Image.new("RGB", (3 * SIZE, 2 * (SIZE + TITLE)), "white")
    for i, (name, points) in enumerate(panels.items()):
        image.paste(_panel(name, points, real), (i % 3 * SIZE, i // 3 * (SIZE + TITLE)))
    return np.asarray(image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS))


def _panel(name: str, points: np.ndarray, behind: np.ndarray) -> Image.Image:
    """Points (n, 2) in blue over others in grey, with a title."""
    panel = Image.new("RGB", (SIZE, SIZE + TITLE), "white")
    pen = ImageDraw.Draw(panel)
    for drawn, colour, radius in ((behind, "#d4d6de", 4), (points, "#0072b2", 2.5)):
        for x, y in (drawn / (2 * HALF) + 0.5) * SIZE + [0, TITLE]:
            pen.circle((x, y), radius, fill=colour)
    pen.text((SIZE // 2, 8), name, "#40404a", ImageFont.load_default(26), "ma")
    return panel


FIGURES = [five_models]
