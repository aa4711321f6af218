"""The six styles: "plain" leaves a rasterised image as it is, the other five repaint it from its colours and its edges.

Idea: "neon" and "ink" use the edge map; "pastel", "vintage" and "duotone" use only colour and brightness.  Every style
keeps some of the colour, so that the colour of a subject can still be recognised.  The lines of "neon" and "ink" are as
wide as a pixel of an image of 32 × 32, at every larger size: an image that is reduced keeps its style.
Leaves out textures of brush and paper: a style moves no pixel.
"""

import numpy as np

from minidiff.scenes.factors import STYLES
from minidiff.scenes.palette import table

_CREAM, _SEPIA_DARK, _SEPIA_LIGHT = table((255, 246, 250), (70, 48, 36), (255, 226, 176))
_VIOLET, _GLOW, _PAPER, _INK = table((18, 12, 44), (90, 24, 110), (250, 244, 230), (44, 40, 70))
_LINE_WIDTH = 1 / 32  # of the image's width


def finish(rgb: np.ndarray, edge: np.ndarray, style: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """Return the images as uint8 (N, H, W, 3).

    rgb: (N, H, W, 3) float32, about in [0, 1]; it is overwritten.  edge: (N, H, W) float32.  style: (N,) indices into
    STYLES.  hue: (N,) float32, used by the style "duotone".
    """
    for number, repaint in enumerate(_REPAINT.values()):
        chosen = np.flatnonzero(style == number)
        if repaint is not None and len(chosen):
            rgb[chosen] = repaint(rgb[chosen], edge[chosen][..., None], hue[chosen])
    rgb *= np.float32(255)
    rgb += np.float32(0.5)
    return np.clip(rgb, 0, 255, out=rgb).astype(np.uint8)


def line_width(size: int) -> int:
    """Return how many pixels wide the lines of a style are in an image of size × size."""
    return max(1, round(size * _LINE_WIDTH))


def _lines(edge: np.ndarray) -> np.ndarray:
    """Return an edge map (N, H, W, 1), whose lines are a pixel wide, with lines of `line_width`."""
    width = line_width(edge.shape[1])
    for axis in (1, 2):
        around = [(0, 0)] * 4
        around[axis] = (width // 2, (width - 1) // 2)
        edge = np.lib.stride_tricks.sliding_window_view(np.pad(edge, around), width, axis).max(-1)
    return edge


def _pastel(rgb: np.ndarray, edge: np.ndarray, hue: np.ndarray) -> np.ndarray:
    return _mix(rgb, _CREAM, 0.42)


def _vintage(rgb: np.ndarray, edge: np.ndarray, hue: np.ndarray) -> np.ndarray:
    faded = _mix(_SEPIA_DARK, _SEPIA_LIGHT, _brightness(rgb))
    return _mix(faded, rgb, 0.35)


def _neon(rgb: np.ndarray, edge: np.ndarray, hue: np.ndarray) -> np.ndarray:
    grey = _brightness(rgb)
    vivid = np.clip(grey + (rgb - grey) * np.float32(2.2), 0, 1)
    return _VIOLET + vivid * np.float32(0.35) + _lines(edge) * (vivid * np.float32(0.8) + _GLOW)


def _ink(rgb: np.ndarray, edge: np.ndarray, hue: np.ndarray) -> np.ndarray:
    return _mix(_mix(_PAPER, rgb, 0.45), _INK, _lines(edge) * np.float32(0.85))


def _duotone(rgb: np.ndarray, edge: np.ndarray, hue: np.ndarray) -> np.ndarray:
    dark = np.float32(0.08) + np.float32(0.3) * _rainbow(hue)
    light = np.float32(0.74) + np.float32(0.26) * _rainbow(hue + np.float32(0.12))
    return _mix(_mix(dark, light, np.clip((_brightness(rgb) - np.float32(0.1)) * np.float32(1.25), 0, 1)), rgb, 0.35)


def _mix(a: np.ndarray, b: np.ndarray, amount: float | np.ndarray) -> np.ndarray:
    return a + (b - a) * np.float32(amount)


def _brightness(rgb: np.ndarray) -> np.ndarray:
    """Return (N, H, W, 1).  The sum is written out because its order of additions determines the bits of the image."""
    red, green, blue = rgb[..., 0:1], rgb[..., 1:2], rgb[..., 2:3]
    return red * np.float32(0.299) + green * np.float32(0.587) + blue * np.float32(0.114)


def _rainbow(hue: np.ndarray) -> np.ndarray:
    """Return the pure colour of a hue in [0, 1), (N, 1, 1, 3): three triangle waves a third of a turn apart."""
    turn = (hue[:, None] + np.array([0, 2 / 3, 1 / 3], np.float32)) % 1
    return np.clip(np.abs(turn * 6 - 3) - 1, 0, 1)[:, None, None, :]


_REPAINT = dict(zip(STYLES, (None, _pastel, _vintage, _neon, _ink, _duotone), strict=True))
