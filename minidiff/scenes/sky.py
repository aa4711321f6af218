"""The sky with its sun or moon, stars and clouds; and rain and snow.

Idea: the rasteriser paints each shape in one colour, without colour gradients, but it can blur the edge of a shape.  So
the sky fades from one colour to the other through a box whose edge is blurred over more than half of the canvas, and a
glow is a disc with a blurred edge.  Stars, rain and snow are few and soft, because a denoiser learns single bright
pixels last, and draws them as speckles.
Leaves out the ground: places.py.
"""

import numpy as np

from minidiff.scenes import palette
from minidiff.scenes.dice import Dice
from minidiff.scenes.factors import CLEAR, LABELS, NIGHT, RAINY, SNOWY, SUNSET, Factors
from minidiff.scenes.stamps import (
    SHINING,
    SHINING_SECOND,
    Canvas,
    box,
    capsule,
    ellipse,
    mark,
    paint,
    solid,
    stamp,
    stamps,
)

SKY_LABEL, CLOUD_LABEL, LIGHT_LABEL = (LABELS.index(name) for name in ("sky", "cloud", "light"))

BACKDROP = stamp(
    solid(SHINING, box(-1.2, -1.2, 1.2, 1.2), label=SKY_LABEL, outline=0),
    mark(SHINING_SECOND, box(-4, -4, 4, 0.15), blur=1.3),
)
GLOW = stamp(mark(SHINING, ellipse(0, 0, 1, 1), blur=1.8, opacity=0.45))
SUN = stamp(solid(SHINING, ellipse(0, 0, 1, 1), label=LIGHT_LABEL))
MOON = stamp(solid(SHINING, ellipse(0, 0, 1, 1), label=LIGHT_LABEL, without=[ellipse(0.5, 0.35, 0.85, 0.85)]))
STAR = stamp(mark(SHINING, ellipse(0, 0, 1, 1), blur=1, opacity=0.8))

_PUFFS = (
    (ellipse(0, 0.3, 0.5, 0.36), ellipse(-0.55, 0.12, 0.42, 0.24), ellipse(0.55, 0.1, 0.45, 0.25)),
    (ellipse(-0.18, 0.32, 0.42, 0.32), ellipse(0.3, 0.2, 0.5, 0.28), ellipse(-0.6, 0.08, 0.36, 0.2)),
)
CLOUDS = stamps(
    [
        [
            solid(SHINING, *puffs, label=CLOUD_LABEL, outline=0.6, opacity=0.95),
            mark(SHINING_SECOND, *puffs, within=[box(-2, -1, 2, 0.06)], blur=0.12, opacity=0.6),
        ]
        for puffs in _PUFFS
    ]
)
DROP = stamp(mark(paint(226, 238, 252), capsule(0.12, 0.5, -0.12, -0.5, 0.1), opacity=0.45))
FLAKE = stamp(mark(paint(255, 255, 255), ellipse(0, 0, 1, 1), blur=0.8, opacity=0.9))


def draw_sky(canvas: Canvas, f: Factors, dice: Dice) -> np.ndarray:
    """Place the sky.  Returns the x coordinate of the sun or moon, (N,) float32, for its reflection on the sea."""
    dull = np.where(f.weather == CLEAR, 0.0, np.where(f.time == NIGHT, 0.25, 0.6)).astype(np.float32)[:, None]
    top, low = palette.SKY_TOP[f.time], palette.SKY_LOW[f.time]
    grey = palette.table((186, 194, 208), (170, 156, 166), (52, 56, 84))[f.time]
    top, low = palette.mix(top, grey * np.float32(0.85), dull), palette.mix(low, grey, dull)
    shade = dice.uniform(0.96, 1.04)[:, None]
    canvas.place(BACKDROP, 0, 0, 1, colours=[top * shade, low * shade])

    clear, night = f.weather == CLEAR, f.time == NIGHT
    side = 1 - 2 * dice.integers(2)
    x, y = side * dice.uniform(0.5, 0.78), np.where(f.time == SUNSET, dice.uniform(0.3, 0.5), dice.uniform(0.6, 0.76))
    body = palette.BODY[f.time]
    canvas.place(GLOW, x, y, 0.27, colours=[body], visible=clear)
    canvas.place(SUN, x, y, 0.2, colours=[body], visible=clear & ~night)
    canvas.place(MOON, x, y, 0.22, facing=-side, colours=[body], visible=clear & night)
    for _ in range(5):
        where = dice.uniform(-0.95, 0.95), dice.uniform(0.25, 0.95)
        canvas.place(STAR, *where, dice.uniform(0.03, 0.045), colours=[palette.CREAM], visible=clear & night)
    _draw_clouds(canvas, f, dice, side)
    return x


def _draw_clouds(canvas: Canvas, f: Factors, dice: Dice, side: np.ndarray) -> None:
    tone = np.where((f.weather == CLEAR)[:, None], palette.CLOUD[f.time], palette.CLOUD[f.time] * np.float32(0.86))
    under = palette.mix(tone, palette.SKY_TOP[f.time], 0.35)
    for k in range(3):
        away = -side if k == 0 else 1 - 2 * dice.integers(2)  # the first cloud does not cover the sun
        x, y, size = away * dice.uniform(0.35, 0.85), dice.uniform(0.45, 0.8), dice.uniform(0.32, 0.44)
        there = np.where(f.weather == CLEAR, dice.bernoulli(0.5) & (k == 0) & (f.time < NIGHT), True)
        canvas.place(CLOUDS.pick(dice.integers(2)), x, y, size, size * 0.9, away, [tone, under], there)


def draw_weather(canvas: Canvas, f: Factors, dice: Dice) -> None:
    """Place rain or snow in front of everything else."""
    wet = np.flatnonzero(f.weather >= RAINY)
    canvas, f, dice = canvas.of(wet), f.of(wet), dice.of(wet)
    for k in range(10):  # on a jittered grid, for an even distribution
        x, y = -0.8 + 0.4 * (k % 5) + dice.uniform(-0.18, 0.18), 0.5 - k // 5 + dice.uniform(-0.45, 0.45)
        canvas.place(DROP, x, y, dice.uniform(0.24, 0.34), visible=f.weather == RAINY)
        canvas.place(FLAKE, x, y, dice.uniform(0.05, 0.065), visible=f.weather == SNOWY)
