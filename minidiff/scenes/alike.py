"""Pairs of scenes that look alike: another subject, another place, the same style, hue, hour, season and weather.

Idea: what two images share, a network that is shown one while it draws the other can take from the first.  Nothing
else helps it, since the captions keep silent about the style; and the subject it cannot take, since that differs.
After scenes.py.  Leaves out what is made of it: nn/ip_adapter.py.
"""

from dataclasses import replace

import numpy as np

from minidiff.scenes.dice import Dice, Part
from minidiff.scenes.factors import STYLES, SUBJECTS, Factors, sensible
from minidiff.scenes.scenes import Scenes, render

_OTHER = 1 << 31  # numbers that training does not reach


class Alike(Scenes):
    """Scenes in all styles alike, with captions that do not mention them, and for each an image of its look."""

    name = "pairs of scenes"

    def factors(self, index: np.ndarray) -> Factors:
        style = Dice.roll(self.seed, self.split, Part.STYLE, index, 1).integers(len(STYLES))
        return replace(super().factors(index), style=style)

    def captions(self, index: np.ndarray, factors: Factors) -> list[str]:
        return super().captions(index, replace(factors, style=np.zeros_like(factors.style)))

    def alike(self, index: np.ndarray) -> np.ndarray:
        """Return images that look like those numbered `index`, int64 (N,): (N, size, size, 3) uint8."""
        look, other = self.factors(index), (index + _OTHER) % len(self)
        shared = {name: getattr(look, name) for name in ("style", "hue", "time", "season", "weather")}
        factors = sensible(replace(super().factors(other), **shared))
        while self.split == "train" and (seen := factors.held_out()).any():  # the subject gives way, not the look
            subject = np.where(seen, (factors.subject + 1) % len(SUBJECTS), factors.subject)
            factors = sensible(replace(factors, subject=subject))
        return render(factors, self.height, self.seed, self.split, other).image
