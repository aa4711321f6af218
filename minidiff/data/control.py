"""Reading a map that a user gives: a photograph, a pencil drawing of any size, a segmentation map from a paint program.

Idea: a map must look like those that the network was trained on.  Edges are thin white lines on black, but people draw
in black on white, 2000 pixels wide, with lines two pixels wide: shrinking that would leave nothing of the lines.  So
drawings are distinguished from photographs, and ink from paper.  Each line is reduced to its centre and drawn anew, as
thick as the outlines of scenes.  Of a photograph the edges are detected.  In a segmentation map each colour becomes the
nearest one of the palette, and a depth map becomes grey.
Leaves out what the network does with a map: nn/controlnet.py.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from minidiff.data.maps import PALETTE, Kind
from minidiff.images.edges import edges
from minidiff.images.read import center_crop, is_transparent, load, opaque, open_image

_MOST = 2048  # pixels a side beyond which a drawing is halved and halved again first
_FINER = 4  # lines are thinned at this many pixels to one of the map
_PAPERS = (1, 0.6, 0.1), (6, 0.75, 0.05)  # places at which paper is measured; how clean it must be: see _lines
_SMALL = 128  # pixels a side below which an image is no photograph of a drawing
_UNEVEN = 45  # levels of 255 by which paper may vary; up to a quarter of the places may be mostly ink
_FAINT = 24  # levels that do not count as ink, however little there is
_SPECK = 16  # this many of the darkest pixels (one pixel of the map) may be dirt and are ignored
_PALE = 100  # levels; ink that is fainter even at its darkest, as a pencil's, is scaled up to full ink
_INK = 0.3  # a pixel with more than this share of the darkest ink belongs to a line
_MAX_INK, _THICKEST = 0.45, 3.0  # of a drawing: its share of ink, and the thickness of its lines in pixels of the map
_GAIN = 1.25  # a slanting line of pixels that touch at their corners holds up to 1.4 times fewer of them
_NEAR = 24  # levels by which lossy image formats may change a colour of the palette


def read_control(file: Path, height: int, width: int, kind: Kind) -> np.ndarray:
    """Read a map from a file, cropped to its middle: (height, width, channels(kind)) uint8.

    edges: the lines of a drawing, whether dark on light, light on dark or on a transparent ground; of other images the
    detected edges.  The lines of a drawing of the right size are not drawn anew, only made white on black.
    segmentation: each pixel becomes the nearest colour of PALETTE.  depth: grey.  In both, transparent pixels are sky.
    Raises MinidiffError if the file cannot be read, is blank, or has other colours than a segmentation map.
    """
    with open_image(file) as stream:
        image = load(stream)
        if kind == "depth":
            image = center_crop(opaque(image, (0, 0, 0)).convert("L"), height, width)
            return np.asarray(image.resize((width, height), Image.Resampling.BOX))[..., None]
        if kind == "segmentation":
            image = center_crop(opaque(image, tuple(PALETTE[0].tolist())).convert("RGB"), height, width)
            return _nearest_colours(np.asarray(image.resize((width, height), Image.Resampling.NEAREST)))
        image = center_crop(_on_contrast(image), height, width)
        map_ = _lines(image, height, width)
        if map_ is None:
            small = image.resize((width, height), Image.Resampling.BICUBIC)
            map_ = edges(np.asarray(small)[None])[0, ..., 0]
        if not map_.any():
            raise ValueError("blank: neither lines nor edges to follow")
        return map_[..., None]


def _nearest_colours(rgb: np.ndarray) -> np.ndarray:
    """Replace each colour by the nearest of the palette: (H, W, 3) uint8."""
    distance = np.abs(rgb[..., None, :].astype(np.int64) - PALETTE).max(-1)  # (H, W, 22)
    if np.median(distance.min(-1)) > _NEAR:
        raise ValueError("not a segmentation map: most of its colours are not in the palette")
    return PALETTE[distance.argmin(-1)]


def _on_contrast(image: Image.Image) -> Image.Image:
    """Return an RGB image; transparent pixels become white, or black if the drawing is light."""
    if not is_transparent(image):
        return image.convert("RGB")
    pixels = np.asarray(image.convert("RGBA").reduce(_halvings(image)), np.float32)
    grey, alpha = pixels[..., :3].mean(-1), pixels[..., 3]
    light = (grey * alpha).sum() > 128 * alpha.sum()
    return opaque(image, (0, 0, 0) if light else (255, 255, 255)).convert("RGB")


def _halvings(image: Image.Image) -> int:
    factor = 1
    while min(image.size) // factor > _MOST:
        factor *= 2
    return factor


# ---- drawings ----
def _lines(image: Image.Image, height: int, width: int) -> np.ndarray | None:
    """Return a drawing's lines, (height, width) uint8, white on black; None if it is no drawing.

    First the paper is assumed to have one colour.  If this gives no drawing, the light on the paper may be uneven, so
    its colour is measured in 6 x 6 places.  Such paper can follow the colours of a photograph, so it
    must be cleaner: 60% of the paper (75% with 6 x 6 places) must have less than 10% (5%) of the darkest ink on it.
    """
    rgb = np.asarray(image.reduce(_halvings(image)))
    for places, share, most in _PAPERS:
        if places > 1 and min(rgb.shape[:2]) < _SMALL:
            break
        ink = _ink(rgb, places)
        if ink is None:
            continue
        finer = _FINER * height, _FINER * width
        fine = _greatest(ink, *finer) if ink.shape[0] >= finer[0] else _resized(ink, *finer)
        peak = np.partition(fine, -_SPECK, axis=None)[-_SPECK]
        mask = fine > max(_INK * peak, _FAINT)
        if not 0 < mask.mean() <= _MAX_INK or np.quantile(fine[~mask], share) > most * peak:
            continue
        centre = thinned(mask)
        if mask.sum() > _THICKEST * _FINER * centre.sum():
            continue
        if ink.shape == (height, width):
            map_ = ink if peak > _PALE else ink * (255 / peak)
        else:
            # Pillow's bilinear filter is a triangle two pixels of the map wide: so wide are the outlines of scenes.
            map_ = _resized(centre.astype(np.float32) * (_FINER * _GAIN * 255), height, width)
        return np.clip(map_ + 0.5, 0, 255).astype(np.uint8)
    return None


def _ink(rgb: np.ndarray, places: int) -> np.ndarray | None:
    """Return the distance of each pixel's colour from the paper's: (H, W) float32, 0 to 255; None for uneven paper.

    The colour of the paper is the median of each of places x places parts of the image, interpolated between them.
    """
    h, w, _ = rgb.shape
    rows, columns = (np.arange(places + 1) * side // places for side in (h, w))
    paper = np.empty((places, places, 3), np.float32)
    for i in range(places):
        for j in range(places):
            paper[i, j] = np.median(rgb[rows[i] : rows[i + 1], columns[j] : columns[j + 1]], axis=(0, 1))
    usual = np.median(paper, axis=(0, 1))
    inked = np.abs(paper - usual).max(-1) > _UNEVEN  # (places, places): more line than paper
    if inked.mean() > 0.25:
        return None
    paper[inked] = usual
    ink = np.zeros((h, w), np.float32)
    for channel in range(3):
        np.maximum(ink, np.abs(rgb[..., channel] - _resized(paper[..., channel], h, w)), out=ink)
    return ink


def _greatest(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Shrink (H, W) to (height, width); each pixel becomes the maximum of those that it replaces."""
    rows, columns = (np.arange(new) * old // new for new, old in zip((height, width), x.shape))
    return np.maximum.reduceat(np.maximum.reduceat(x, rows, axis=0), columns, axis=1)


def _resized(x: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(x).resize((width, height), Image.Resampling.BILINEAR))


def thinned(mask: np.ndarray) -> np.ndarray:
    """Return the centres of lines, one pixel thick and connected as the lines were: (H, W) bool.

    Pixels at the rim are removed, first from the south and east, then from the north and west, until none can be.  A
    pixel can be removed if 2 to 6 of its neighbours p2 ... p9, clockwise from the north, are set and connected.
    Source: Zhang and Suen 1984, "A fast parallel algorithm for thinning digital patterns", doi:10.1145/357994.358023.
    """
    mask = np.pad(mask, 1)
    while True:
        before = mask.copy()
        for a, b in (((0, 2, 4), (2, 4, 6)), ((0, 2, 6), (0, 4, 6))):
            p = _neighbours(mask)
            count = p.sum(0)
            begins = (~p & np.roll(p, -1, axis=0)).sum(0)  # 0 to 1 transitions among the neighbours
            inner = mask[1:-1, 1:-1]
            inner &= ~((count >= 2) & (count <= 6) & (begins == 1) & ~p[list(a)].all(0) & ~p[list(b)].all(0))
        if np.array_equal(mask, before):
            return mask[1:-1, 1:-1]


def _neighbours(mask: np.ndarray) -> np.ndarray:
    """The eight neighbours of each pixel but the outermost, clockwise from the north: (8, H, W) bool."""
    h, w = mask.shape
    steps = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
    return np.stack([mask[1 + dy : h - 1 + dy, 1 + dx : w - 1 + dx] for dy, dx in steps])
