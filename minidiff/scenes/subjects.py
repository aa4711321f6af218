"""The ten subjects, and where they are placed in an image.

Idea: a subject is a stamp in coordinates (u, v) of its own, with its feet at v = 0, facing right.  One unit of them is
about one unit of the canvas, so that a single big subject covers about a quarter of the image; a test measures it.  The
outlines differ as much as possible, because a network that trains for minutes learns little more than outlines.  OWN is
the colour of the subject, SHINING_SECOND that of the windows of a house or a car.
Leaves out the background: sky.py and places.py.
"""

import numpy as np

from minidiff.scenes import palette
from minidiff.scenes.dice import Dice
from minidiff.scenes.factors import NIGHT, NOTHING, SUBJECTS, TREE, Factors
from minidiff.scenes.stamps import (
    OWN,
    SHINING_SECOND,
    Canvas,
    Figure,
    box,
    capsule,
    ellipse,
    mark,
    paint,
    polygon,
    solid,
    stamps,
)

DARK, DEEP = OWN.towards(20, 10, 20, 0.28), OWN.towards(40, 20, 30, 0.5)
LIGHT, PALE, STRIPE = OWN.towards(255, 246, 230, 0.5), OWN.towards(255, 255, 255, 0.75), OWN.towards(255, 238, 190, 0.7)
INK, WOOD = paint(38, 32, 40), paint(122, 84, 54)
ROSE, RED, BEAK = paint(240, 150, 165), paint(222, 54, 60), paint(250, 156, 40)
EYE, STEM, LEAF = paint(236, 222, 90), paint(60, 138, 62), paint(84, 168, 78)
METAL, CREAM = paint(206, 210, 218), paint(250, 240, 224)


def _shadow(reach: float) -> Figure:
    return mark(paint(24, 34, 52), ellipse(0, 0.02, reach, 0.1), opacity=0.3, blur=0.1)


A_DOG = [
    _shadow(0.8),
    solid(DARK, capsule(-0.38, 0.4, -0.38, 0.09, 0.1), capsule(0.34, 0.4, 0.34, 0.09, 0.1)),
    solid(
        OWN,
        capsule(-0.6, 0.66, -0.84, 1.06, 0.085),  # tail
        capsule(-0.4, 0.6, 0.2, 0.62, 0.29),
        capsule(-0.56, 0.45, -0.56, 0.11, 0.12),
        capsule(0.14, 0.45, 0.14, 0.11, 0.12),
        ellipse(0.4, 1.04, 0.36, 0.34),
        ellipse(0.68, 0.92, 0.22, 0.17),
    ),
    mark(LIGHT, ellipse(0.7, 0.89, 0.19, 0.13)),
    mark(RED, capsule(0.12, 0.76, 0.42, 0.68, 0.07)),
    mark(DEEP, ellipse(0.16, 1.04, 0.14, 0.29)),  # ear
    mark(INK, ellipse(0.85, 0.99, 0.09, 0.08), ellipse(0.46, 1.13, 0.075, 0.085)),
]

A_CAT = [
    _shadow(0.6),
    solid(DARK, capsule(0.3, 0.14, 0.64, 0.18, 0.1), capsule(0.64, 0.18, 0.7, 0.62, 0.09)),
    solid(
        OWN,
        ellipse(0, 0.44, 0.38, 0.46),
        ellipse(0, 0.14, 0.46, 0.15),
        ellipse(0, 1.06, 0.48, 0.37),
        polygon((-0.46, 1.1), (-0.44, 1.64), (-0.05, 1.36)),
        polygon((0.46, 1.1), (0.44, 1.64), (0.05, 1.36)),
    ),
    mark(LIGHT, ellipse(0, 0.4, 0.19, 0.28), ellipse(0, 0.92, 0.22, 0.15)),
    mark(ROSE, polygon((-0.38, 1.28), (-0.375, 1.5), (-0.2, 1.36)), polygon((0.38, 1.28), (0.375, 1.5), (0.2, 1.36))),
    mark(EYE, ellipse(-0.2, 1.1, 0.105, 0.115), ellipse(0.2, 1.1, 0.105, 0.115)),
    mark(INK, ellipse(-0.19, 1.1, 0.05, 0.1), ellipse(0.19, 1.1, 0.05, 0.1)),
    mark(ROSE, ellipse(0, 0.97, 0.07, 0.05)),
]

A_RABBIT = [
    _shadow(0.6),
    solid(PALE, ellipse(-0.46, 0.3, 0.18, 0.17)),  # tail
    solid(
        OWN,
        ellipse(-0.18, 1.36, 0.14, 0.38),
        ellipse(0.18, 1.36, 0.14, 0.38),
        ellipse(0, 0.94, 0.4, 0.34),
        ellipse(0, 0.42, 0.44, 0.42),
        ellipse(-0.24, 0.1, 0.23, 0.12),
        ellipse(0.24, 0.1, 0.23, 0.12),
    ),
    mark(ROSE, ellipse(-0.18, 1.38, 0.065, 0.27), ellipse(0.18, 1.38, 0.065, 0.27)),
    mark(PALE, ellipse(0, 0.4, 0.24, 0.28), ellipse(0, 0.82, 0.19, 0.13)),
    mark(INK, ellipse(-0.17, 1.0, 0.075, 0.09), ellipse(0.17, 1.0, 0.075, 0.09)),
    mark(ROSE, ellipse(0, 0.88, 0.07, 0.055)),
]

A_BIRD = [
    solid(
        OWN,
        ellipse(-0.02, 0.44, 0.52, 0.36),
        ellipse(0.42, 0.76, 0.31, 0.3),
        polygon((-0.34, 0.6), (-0.98, 0.82), (-0.92, 0.44), (-0.34, 0.28)),  # tail
    ),
    mark(LIGHT, ellipse(0.14, 0.32, 0.32, 0.2)),
    solid(BEAK, polygon((0.68, 0.88), (1.0, 0.74), (0.68, 0.62))),
    solid(DARK, polygon((-0.5, 1.34), (0.26, 0.6), (0.0, 0.3), (-0.42, 0.5)), ellipse(-0.08, 0.5, 0.32, 0.22)),  # wing
    mark(INK, ellipse(0.5, 0.84, 0.08, 0.085)),
]

A_HOUSE = [
    _shadow(0.8),
    solid(DEEP, box(0.28, 0.85, 0.48, 1.34)),
    solid(OWN.towards(255, 250, 240, 0.1), box(-0.6, 0, 0.6, 0.74)),
    solid(DEEP.towards(120, 60, 50, 0.35), polygon((-0.8, 0.7), (0, 1.3), (0.8, 0.7))),
    mark(DEEP, box(-0.14, 0, 0.14, 0.46)),
    mark(SHINING_SECOND, box(-0.47, 0.3, -0.23, 0.56), box(0.23, 0.3, 0.47, 0.56)),
]

A_CAR = [
    _shadow(0.85),
    solid(
        OWN,
        capsule(-0.66, 0.4, 0.66, 0.4, 0.23),
        polygon((-0.56, 0.56), (-0.34, 1.02), (0.26, 1.02), (0.54, 0.56)),
    ),
    mark(SHINING_SECOND, polygon((-0.42, 0.62), (-0.28, 0.92), (-0.07, 0.92), (-0.07, 0.62))),
    mark(SHINING_SECOND, polygon((0.05, 0.62), (0.05, 0.92), (0.22, 0.92), (0.39, 0.62))),
    mark(DARK, capsule(-0.66, 0.26, 0.66, 0.26, 0.06)),
    mark(EYE, ellipse(0.8, 0.44, 0.08, 0.075)),
    solid(INK, ellipse(-0.46, 0.2, 0.22, 0.22)),
    solid(INK, ellipse(0.46, 0.2, 0.22, 0.22)),
    mark(METAL, ellipse(-0.46, 0.2, 0.1, 0.1), ellipse(0.46, 0.2, 0.1, 0.1)),
]

A_BOAT = [
    solid(WOOD, box(-0.05, 0.3, 0.05, 1.64), outline=0),  # mast
    solid(OWN, polygon((-0.1, 0.48), (-0.78, 0.48), (-0.1, 1.58))),
    solid(LIGHT, polygon((0.1, 0.48), (0.1, 1.42), (0.66, 0.48))),
    solid(WOOD, polygon((-0.86, 0.38), (0.9, 0.38), (0.6, 0), (-0.58, 0))),
    mark(CREAM, box(-0.8, 0.28, 0.82, 0.37)),
    mark(CREAM, capsule(-0.6, 0.0, 0.62, 0.0, 0.05), opacity=0.6),  # foam
]

A_TREE = [
    _shadow(0.5),
    solid(WOOD, polygon((-0.17, 0), (-0.11, 0.75), (0.11, 0.75), (0.17, 0))),
    solid(
        OWN,
        ellipse(0, 1.22, 0.5, 0.4),
        ellipse(-0.36, 0.9, 0.36, 0.31),
        ellipse(0.36, 0.9, 0.36, 0.31),
        ellipse(0, 0.84, 0.4, 0.26),
    ),
    mark(DARK, ellipse(0.24, 0.78, 0.36, 0.15), ellipse(-0.26, 0.74, 0.3, 0.11), opacity=0.5, blur=0.08),
    mark(LIGHT, ellipse(-0.14, 1.34, 0.26, 0.17), ellipse(-0.44, 1.0, 0.16, 0.12), opacity=0.7, blur=0.08),
]

_ENVELOPE = (
    ellipse(0, 1.16, 0.6, 0.54),
    polygon((-0.56, 0.98), (0.56, 0.98), (0.18, 0.44), (-0.18, 0.44)),
)
A_BALLOON = [
    mark(WOOD, capsule(-0.17, 0.5, -0.13, 0.2, 0.035), capsule(0.17, 0.5, 0.13, 0.2, 0.035)),
    solid(OWN, *_ENVELOPE),
    mark(STRIPE, *_ENVELOPE, within=[ellipse(0, 1.1, 0.38, 0.9)]),
    mark(OWN, *_ENVELOPE, within=[ellipse(0, 1.1, 0.14, 0.9)]),
    solid(WOOD, box(-0.17, 0, 0.17, 0.24)),
]

_PETALS = ((0.36, 0), (0.18, 0.312), (-0.18, 0.312), (-0.36, 0), (-0.18, -0.312), (0.18, -0.312))
A_FLOWER = [
    _shadow(0.35),
    solid(STEM, capsule(0, 0.03, 0, 0.7, 0.06)),
    solid(LEAF, ellipse(-0.28, 0.26, 0.26, 0.11)),
    solid(LEAF, ellipse(0.28, 0.36, 0.26, 0.11)),
    solid(OWN, *(ellipse(u, 1.1 + v, 0.23, 0.23) for u, v in _PETALS), ellipse(0, 1.1, 0.38, 0.38)),
    mark(DARK, ellipse(0, 1.1, 0.25, 0.25), opacity=0.6, blur=0.06),
    mark(EYE, ellipse(0, 1.1, 0.19, 0.19)),
]

_FIGURES = {
    "nothing": [],
    "dog": A_DOG,
    "cat": A_CAT,
    "rabbit": A_RABBIT,
    "bird": A_BIRD,
    "house": A_HOUSE,
    "car": A_CAR,
    "boat": A_BOAT,
    "tree": A_TREE,
    "balloon": A_BALLOON,
    "flower": A_FLOWER,
}
STAMPS = stamps([_FIGURES[name] for name in SUBJECTS])

# Half the width of a stamp, and the height on the canvas at which its feet stand.
_HALF_WIDTH = {"dog": 0.9, "cat": 0.7, "rabbit": 0.6, "bird": 1.0, "house": 0.8, "car": 0.9, "boat": 0.9}
HALF_WIDTH = np.array([_HALF_WIDTH.get(name, 0.65) for name in SUBJECTS], np.float32)
_FEET = {"bird": -0.5, "boat": -0.72, "balloon": -0.8}
FEET = np.array([_FEET.get(name, -0.84) for name in SUBJECTS], np.float32)

_SIZE = np.array([0.74, 0.93], np.float32)  # small, big
# The sizes and x coordinates of one, two and three subjects.
_SCALE = np.array([1.0, 0.66, 0.56], np.float32)
_PLACES = np.array([[0, 0, 0], [-0.46, 0.46, 0], [-0.6, 0.6, 0]], np.float32)
_STEPS = np.array([0.0, 0.0, -0.1], np.float32)  # the third stands lower, and so nearer


def draw_subjects(canvas: Canvas, factors: Factors, dice: Dice) -> None:
    """Place the subject of each image one, two or three times."""
    some = np.flatnonzero(factors.subject != NOTHING)
    f, dice = factors.of(some), dice.of(some)
    canvas = canvas.of(some).under(
        palette.light(f, 0.55)
    )  # the time changes the colours of a subject less than those of its place
    shade = dice.uniform(0.93, 1.07)[:, None]
    own = np.where((f.subject == TREE)[:, None], palette.LEAVES[f.season], palette.NAMED[f.colour]) * shade
    pane = np.where((f.time == NIGHT)[:, None], palette.WINDOW[NIGHT], palette.WINDOW[0])
    scale = _SIZE[f.size] * _SCALE[f.count - 1] * dice.uniform(0.95, 1.05)
    room = np.maximum(np.float32(0.98) - scale * HALF_WIDTH[f.subject], np.float32(0))
    x, y = dice.uniform(-0.05, 0.05), FEET[f.subject] + dice.uniform(-0.03, 0.03)
    x += np.where(f.count == 1, (f.position - 1) * room, np.float32(0))
    what = STAMPS.pick(f.subject)
    for k in range(3):
        at, up = x + _PLACES[f.count - 1, k], y + np.where(f.count > 1, _STEPS[k], np.float32(0))
        canvas.place(what, at, up, scale, facing=f.facing, colours=[own, pane], visible=f.count > k, label=f.subject)
