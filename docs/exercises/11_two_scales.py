"""Exercise 11: one scale for the drawing, another for the prompt.

With guidance, minidiff shows the drawing to both evaluations of the network.  So guidance enlarges what the prompt
adds, but not what the drawing adds.  Give each a scale of its own: the noise that is removed shall be that of noisy
images whose density is, up to a constant factor,

    p(x) p(drawing | x)^drawing_scale p(prompt | x, drawing)^prompt_scale

The network estimates the noise without any condition, with the drawing, or with drawing and prompt.  Call it once, for
as few images as possible: an estimate whose weight is 0 is not needed.

Hint: an ideal estimate is -s times the slope of the logarithm of a density.  To which densities do the three estimates
belong?  How does Bayes' rule write p(drawing | x) and p(prompt | x, drawing) with these?
"""

import sys
from collections.abc import Callable

import numpy as np
from checking import expect, report

NONE = 0  # no drawing, or no prompt


def guided(
    network: Callable, x: np.ndarray, drawing: int, prompt: int, drawing_scale: float, prompt_scale: float
) -> np.ndarray:
    """Return the guided estimate for the noisy images x, (N,), to all of which drawing and prompt belong: (N,).

    network(x, drawings, prompts): from three arrays (M,) to the estimated noise of M images, (M,).
    """
    raise NotImplementedError


# Images of one pixel, six of which exist.  To each belong drawing 1 or 2 and prompt 1 or 2, with these probabilities.
IMAGES = np.array([-1.5, -0.8, -0.2, 0.4, 1.0, 1.6])
ONE_DRAWING, ONE_PROMPT = np.array([0.9, 0.8, 0.7, 0.2, 0.3, 0.1]), np.array([0.2, 0.7, 0.4, 0.9, 0.3, 0.6])
DRAWN = np.array([np.ones(6), ONE_DRAWING, 1 - ONE_DRAWING])  # row NONE: whatever the drawing is
SAID = np.array([np.ones(6), ONE_PROMPT, 1 - ONE_PROMPT])
A, S = 0.8, 0.6


def weights(x: np.ndarray, drawings: np.ndarray | int, prompts: np.ndarray | int) -> np.ndarray:
    """How likely each of the six images is to be under x (N,), and to have this drawing and prompt: (N, 6)."""
    return DRAWN[drawings] * SAID[prompts] * np.exp(-((x[:, None] - A * IMAGES) ** 2) / (2 * S**2))


def check() -> None:
    """Raise an error that says what is missing, unless `guided` is right."""
    asked: list[int] = []

    def network(x: np.ndarray, drawings: np.ndarray, prompts: np.ndarray) -> np.ndarray:
        asked.append(len(x))
        w = weights(np.asarray(x), np.asarray(drawings), np.asarray(prompts))
        return (x - A * (w @ IMAGES) / w.sum(axis=1)) / S

    def log_density(x: np.ndarray) -> np.ndarray:
        p, with_drawing, with_both = (weights(x, *given).sum(axis=1) for given in ((NONE, NONE), (1, NONE), (1, 2)))
        return np.log(p * (with_drawing / p) ** drawing_scale * (with_both / with_drawing) ** prompt_scale)

    x, h = np.linspace(-2, 2, 9), 1e-5
    for drawing_scale, prompt_scale, estimates in (
        *((0, 0, 1), (1, 0, 1), (1, 1, 1)),
        *((3, 0, 2), (1, 3, 2), (2.5, 2.5, 2)),
        *((0, 2, 3), (2, 4, 3)),
    ):
        asked.clear()
        scales = f"with scales {drawing_scale:g} and {prompt_scale:g}"
        found = guided(network, x, 1, 2, drawing_scale, prompt_scale)
        wanted = -S * (log_density(x + h) - log_density(x - h)) / (2 * h)
        off = np.abs(found - wanted).max()
        expect(off < 1e-6, f"{scales} the noise is off by up to {off:.2g}")  # differences are good to some 1e-9
        expect(len(asked) == 1, f"{scales} the network was called {len(asked)} times")
        images = estimates * len(x)
        expect(asked[0] == images, f"{scales} it was evaluated for {asked[0]} images, and {images} are enough")


if __name__ == "__main__":
    sys.exit(report(check))
