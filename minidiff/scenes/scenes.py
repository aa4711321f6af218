"""The dataset of scenes: image number k is rendered, with its label and its maps, when it is asked for.

Idea: there are no files.  The seed, the split and the number of an image determine it, so a training run never repeats
an image, needs neither disk nor network, and can be reproduced to the byte.  An image is made in four steps: choose the
factors, place shapes on a canvas, rasterise it, apply the style.  The rasteriser also gives the edge and segmentation
maps; a depth map shows the order of the layers.  Images that will be asked for next are rendered ahead, many at once,
for speed.
Leaves out the steps themselves: factors.py, sky.py, places.py, subjects.py, the backend's `raster`, styles.py.
"""

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from minidiff import backend
from minidiff.errors import MinidiffError
from minidiff.scenes import palette
from minidiff.scenes.captions import TOKENIZER, caption
from minidiff.scenes.dice import Dice, Part
from minidiff.scenes.factors import SUBJECTS, Factors, choose
from minidiff.scenes.places import draw_places
from minidiff.scenes.sky import CLOUD_LABEL, LIGHT_LABEL, SKY_LABEL, draw_sky, draw_weather
from minidiff.scenes.stamps import Canvas
from minidiff.scenes.styles import finish, line_width
from minidiff.scenes.subjects import draw_subjects

VERSION = 1  # incremented whenever the image of a number changes
_AHEAD = 256  # images rendered at once, to share the overhead of NumPy calls
_FAR = SKY_LABEL, CLOUD_LABEL, LIGHT_LABEL  # the sky and everything in it: farthest in the depth map


@dataclass(frozen=True)
class Rendering:
    """N rendered scenes: images and their exact edge, segmentation and depth maps."""

    image: np.ndarray  # (N, size, size, 3) uint8
    edge: np.ndarray  # (N, size, size) float32 in [0, 1]: the outlines
    label: np.ndarray  # (N, size, size) uint8: which of factors.LABELS each pixel shows
    depth: np.ndarray | None = None  # (N, size, size) uint8: 0 is the sky, 255 the nearest

    def of(self, images: np.ndarray) -> "Rendering":
        """Return some of the scenes: those at the places `images`, (N,)."""
        depth = None if self.depth is None else self.depth[images]
        return Rendering(self.image[images], self.edge[images], self.label[images], depth)

    @staticmethod
    def joined(parts: Sequence["Rendering"]) -> "Rendering":
        """Return the scenes of all parts; with depth, if all parts have it."""
        depths = [part.depth for part in parts if part.depth is not None]
        return Rendering(
            np.concatenate([part.image for part in parts]),
            np.concatenate([part.edge for part in parts]),
            np.concatenate([part.label for part in parts]),
            np.concatenate(depths) if len(depths) == len(parts) else None,
        )


def compose(factors: Factors, seed: int, split: str, sample: np.ndarray) -> Canvas:
    """Return the canvas with all shapes of scenes with these factors."""

    def dice(part: Part, columns: int) -> Dice:
        return Dice.roll(seed, split, part, sample, columns)

    canvas = Canvas(palette.light(factors))
    sun = draw_sky(canvas, factors, dice(Part.SKY, 40))
    draw_places(canvas, factors, dice(Part.PLACE, 60), sun)
    draw_subjects(canvas, factors, dice(Part.SUBJECT, 8))
    draw_weather(canvas, factors, dice(Part.WEATHER, 40))
    return canvas


def render(factors: Factors, size: int, seed: int, split: str, sample: np.ndarray, depth: bool = False) -> Rendering:
    """Render scenes with the given factors.  The details follow from (seed, split, sample); sample is int64 (N,).

    depth: whether to render the depth map too, which runs the rasteriser a second time.
    """
    canvas = compose(factors, seed, split, sample)
    rgb, edge, label = backend.current().raster(*canvas.lists(), size)
    image = finish(rgb, edge, factors.style, factors.hue)
    return Rendering(image, edge, label, _depth(canvas, label, size) if depth else None)


def _depth(canvas: Canvas, label: np.ndarray, size: int) -> np.ndarray:
    """Return the depth map, (N, size, size) uint8: the visible layers of each image, evenly spaced from 0 to 255.

    A scene has no distances, only an order in which things hide each other; the map shows this order.
    """
    layer = backend.current().raster(*canvas.layers().lists(), size)[2]
    layer[np.isin(label, _FAR)] = 0
    n = np.arange(len(layer))[:, None, None]
    visible = np.zeros((len(layer), 256), bool)
    visible[n, layer] = True
    visible[:, 0] = True  # the sky has rank 0 even if trees hide all of it
    rank = visible.cumsum(1) - 1  # (N, 256): how many visible layers lie behind
    level = rank * 255 // np.maximum(rank[:, -1:], 1)
    return level.astype(np.uint8)[n, layer]


class Scenes:
    """An endless dataset of rendered images, labelled with their captions or with their subject.

    size: height and width in pixels, at least 16.  split: "train" has none of the pairs in factors.HELD_OUT; "test"
    has all pairs, and other images.
    """

    name = "scenes"
    channels = 3
    endless = True
    found = ""

    def __init__(self, size: int = 32, split: str = "train", seed: int = 0, captions: bool = False):
        if size < 16:
            raise MinidiffError(f"scenes need at least 16 pixels a side, got {size}")
        if split not in ("train", "test"):
            raise MinidiffError(f'scenes have the splits "train" and "test", got {split!r}')
        self.height = self.width = size
        self.split, self.seed = split, seed
        self.classes: tuple[str, ...] = () if captions else SUBJECTS
        self.tokenizer = TOKENIZER if captions else None
        self._ahead: tuple[np.ndarray, Rendering, np.ndarray] | None = None  # numbers of scenes, scenes, labels
        self._next = -1  # the number after the last one that was asked for

    @property
    def digest(self) -> str:
        """A hash of what the settings of a training run do not determine: how scenes are rendered."""
        text = f"{self.name} {VERSION} {self.height}"
        if (width := line_width(self.height)) > 1:  # the lines of styles were one pixel wide at every size before
            text += f" {width}"
        return hashlib.sha256(text.encode()).hexdigest()

    def __len__(self) -> int:
        return 1 << 32  # the image numbers that a random key can hold

    def batch(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the images numbered `index`, int64 (N,): uint8 (N, size, size, 3), and labels int64 (N,) or (N, L).

        Whoever asks for consecutive numbers, again and again, has later ones rendered ahead.
        """
        rendering, labels = self._rendered(index, depth=False)
        return rendering.image, labels

    def render_ahead(self, index: np.ndarray, later: Iterable[np.ndarray]) -> None:
        """Render the images numbered `index`, (N,), and with them some that will be asked for later, if need be.

        later: the numbers that will be asked for, request by request, each about as many as now.
        """
        if not self._holds(index, depth=False):
            requests = itertools.islice(later, max(_AHEAD // max(len(index), 1), 1) - 1)
            self._keep(np.concatenate([index, *requests]), depth=False)

    def factors(self, index: np.ndarray) -> Factors:
        """Return what the images numbered `index` show."""
        return choose(self.seed, self.split, index)

    def captions(self, index: np.ndarray, factors: Factors) -> list[str]:
        """Return captions of the images numbered `index`."""
        return caption(factors, self.seed, self.split, index).texts

    def render(self, index: np.ndarray, depth: bool = False) -> Rendering:
        """Return the images numbered `index` with their edge, segmentation and, if asked for, depth maps.

        They are rendered together with the images of `batch`, so asking for both costs no second rendering.
        """
        return self._rendered(index, depth)[0]

    def _rendered(self, index: np.ndarray, depth: bool) -> tuple[Rendering, np.ndarray]:
        """Return scenes and labels, from those that were rendered ahead if they are among them."""
        n = len(index)
        if n == 0:
            rendering, labels = self._render(np.zeros(1, np.int64), depth)
            return rendering.of(index), labels[:0]
        first = int(index[0])
        consecutive, expected = np.array_equal(index, np.arange(first, first + n)), first == self._next
        self._next = first + n if consecutive else -1
        if self._ahead is not None and self._holds(index, depth=False):
            self._keep(self._ahead[0], depth)
        elif consecutive and expected and n <= _AHEAD:
            self._keep(np.arange(first, min(first + _AHEAD, len(self))), depth)
        else:
            parts = [self._render(index[k : k + _AHEAD], depth) for k in range(0, n, _AHEAD)]
            return Rendering.joined([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
        assert self._ahead is not None
        numbers, rendering, labels = self._ahead
        here = np.searchsorted(numbers, index)
        return rendering.of(here), labels[here]

    def _holds(self, index: np.ndarray, depth: bool) -> bool:
        """Return whether the scenes numbered `index` were rendered ahead, with depth maps if these are wanted."""
        if self._ahead is None or (depth and self._ahead[1].depth is None):
            return False
        return bool(np.isin(index, self._ahead[0]).all())

    def _keep(self, numbers: np.ndarray, depth: bool) -> None:
        """Render the scenes with these numbers and keep them, if need be; depth maps as well, if ever wanted."""
        numbers = np.unique(numbers)
        depth = depth or (self._ahead is not None and self._ahead[1].depth is not None)
        if not self._holds(numbers, depth):
            self._ahead = numbers, *self._render(numbers, depth)

    def _render(self, index: np.ndarray, depth: bool) -> tuple[Rendering, np.ndarray]:
        factors = self.factors(index)
        rendering = render(factors, self.height, self.seed, self.split, index, depth)
        if self.tokenizer is None:
            return rendering, factors.subject.astype(np.int64)
        return rendering, self.tokenizer.encode(self.captions(index, factors))
