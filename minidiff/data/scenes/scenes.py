"""The data set of scenes: picture number k, drawn when it is asked for.

Idea: there are no files.  The seed and the number of a picture say everything about it, so a training run never sees
a picture twice, needs no disk and no network, and can be repeated to the byte.
Comes last of the scenes.  Leaves out nothing: sample the factors, compose the sheet, raster, finish.
"""

from dataclasses import dataclass

import numpy as np

from minidiff import backend
from minidiff.data.scenes import palette
from minidiff.data.scenes.captions import VOCABULARY, caption
from minidiff.data.scenes.dice import Dice, Part
from minidiff.data.scenes.factors import SUBJECTS, Factors, choose
from minidiff.data.scenes.places import draw_places
from minidiff.data.scenes.sky import draw_sky, draw_weather
from minidiff.data.scenes.stamps import Sheet
from minidiff.data.scenes.styles import finish
from minidiff.data.scenes.subjects import draw_subjects
from minidiff.errors import MinidiffError

_AHEAD = 256  # pictures drawn at once, so that they share what each call of NumPy costs


@dataclass(frozen=True)
class Drawing:
    """N drawn scenes: the pictures and the exact maps of what is in them."""

    picture: np.ndarray  # (N, size, size, 3) uint8
    edge: np.ndarray  # (N, size, size) float32 in [0, 1]: the outlines
    label: np.ndarray  # (N, size, size) uint8: which of factors.LABELS each pixel shows


def compose(factors: Factors, seed: int, split: str, sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the display lists of scenes with these factors: shapes (N, K, 17) float32, count (N,) int64."""

    def dice(part: Part, columns: int) -> Dice:
        return Dice.roll(seed, split, part, sample, columns)

    sheet = Sheet(palette.light(factors))
    sun = draw_sky(sheet, factors, dice(Part.SKY, 40))
    draw_places(sheet, factors, dice(Part.PLACE, 60), sun)
    draw_subjects(sheet, factors, dice(Part.SUBJECT, 8))
    draw_weather(sheet, factors, dice(Part.WEATHER, 40))
    return sheet.lists()


def draw(factors: Factors, size: int, seed: int, split: str, sample: np.ndarray) -> Drawing:
    """Draw scenes with the given factors; the details come from (seed, split, sample), sample being int64 (N,)."""
    rgb, edge, label = backend.current().raster(*compose(factors, seed, split, sample), size)
    return Drawing(finish(rgb, edge, factors.style, factors.hue), edge, label)


class Scenes:
    """An endless data set of drawn pictures, with captions or, instead, labelled with their subject.

    size: pixels along each side, 16 or more.  split: "train" leaves out the pairs of factors.HELD_OUT; "test" has
    pictures of its own, with every pair.
    """

    name = "scenes"
    channels = 3
    endless = True

    def __init__(self, size: int = 32, split: str = "train", seed: int = 0, captions: bool = False):
        if size < 16:
            raise MinidiffError(f"scenes need at least 16 pixels a side, got {size}")
        if split not in ("train", "test"):
            raise MinidiffError(f'scenes have the splits "train" and "test", got {split!r}')
        self.height = self.width = size
        self.split, self.seed = split, seed
        self.classes: tuple[str, ...] = () if captions else SUBJECTS
        self.vocabulary = VOCABULARY if captions else None
        self._ahead = 0, np.empty((0, size, size, 3), np.uint8), np.empty(0, np.int64)  # first number, pictures, labels

    def __len__(self) -> int:
        return 1 << 32  # the numbers that a random key has for pictures

    def batch(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the pictures numbered `index`, int64 (N,): uint8 (N, size, size, 3), and labels int64 (N,) or (N, L).

        Short runs of consecutive numbers, which training asks for, are drawn ahead; all else as it comes.
        """
        n = len(index)
        first = int(index[0]) if n else 0
        if n <= _AHEAD and np.array_equal(index, np.arange(first, first + n)):
            start, pictures, labels = self._ahead
            if not start <= first <= first + n <= start + len(labels):
                self._ahead = first, *self._draw(np.arange(first, min(first + _AHEAD, len(self))))
                start, pictures, labels = self._ahead
            here = slice(first - start, first - start + n)
            return pictures[here].copy(), labels[here].copy()
        parts = [self._draw(index[k : k + _AHEAD]) for k in range(0, n, _AHEAD)]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def factors(self, index: np.ndarray) -> Factors:
        """Return what the pictures numbered `index` show."""
        return choose(self.seed, self.split, index)

    def captions(self, index: np.ndarray, factors: Factors) -> list[str]:
        """Return what is said of the pictures numbered `index`."""
        return caption(factors, self.seed, self.split, index).texts

    def draw(self, index: np.ndarray) -> Drawing:
        """Return the pictures numbered `index` with their edge and segmentation maps."""
        return draw(self.factors(index), self.height, self.seed, self.split, index)

    def _draw(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        factors = self.factors(index)
        drawing = draw(factors, self.height, self.seed, self.split, index)
        if self.vocabulary is None:
            return drawing.picture, factors.subject.astype(np.int64)
        return drawing.picture, self.vocabulary.tokens(self.captions(index, factors))
