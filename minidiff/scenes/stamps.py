"""Shapes are joined into figures, figures make a stamp, and stamps are placed on a canvas.

Idea: a dog is a short table of ellipses, capsules and polygons in coordinates (u, v) of its own.  Shapes that are
joined and painted together are a figure: either solid, or a mark that colours what is behind it.  To place a stamp in
500 images, in 500 sizes and colours, takes a few operations on whole arrays.  A canvas is the square [-1, 1] x [-1, 1]
with y upwards.  It collects the placed stamps, the farthest first, as one display list for each image; the backend's
`raster` draws these lists.  The columns of a row in a display list are explained in kernels/raster/reference.py.

    BALL = stamp(solid(OWN, ellipse(0, 0.5, 0.5, 0.5)), mark(WHITE, ellipse(-0.2, 0.7, 0.1, 0.1)))
    canvas.place(BALL, x=0, y=-0.8, width=0.6, colours=[red])

Leaves out the stamps themselves: subjects.py, sky.py, places.py.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

# The kinds of shapes and the ways to join them, as in kernels/raster/reference.py (a test compares them).
ELLIPSE, CAPSULE, POLYGON = 1, 2, 3
BEGIN, UNITE, WITHIN, WITHOUT = 0, 1, 2, 3
GEOMETRY, JOINING, BLUR, COLOUR, OPACITY, LABEL, OUTLINE = slice(1, 9), 9, 10, slice(11, 14), 14, 15, 16
COLUMNS = 17
MARK = -1
OWN_LABEL = -2  # in a stamp only: `Canvas.place` sets the label


# ---- shapes: a kind and eight numbers ----
@dataclass(frozen=True)
class Shape:
    kind: int
    numbers: tuple[float, ...]


def ellipse(x: float, y: float, rx: float, ry: float) -> Shape:
    """Return an ellipse round (x, y) with radii rx and ry."""
    return Shape(ELLIPSE, (x, y, rx, ry, 0, 0, 0, 0))


def capsule(ax: float, ay: float, bx: float, by: float, r: float) -> Shape:
    """Return a line from a to b with round ends; r is half its thickness."""
    return Shape(CAPSULE, (ax, ay, bx, by, r, 0, 0, 0))


def polygon(*corners: tuple[float, float]) -> Shape:
    """Return a convex polygon with three or four corners."""
    corners = (*corners, corners[-1])[:4]
    return Shape(POLYGON, tuple(number for corner in corners for number in corner))


def box(left: float, bottom: float, right: float, top: float) -> Shape:
    """Return a rectangle with sides parallel to the axes."""
    return polygon((left, bottom), (left, top), (right, top), (right, bottom))


# The role of each of the eight numbers: a coordinate (x, y), a length along x (w) or along y (h), or unused (-).
_ROLES = {ELLIPSE: "xywh----", CAPSULE: "xyxyh---", POLYGON: "xyxyxyxy"}


# ---- paints: a share of a colour that is given when a stamp is placed, plus a fixed colour ----
@dataclass(frozen=True)
class Paint:
    """rgb = share * colours[slot] + fixed, multiplied by the light unless the paint shines by itself."""

    share: float
    fixed: tuple[float, float, float]  # in [0, 1]
    slot: int = 0
    shines: bool = False

    def towards(self, red: float, green: float, blue: float, amount: float) -> "Paint":
        """Return this paint mixed with a fixed colour, given as 0 to 255."""
        r, g, b = (old * (1 - amount) + new / 255 * amount for old, new in zip(self.fixed, (red, green, blue)))
        return Paint(self.share * (1 - amount), (r, g, b), self.slot, self.shines)


def paint(red: float, green: float, blue: float) -> Paint:
    """Return a paint of a fixed colour, given as 0 to 255."""
    return Paint(0.0, (red / 255, green / 255, blue / 255))


OWN = Paint(1.0, (0.0, 0.0, 0.0))  # the first colour that is given when a stamp is placed
SECOND = Paint(1.0, (0.0, 0.0, 0.0), slot=1)
SHINING = Paint(1.0, (0.0, 0.0, 0.0), shines=True)
SHINING_SECOND = Paint(1.0, (0.0, 0.0, 0.0), slot=1, shines=True)


# ---- figures: shapes that are painted together ----
@dataclass(frozen=True)
class Figure:
    paint: Paint
    shapes: tuple[tuple[int, Shape], ...]  # (way of joining, shape)
    label: int
    outline: float
    blur: float
    opacity: float


def solid(
    ink: Paint,
    *shapes: Shape,
    label: int = OWN_LABEL,
    outline: float = 1.0,
    without: Iterable[Shape] = (),
    opacity: float = 1.0,
) -> Figure:
    """Return a solid figure: the union of the shapes, minus those in `without`.

    It hides what is behind it, and the edge and label maps show it.
    """
    return Figure(ink, _join(shapes, (), without), label, outline, 0.0, opacity)


def mark(
    ink: Paint,
    *shapes: Shape,
    within: Iterable[Shape] = (),
    blur: float = 0.0,
    opacity: float = 1.0,
) -> Figure:
    """Return a mark, clipped to the shapes in `within`: it colours what is behind it.

    The edge and label maps do not show it.
    """
    return Figure(ink, _join(shapes, within, ()), MARK, 0.0, blur, opacity)


def _join(shapes: Sequence[Shape], within: Iterable[Shape], without: Iterable[Shape]) -> tuple[tuple[int, Shape], ...]:
    ways = [BEGIN] + [UNITE] * (len(shapes) - 1)
    cuts = [(WITHIN, shape) for shape in within] + [(WITHOUT, shape) for shape in without]
    return (*zip(ways, shapes), *cuts)


# ---- stamps: figures as numbers ----
@dataclass(frozen=True)
class Stamp:
    """A set of S stamps (one, from `stamp`), each up to K rows of a display list, in coordinates of its own."""

    rows: np.ndarray  # (S, K, 17) float32
    roles: dict[str, np.ndarray]  # "x", "y", "w", "h": (S, K, 8) float32, 1 where a number has that role
    share: np.ndarray  # (S, K, 1) float32
    slot: np.ndarray  # (S, K) int64
    shines: np.ndarray  # (S, K, 1) float32

    def __len__(self) -> int:
        return len(self.rows)

    def pick(self, choice: np.ndarray) -> "Stamp":
        """Return one stamp of the set for each image.  choice: (N,) int64."""
        roles = {name: role[choice] for name, role in self.roles.items()}
        return Stamp(self.rows[choice], roles, self.share[choice], self.slot[choice], self.shines[choice])


def stamp(*figures: Figure) -> Stamp:
    """Return a stamp of figures, the farthest first."""
    return stamps([figures])


def stamps(figure_lists: Sequence[Sequence[Figure]]) -> Stamp:
    """Return a set of stamps for `Stamp.pick`; shorter stamps are padded with empty rows."""
    shape = len(figure_lists), max(sum(len(figure.shapes) for figure in figures) for figures in figure_lists)
    rows, share, shines = (np.zeros((*shape, width), np.float32) for width in (COLUMNS, 1, 1))
    roles = {name: np.zeros((*shape, 8), np.float32) for name in "xywh"}
    slot = np.zeros(shape, np.int64)
    for s, figures in enumerate(figure_lists):
        parts = [(figure, way, shape) for figure in figures for way, shape in figure.shapes]
        for k, (figure, way, part) in enumerate(parts):
            ink = figure.paint
            tail = (figure.blur, *ink.fixed, figure.opacity, figure.label, figure.outline)
            rows[s, k] = (part.kind, *part.numbers, way, *tail)
            share[s, k], slot[s, k], shines[s, k] = ink.share, ink.slot, ink.shines
            for name, role in roles.items():
                role[s, k] = [letter == name for letter in _ROLES[part.kind]]
    return Stamp(rows, roles, share, slot, shines)


# ---- canvas: where stamps are placed ----
class Canvas:
    """The display lists of N images."""

    def __init__(self, light: np.ndarray):
        """light: (N, 3) float32, the colour of white in each image's time and weather."""
        self.light = light
        self._images = np.arange(len(light))
        self._placed: list[tuple[np.ndarray, np.ndarray]] = []

    def of(self, images: np.ndarray) -> "Canvas":
        """Return a view of some of the images: what is placed on it is placed on this canvas."""
        part = Canvas(self.light[images])
        part._images, part._placed = self._images[images], self._placed
        return part

    def under(self, light: np.ndarray) -> "Canvas":
        """Return a view of this canvas with another light, (N, 3) float32."""
        part = Canvas(light)
        part._images, part._placed = self._images, self._placed
        return part

    def place(
        self,
        what: Stamp,
        x: ArrayLike,
        y: ArrayLike,
        width: ArrayLike,
        height: ArrayLike | None = None,
        facing: ArrayLike = 1,
        colours: Sequence[np.ndarray] = (),
        visible: ArrayLike = True,
        label: ArrayLike = 0,
    ) -> None:
        """Place a stamp in front of everything placed so far, in every image of the canvas.

            across = x + facing * width * u,   up = y + height * v        for a point (u, v) of the stamp

        x, y, width, height (default: the width), facing (1 or -1), visible: numbers or arrays (N,).
        colours: for each slot of the stamp's paints an array (3,) or (N, 3) in [0, 1].
        label: number or (N,), the label of figures that have none.
        """
        n = len(self.light)
        x, y, width, height = (_column(value) for value in (x, y, width, width if height is None else height))
        mirrored = width * _column(facing)
        g, is_a = what.rows[..., GEOMETRY], what.roles
        rows = np.repeat(what.rows, n, axis=0) if len(what) == 1 else what.rows.copy()
        across = g * is_a["x"] * mirrored + is_a["x"] * x + g * is_a["w"] * width
        up = g * is_a["y"] * height + is_a["y"] * y + g * is_a["h"] * height
        rows[..., GEOMETRY] = across + up
        rows[..., BLUR] *= height[..., 0]
        rows[..., COLOUR] = self._colour(what, colours)
        rows[..., OPACITY] *= _column(visible)[..., 0]
        rows[..., LABEL] = np.where(rows[..., LABEL] == OWN_LABEL, _column(label)[..., 0], rows[..., LABEL])
        self._placed.append((self._images, rows))

    def _colour(self, what: Stamp, colours: Sequence[np.ndarray]) -> np.ndarray:
        n, rgb = len(self.light), what.rows[..., COLOUR]
        if colours:
            palette = np.stack([np.broadcast_to(colour, (n, 3)) for colour in colours], axis=1)  # (N, slots, 3)
            rgb = rgb + what.share * palette[np.arange(n)[:, None], what.slot]
        return rgb * (what.shines + (1 - what.shines) * self.light[:, None, :])

    def layers(self) -> "Canvas":
        """Return a canvas whose labels are layers: 0 for the first stamp placed on an image, 1 for the next, …"""
        relabelled, layer = Canvas(self.light), np.zeros(len(self.light), np.float32)
        for images, rows in self._placed:
            rows = rows.copy()
            rows[..., LABEL] = np.where(rows[..., LABEL] == MARK, MARK, layer[images, None])
            layer[images] += 1
            relabelled._placed.append((images, rows))
        return relabelled

    def lists(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the display lists: shapes (N, K, 17) float32, and the number of shapes of each image (N,) int64."""
        count = np.zeros(len(self.light), np.int64)
        for images, rows in self._placed:
            count[images] += rows.shape[1]
        shapes = np.zeros((len(count), int(count.max(initial=0)), COLUMNS), np.float32)
        count[:] = 0
        for images, rows in self._placed:
            k = rows.shape[1]
            shapes[images[:, None], count[images, None] + np.arange(k)] = rows
            count[images] += k
        return shapes, count


def _column(value: ArrayLike) -> np.ndarray:
    """Return a number or (N,) as (1 or N, 1, 1) float32, which broadcasts against (N, K, 8)."""
    return np.asarray(value, np.float32).reshape(-1, 1, 1)
