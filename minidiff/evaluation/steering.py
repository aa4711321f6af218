"""Do drawings and references steer?  Both are asked for what they promise, and for what they must not spoil.

Idea: a drawing promises edges, so the edges of samples are compared with those that were drawn; a reference promises a
look, so hues are compared, on pictures in two tones, whose hue no word names.  Neither may make the prompt be heard
less: the same prompts are drawn with and without.
After edges.py, hue.py and attributes.py.  Leaves out segmentation and depth, of which no detector is at hand.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minidiff.data.maps import maps
from minidiff.data.scenes import Scenes
from minidiff.data.scenes.captions import caption
from minidiff.data.scenes.factors import NOTHING, STYLES, choose, sensible
from minidiff.data.scenes.scenes import draw
from minidiff.evaluation.edges import EdgeControl, edge_control
from minidiff.evaluation.hue import hue, hue_error

PLAIN, DUOTONE = STYLES.index("plain"), STYLES.index("duotone")
OTHERS = 1 << 24  # numbers of the reference pictures, from those of the prompts

Draw = Callable[..., np.ndarray]  # of prompts and, by name, what is shown: to pictures (N, H, W, 3) uint8


@dataclass(frozen=True, eq=False)
class ControlVerdict:
    """edges: how well edge maps are followed.  with_, without: pictures drawn with the maps and without, (N, H, W, 3)."""

    edges: EdgeControl
    with_: np.ndarray
    without: np.ndarray


@dataclass(frozen=True, eq=False)
class ReferenceVerdict:
    """error: between the hues of samples and references, shuffled: and those of other references, real: between those
    of real pictures of the same look and the references; (N,) degrees.  with_, without: pictures, (N, H, W, 3).
    """

    error: np.ndarray
    shuffled: np.ndarray
    real: np.ndarray
    with_: np.ndarray
    without: np.ndarray


def judge_control(paint: Draw, size: int, seed: int, sample: np.ndarray) -> ControlVerdict:
    """Draw held-out scenes again from their captions and edges, and from their captions alone.

    sample: (N,) int64, their numbers in split "test".
    """
    scenes = Scenes(size, "test", seed, captions=True)
    factors, real = scenes.factors(sample), scenes.batch(sample)[0]
    texts, wanted = scenes.captions(sample, factors), maps(scenes, sample, "edges")
    steered = paint(texts, control=wanted)
    return ControlVerdict(edge_control(wanted, steered, real), steered, paint(texts))


def judge_reference(paint: Draw, size: int, seed: int, sample: np.ndarray) -> ReferenceVerdict:
    """Draw captions that are silent on style, each with a reference in two tones that shows something else.

    sample: (N,) int64, the numbers of the prompts in split "test"; see `silent`.
    """
    factors, texts = silent(seed, sample)
    other = sample + OTHERS
    tones = np.full_like(factors.style, DUOTONE)
    look = {name: getattr(factors, name) for name in ("time", "season", "weather", "hue")}
    shown = sensible(replace(choose(seed, "test", other), style=tones, **look))
    references = draw(shown, size, seed, "test", other).picture
    real = draw(replace(factors, style=tones), size, seed, "test", sample).picture
    steered = paint(texts, reference=references)
    wanted, found = hue(references), hue(steered)
    half = len(sample) // 2
    return ReferenceVerdict(
        hue_error(found, wanted),
        hue_error(found, np.roll(wanted, half)),
        hue_error(hue(real), wanted),
        steered,
        paint(texts),
    )


def silent(seed: int, sample: np.ndarray) -> tuple[Any, list[str]]:
    """Return what prompts ask for that name a subject and no style: factors and captions."""
    factors = choose(seed, "test", sample)
    subject = np.where(factors.subject == NOTHING, 1 + sample % 10, factors.subject)
    factors = sensible(replace(factors, subject=subject, style=np.full_like(factors.style, PLAIN)))
    return factors, caption(factors, seed, "test", sample).texts
