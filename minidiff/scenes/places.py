"""The six places: the ground, and what stands behind the subject.

Idea: three planes and no more: something hazy at the horizon, the ground, and some detail.  What stands behind a
subject is pale and simple, so that the subject dominates the image.  A place without a subject may show near trees and
towers.
Leaves out the order of the layers: scenes.py.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minidiff.scenes import palette
from minidiff.scenes.dice import Dice
from minidiff.scenes.factors import BOAT, CLEAR, LABELS, NIGHT, NOTHING, SUMMER, WINTER, Factors
from minidiff.scenes.palette import mix
from minidiff.scenes.stamps import (
    OWN,
    SECOND,
    SHINING,
    SHINING_SECOND,
    Canvas,
    Figure,
    Shape,
    Stamp,
    box,
    capsule,
    ellipse,
    mark,
    paint,
    polygon,
    solid,
    stamp,
    stamps,
)


def _label(name: str) -> int:
    return LABELS.index(name)


WHITE = paint(252, 253, 255)
DARK, LIGHT = OWN.towards(20, 20, 60, 0.16), OWN.towards(255, 255, 240, 0.3)


def _ground(label: str) -> Stamp:
    """Return the ground below v = 0, slightly arched and darker towards the viewer."""
    return stamp(
        solid(OWN, ellipse(0, -6, 9, 6), label=_label(label), outline=0.7),
        mark(DARK, box(-4, -4, 4, -0.55), blur=0.9),
    )


GRASS, BEACH = _ground("ground"), _ground("sand")
HILL = stamp(solid(OWN, ellipse(0, 0, 1, 1), label=_label("hill"), outline=0.7))
DUNE = stamp(
    solid(OWN, ellipse(0, 0, 1, 1), label=_label("sand"), outline=0.7),
    mark(SECOND, ellipse(0, 0, 1, 1), within=[ellipse(0.7, -0.3, 1, 1)], opacity=0.6),
)

_TRUNK = solid(SECOND, box(-0.045, 0, 0.045, 0.4), label=_label("trunk"), outline=0)
_CROWN = (ellipse(0, 0.7, 0.27, 0.29), ellipse(-0.2, 0.52, 0.2, 0.19), ellipse(0.2, 0.52, 0.2, 0.19))
_PINE = (
    polygon((-0.34, 0.14), (0, 0.62), (0.34, 0.14)),
    polygon((-0.27, 0.38), (0, 0.84), (0.27, 0.38)),
    polygon((-0.19, 0.62), (0, 1.04), (0.19, 0.62)),
)
_SLOPES = ((0.28, 0.2, 0.15, 0.38), (0.22, 0.44, 0.12, 0.6), (0.15, 0.68, 0.09, 0.8))
_SNOW = (
    polygon((-0.11, 0.82), (0, 1.04), (0.11, 0.82)),
    *(capsule(side * a, low, side * b, high, 0.035) for side in (-1, 1) for a, low, b, high in _SLOPES),
)


def _foliage(*shapes: Shape) -> Figure:
    return solid(OWN, *shapes, label=_label("foliage"), outline=0.8)


ROUND, PINE, SNOWY = range(3)
TREES = stamps(
    [
        [_TRUNK, _foliage(*_CROWN), mark(LIGHT, ellipse(-0.1, 0.78, 0.15, 0.14), blur=0.06)],
        [_TRUNK, _foliage(*_PINE)],
        [_TRUNK, _foliage(*_PINE), mark(WHITE, *_SNOW, opacity=0.9)],
    ]
)


def _mountain(snow: float) -> list[Figure]:
    """Return a peak with snow above the given height."""
    peak, half = (0, 1), 1 - snow
    cap = (  # the lower edges overlap the triangle, so that no seam is visible
        polygon((-half, snow), peak, (half, snow)),
        polygon((-half * 0.8, snow + 0.06), (-half * 0.45, snow - 0.1), (0.0, snow + 0.06)),
        polygon((-half * 0.1, snow + 0.06), (half * 0.45, snow - 0.13), (half * 0.85, snow + 0.06)),
    )
    return [
        solid(OWN, polygon((-1, 0), peak, (1, 0)), label=_label("mountain"), outline=0.8),
        mark(DARK, polygon((0.12, 0), (0.08, 0.5), peak, (1, 0))),
        mark(WHITE, *cap, opacity=0.95),
    ]


MOUNTAINS = stamps([_mountain(0.66), _mountain(0.4)])

SEA = stamp(
    solid(OWN, box(-4, -4, 4, 0), label=_label("water"), outline=0.8),
    mark(SECOND, box(-4, -4, 4, -0.45), blur=0.9),
)
WAVE = stamp(mark(WHITE, capsule(-1, 0, 1, 0, 0.06), opacity=0.4))
_PATH = ((0.15, 0.3), (0.45, 0.5), (0.75, 0.7))  # how far below the horizon, how wide
GLITTER = stamp(mark(SHINING, *(capsule(-wide, -low, wide, -low, 0.05) for low, wide in _PATH), opacity=0.6))
SURF = stamp(mark(WHITE, ellipse(0, -6, 9, 6), opacity=0.7))

_CACTUS = (
    capsule(0, 0.0, 0, 0.88, 0.12),
    capsule(-0.34, 0.42, 0, 0.36, 0.09),
    capsule(-0.34, 0.42, -0.34, 0.68, 0.09),
    capsule(0.32, 0.54, 0, 0.48, 0.09),
    capsule(0.32, 0.54, 0.32, 0.8, 0.09),
)
CACTUS = stamp(solid(OWN, *_CACTUS, label=_label("foliage"), outline=0.7))

_PANES = [box(u - 0.2, v - 0.055, u + 0.2, v + 0.055) for v in (0.24, 0.5, 0.76) for u in (-0.42, 0.42)]
TOWERS = stamps(
    [
        [
            solid(OWN, box(-1, -1, 1, 1), label=_label("building"), outline=0.5),
            mark(SHINING_SECOND, *(pane for k, pane in enumerate(_PANES) if k not in dark)),
        ]
        for dark in ((), (1, 4), (2, 3))
    ]
)
STREET = stamp(
    solid(SECOND, box(-4, -4, 4, 0.14), label=_label("ground"), outline=0),
    solid(OWN, box(-4, -4, 4, 0), label=_label("road"), outline=0.7),
)
VERGE = stamp(solid(OWN, box(-4, -4, 4, 0), label=_label("ground"), outline=0.7))
DASH = stamp(mark(paint(240, 238, 226), box(-1, -0.15, 1, 0.15), opacity=0.8))
BLOSSOM = stamp(mark(OWN, ellipse(0, 0, 1, 1)), mark(paint(250, 214, 90), ellipse(0, 0, 0.4, 0.4)))


def _haze(f: Factors, colour: np.ndarray, amount: float) -> np.ndarray:
    """Mix a colour with haze, divided by the light, since the canvas will multiply the colour by the light."""
    return mix(colour, palette.HAZE[f.time] / palette.LIGHT[f.time], amount)


def _trees(
    canvas: Canvas,
    f: Factors,
    dice: Dice,
    x: Any,
    y: Any,
    height: Any,
    haze: float,
    visible: Any = True,
    pines: Any = False,
) -> None:
    """Place one tree of the season in each image, close to (x, y)."""
    pines = pines | ((f.season == SUMMER) & dice.bernoulli(0.5))
    kind = np.where(f.season == WINTER, SNOWY, np.where(pines, PINE, ROUND))
    leaf = np.where((kind == ROUND)[:, None], palette.GROVE[f.season], palette.PINE[f.season])
    leaf = _haze(f, leaf * dice.uniform(0.9, 1.1)[:, None], haze)
    x, y, height = x + dice.uniform(-0.06, 0.06), y + dice.uniform(-0.02, 0.02), height * dice.uniform(0.88, 1.12)
    canvas.place(TREES.pick(kind), x, y, height, colours=[leaf, _haze(f, palette.BARK, haze)], visible=visible)


def draw_field(canvas: Canvas, f: Factors, dice: Dice, sun: np.ndarray) -> None:
    """Two hills and a meadow; without a subject also a tree and flowers."""
    grass, alone = palette.GRASS[f.season], f.subject == NOTHING
    side, level = 1 - 2 * dice.integers(2), dice.uniform(-0.3, -0.2)
    x, height = side * dice.uniform(0.4, 0.7), dice.uniform(0.5, 0.62)
    canvas.place(HILL, x, -0.6, 1.1, height, colours=[_haze(f, grass, 0.4)])
    canvas.place(HILL, -side * dice.uniform(0.5, 0.8), -0.6, 1.0, 0.45, colours=[_haze(f, grass, 0.25)])
    canvas.place(GRASS, dice.uniform(-1, 1), level, 1, colours=[grass])
    for x in (-0.82, 0.82):
        _trees(canvas, f, dice, x, level - 0.06, 0.5, 0.2, dice.bernoulli(0.5) | alone)
    _trees(canvas, f, dice, -side * 0.4, level - 0.2, 0.8, 0.0, alone)
    for x in (-0.65, 0.0, 0.65):
        where = x + dice.uniform(-0.2, 0.2), dice.uniform(-0.9, -0.5)
        colours, blooms = [palette.PETALS[dice.integers(len(palette.PETALS))]], alone & (f.season <= SUMMER)
        canvas.place(BLOSSOM, *where, 0.085, colours=colours, visible=blooms)


def draw_forest(canvas: Canvas, f: Factors, dice: Dice, sun: np.ndarray) -> None:
    """A hazy row of trees at the edge of a clearing; without a subject also two near trees."""
    level, alone = dice.uniform(-0.34, -0.26), f.subject == NOTHING
    canvas.place(HILL, 0, -0.6, 1.6, 0.75, colours=[_haze(f, palette.GROVE[f.season], 0.55)])
    for x in (-0.8, -0.27, 0.27, 0.8):
        _trees(canvas, f, dice, x, level - 0.02, 0.95, 0.32)
    canvas.place(GRASS, dice.uniform(-1, 1), level, 1, colours=[mix(palette.GRASS[f.season], palette.BARK, 0.1)])
    for x in (-0.66, 0.7):
        _trees(canvas, f, dice, x, level - 0.24, 1.3, 0.05, alone)


def draw_mountains(canvas: Canvas, f: Factors, dice: Dice, sun: np.ndarray) -> None:
    """Three peaks, the middle one nearest, with more snow in winter; without a subject also two pines."""
    level, alone = dice.uniform(-0.34, -0.26), f.subject == NOTHING
    peak = MOUNTAINS.pick((f.season == WINTER).astype(np.int64))
    for x, height, haze in ((-0.62, 0.85, 0.35), (0.64, 0.9, 0.35), (0.0, 1.15, 0.15)):
        where, high = x + dice.uniform(-0.12, 0.12), height * dice.uniform(0.92, 1.08)
        canvas.place(peak, where, level - 0.1, high * 0.85, high, colours=[_haze(f, palette.ROCK, haze)])
    canvas.place(GRASS, dice.uniform(-1, 1), level, 1, colours=[palette.GRASS[f.season]])
    for x in (-0.72, 0.76):
        _trees(canvas, f, dice, x, level - 0.2, 0.85, 0.0, alone, pines=True)


def draw_sea(canvas: Canvas, f: Factors, dice: Dice, sun: np.ndarray) -> None:
    """Water that reflects the sun or moon, and a beach, which is wider if a subject stands on it."""
    canvas = canvas.under(palette.weather_light(f))  # the colours of water and sand depend on the time already
    horizon = dice.uniform(-0.12, -0.02)
    canvas.place(SEA, 0, horizon, 1, colours=[palette.WATER_FAR[f.time], palette.WATER_NEAR[f.time]])
    canvas.place(GLITTER, sun, horizon, 0.4, 0.6, colours=[palette.BODY[f.time]], visible=f.weather == CLEAR)
    for y in (-0.2, -0.36):
        canvas.place(WAVE, dice.uniform(-0.7, 0.7), y + dice.uniform(-0.04, 0.04), dice.uniform(0.14, 0.24), 0.5)
    shore = np.where(f.subject == BOAT, -0.96, np.where(f.subject == NOTHING, -0.84, -0.56))
    shore, tilt = shore + dice.uniform(-0.04, 0.04), dice.uniform(-2, 2)
    canvas.place(SURF, tilt, shore + 0.05, 1)
    canvas.place(BEACH, tilt, shore, 1, colours=[palette.SAND[f.time]])


def draw_desert(canvas: Canvas, f: Factors, dice: Dice, sun: np.ndarray) -> None:
    """Dunes, violet at night, and up to two cacti at the sides."""
    plain, alone = canvas.under(palette.weather_light(f)), f.subject == NOTHING
    sand, dune, side = palette.SAND[f.time], palette.DUNE[f.time], 1 - 2 * dice.integers(2)
    level, far = dice.uniform(-0.36, -0.28), mix(dune, palette.HAZE[f.time], 0.35)
    plain.place(HILL, -side * 0.6, -0.6, 1.1, dice.uniform(0.5, 0.65), colours=[far])
    plain.place(DUNE, side * dice.uniform(0.4, 0.7), -0.7, 1.1, dice.uniform(0.6, 0.75), side, [dune, sand])
    plain.place(BEACH, dice.uniform(-1, 1), level, 1, colours=[sand])
    for x, height in ((-0.8, 0.5), (0.8, 0.6)):
        where, there = x + dice.uniform(-0.08, 0.08), dice.bernoulli(0.6) | alone
        high = np.where(alone, 1.4, 1.0) * height
        canvas.place(CACTUS, where, level - 0.1, high, facing=side, colours=[palette.CACTUS], visible=there)


def draw_city(canvas: Canvas, f: Factors, dice: Dice, sun: np.ndarray) -> None:
    """A pale skyline behind a street with grass and trees; without a subject also a nearer row of towers."""
    level = dice.uniform(-0.34, -0.28)
    _towers(canvas, f, dice, level, ((-0.78, 0.9), (-0.3, 0.66), (0.2, 0.98), (0.72, 0.74)), 0.45)
    _towers(canvas, f, dice, level, ((-0.62, 0.7), (0.02, 0.86), (0.62, 0.6)), 0.0, f.subject == NOTHING)
    grass = palette.GRASS[f.season]
    canvas.place(STREET, 0, level, 1, colours=[palette.ROAD, grass])
    for x in (-0.84, 0.84):
        _trees(canvas, f, dice, x, level, 0.62, 0.1)
    for x in (-0.6, 0.1, 0.8):
        canvas.place(DASH, x, -0.6, 0.17)
    canvas.place(VERGE, 0, -0.78, 1, colours=[grass])


def _towers(
    canvas: Canvas,
    f: Factors,
    dice: Dice,
    level: Any,
    row: Sequence[tuple[float, float]],
    haze: float,
    visible: Any = True,
) -> None:
    """Place a row of towers (x, height).  Their windows reflect the sky by day and are lit at night."""
    dark = (f.time == NIGHT)[:, None]
    for x, height in row:
        wall = _haze(f, palette.WALLS[dice.integers(len(palette.WALLS))], haze)
        pane = mix(palette.WINDOW[f.time], wall * canvas.light, np.where(dark, haze, 0.5))
        where, high, wide = x + dice.uniform(-0.06, 0.06), height * dice.uniform(0.85, 1.15), dice.uniform(0.2, 0.25)
        tower = TOWERS.pick(dice.integers(len(TOWERS)))
        canvas.place(tower, where, level, wide, high, colours=[wall, pane], visible=visible)


_DRAW = (draw_field, draw_forest, draw_mountains, draw_sea, draw_desert, draw_city)  # in the order of PLACES


def draw_places(canvas: Canvas, factors: Factors, dice: Dice, sun: np.ndarray) -> None:
    """Place the ground and the background.  sun: (N,) float32, the x coordinate of the sun or moon."""
    for place, draw_place in enumerate(_DRAW):
        here = np.flatnonzero(factors.place == place)
        draw_place(canvas.of(here), factors.of(here), dice.of(here), sun[here])
