"""The rasteriser's definition: shapes as signed distances, painted back to front.

The canvas is the square [-1, 1] x [-1, 1], x to the right and y up.  A shape is a signed distance d(x, y): negative
inside, positive outside, in canvas units.  Of a pixel whose centre lies d away from the outline, the shape covers

    cover = clip(1/2 - d / width, 0, 1) * opacity,      width = max(pixel, blur),

which is antialiasing when blur is 0, and a soft patch, a glow or a gradient when blur is large.  A row is

    column  0      kind: 0 none, 1 ellipse, 2 capsule (a line with round ends), 3 polygon
            1-8    ellipse: cx, cy, rx, ry; capsule: ax, ay, bx, by, r; polygon: four corners of a convex outline,
                   x and y in turn, in either direction; a triangle repeats its last corner
            9      joining: 0 begins a figure, which the rows after it alter: 1 adds this shape to it (union), 2 keeps
                   only what lies inside this shape (intersection), 3 keeps only what lies outside it (difference);
                   in a figure, rows with 1 must come before rows with 2 or 3
            10     blur
            11-13  colour
            14     opacity
            15     label, or -1: a mark, which colours what is there and leaves the edge map and the labels alone
            16     strength of the outline in the edge map

A figure's colour, blur, opacity, label and outline are those of its first row; if that is of kind 0, the figure is not
drawn.  A figure with a label covers what is behind it in all three results, so the image, the edge map and the
labels show the same scene.
Source: coverage from signed distances is folklore; the ellipse's distance is the first-order one,
f / |grad f| with f = |(x/rx, y/ry)| - 1 (Taubin 1991, doi:10.1109/34.103273, eq. 2.8).
"""

from typing import Any

import numpy as np

from minidiff.kernels.raster.checks import COLUMNS as COLUMNS
from minidiff.kernels.raster.checks import check

KIND, GEOMETRY, JOINING, BLUR, COLOUR, OPACITY, LABEL, OUTLINE = 0, slice(1, 9), 9, 10, slice(11, 14), 14, 15, 16
NOTHING, ELLIPSE, CAPSULE, POLYGON = 0, 1, 2, 3
BEGIN, UNITE, WITHIN, WITHOUT = 0, 1, 2, 3
MARK = -1
FAR = 8.0  # a distance that stands for "nowhere near"
TINY = 1e-6  # keeps divisions defined at the centre of an ellipse and for lines and edges without length


def raster(shapes: np.ndarray, count: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw N display lists; see the module for the meaning of a row.

    shapes: (N, K, 17) float.  count: (N,) ints, the rows in use.  size: pixels along each side.
    Returns rgb (N, size, size, 3) and edge (N, size, size) in the dtype of shapes, label (N, size, size) uint8.
    What no figure covers is 0 in all three.
    """
    check(shapes, count, size)
    n, dtype = len(shapes), shapes.dtype
    rgb = np.zeros((n, size, size, 3), dtype)
    edge = np.zeros((n, size, size), dtype)
    label = np.zeros((n, size, size), np.uint8)
    for i in range(n):
        rows = shapes[i, : count[i]]
        begins = [k for k, row in enumerate(rows) if row[JOINING] == BEGIN]
        for first, last in zip(begins, [*begins[1:], len(rows)], strict=False):
            _paint(rows[first:last], rgb[i], edge[i], label[i])
    return rgb, edge, label


def _paint(rows: np.ndarray, rgb: np.ndarray, edge: np.ndarray, label: np.ndarray) -> None:
    """Paint one figure: its first row and those that alter it."""
    size, ink = len(rgb), rows[0]
    dtype = rows.dtype.type
    pixel = dtype(2) / dtype(size)
    if ink[KIND] == NOTHING or ink[OPACITY] == 0:
        return
    centre = (np.arange(size, dtype=dtype) + dtype(0.5)) * pixel - dtype(1)
    x, y = centre[None, :], -centre[:, None]
    d = np.full((size, size), FAR, dtype)
    for row in rows:
        left, right, top, bottom = _window(row, pixel, max(pixel, ink[BLUR]), size)
        box = np.s_[top:bottom, left:right]
        other = np.full((size, size), FAR, dtype)  # a shape has no influence outside its window
        other[box] = _DISTANCE[int(row[KIND])](row[GEOMETRY], x[:, left:right], y[top:bottom])
        if row[JOINING] in (BEGIN, UNITE):
            d = np.minimum(d, other)
        elif row[JOINING] == WITHIN:
            d = np.maximum(d, other)
        else:
            d = np.maximum(d, -other)

    width = max(pixel, ink[BLUR])
    cover = np.minimum(np.maximum(dtype(0.5) - d / width, dtype(0)), dtype(1)) * ink[OPACITY]
    rgb += cover[..., None] * (ink[COLOUR] - rgb)
    if ink[LABEL] != MARK:
        edge *= 1 - cover
        label[cover > 0.5] = ink[LABEL]
        np.maximum(edge, np.maximum(dtype(1) - np.abs(d) / pixel, dtype(0)) * ink[OUTLINE], out=edge)


def _window(row: np.ndarray, pixel: Any, width: Any, size: int) -> tuple[int, int, int, int]:
    """The columns left:right and rows top:bottom of pixels that a shape can touch."""
    g = row[GEOMETRY]
    if row[KIND] == ELLIPSE:
        x0, x1, y0, y1 = g[0] - g[2], g[0] + g[2], g[1] - g[3], g[1] + g[3]
    elif row[KIND] == CAPSULE:
        x0, x1, y0, y1 = min(g[0], g[2]) - g[4], max(g[0], g[2]) + g[4], min(g[1], g[3]) - g[4], max(g[1], g[3]) + g[4]
    else:
        x0, x1, y0, y1 = g[0::2].min(), g[0::2].max(), g[1::2].min(), g[1::2].max()
    one = type(pixel)(1)

    def first_pixel(position: Any) -> int:
        return int(np.floor(np.clip(position / pixel, 0, size)))

    left, right = first_pixel(x0 - width + one), first_pixel(x1 + width + one + pixel)
    top, bottom = first_pixel(one - y1 - width), first_pixel(one - y0 + width + pixel)
    return left, right, top, bottom


def _ellipse(g: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    cx, cy, rx, ry = g[:4]
    ix, iy = 1 / rx, 1 / ry
    u, v = (x - cx) * ix, (y - cy) * iy
    tiny = g.dtype.type(TINY)
    k = np.sqrt(u * u + v * v) + tiny
    slope = np.sqrt((u * ix) * (u * ix) + (v * iy) * (v * iy)) + tiny * max(ix, iy)
    return k * (k - 1) / slope


def _capsule(g: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    ax, ay, bx, by, r = g[:5]
    dx, dy = bx - ax, by - ay
    scale = 1 / max(dx * dx + dy * dy, g.dtype.type(TINY))
    t = np.minimum(np.maximum(((x - ax) * dx + (y - ay) * dy) * scale, 0), 1)
    ex, ey = (x - ax) - t * dx, (y - ay) - t * dy
    return np.sqrt(ex * ex + ey * ey) - r


def _polygon(g: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The largest of the signed distances from the edges' lines: exact but beyond the corners."""
    corners = list(zip(g[0::2], g[1::2], strict=True))
    edges = list(zip(corners, corners[1:] + corners[:1], strict=True))
    area = sum(((bx - ax) * (ay + by) for (ax, ay), (bx, by) in edges), g.dtype.type(0))  # > 0: clockwise
    side = g.dtype.type(1 if area > 0 else -1)
    d = np.full((len(y), x.shape[1]), -FAR, g.dtype)
    for (ax, ay), (bx, by) in edges:
        length = np.sqrt((bx - ax) * (bx - ax) + (by - ay) * (by - ay))
        if length > TINY:
            nx, ny = side * (ay - by) / length, side * (bx - ax) / length  # the edge's normal, outwards
            d = np.maximum(d, (x - ax) * nx + (y - ay) * ny)
    return d


_DISTANCE = {ELLIPSE: _ellipse, CAPSULE: _capsule, POLYGON: _polygon}
