"""Pairs of scenes with the same look: equal style, hue, time, season and weather, but independent subjects and places.

Idea: a network that is shown one image of a pair while it denoises the other can learn the look from it, and nothing
else, since all other factors are drawn independently.  The style must be learnt from it, because the captions of this
dataset do not mention the style.  Season and weather differ where a place does not allow them: at sea, in the desert.
Leaves out the adapter that is trained on these pairs: nn/ip_adapter.py.
"""

from dataclasses import replace

import numpy as np

from minidiff.scenes.dice import Dice, Part
from minidiff.scenes.factors import STYLES, SUBJECTS, Factors, sensible
from minidiff.scenes.scenes import Scenes, render

_OTHER = 1 << 31  # distance to the numbers of the reference images; training does not reach them


class Alike(Scenes):
    """Scenes in all styles, equally often, with captions that do not mention them, and a reference image for each."""

    name = "pairs of scenes"

    def factors(self, index: np.ndarray) -> Factors:
        style = Dice.roll(self.seed, self.split, Part.STYLE, index, 1).integers(len(STYLES))
        return replace(super().factors(index), style=style)

    def captions(self, index: np.ndarray, factors: Factors) -> list[str]:
        return super().captions(index, replace(factors, style=np.zeros_like(factors.style)))

    def alike(self, index: np.ndarray) -> np.ndarray:
        """Return images with the look of those numbered `index`, int64 (N,): (N, size, size, 3) uint8."""
        look, other = self.factors(index), (index + _OTHER) % len(self)
        shared = {name: getattr(look, name) for name in ("style", "hue", "time", "season", "weather")}
        factors = sensible(replace(super().factors(other), **shared))
        while self.split == "train" and (held_out := factors.held_out()).any():  # change the subject, not the look
            subject = np.where(held_out, (factors.subject + 1) % len(SUBJECTS), factors.subject)
            factors = sensible(replace(factors, subject=subject))
        return render(factors, self.height, self.seed, self.split, other).image
