"""Do drawings and references steer?  Both are asked for what they promise, and for what they must not spoil.

Idea: a drawing promises edges, so the edges of samples are compared with those that were drawn; a reference promises a
look, so hues are compared, on images in two tones, whose hue no word names.  Neither may make the prompt be heard
less: the same prompts are drawn with and without.
After edges.py, hue.py and attributes.py.  Leaves out segmentation and depth, of which no detector is at hand.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from minidiff.data.maps import maps
from minidiff.evaluation.scenes.edges import EdgeControl, edge_control
from minidiff.evaluation.scenes.hue import hue, hue_error
from minidiff.evaluation.scenes.prompts import Prompts
from minidiff.scenes import Scenes
from minidiff.scenes.captions import caption
from minidiff.scenes.factors import NOTHING, STYLES, choose, sensible
from minidiff.scenes.scenes import draw

PLAIN, DUOTONE = STYLES.index("plain"), STYLES.index("duotone")
OTHERS = 1 << 24  # numbers of the reference images, from those of the prompts

Draw = Callable[..., np.ndarray]  # of prompts and, by name, what is shown: to images (N, H, W, 3) uint8


@dataclass(frozen=True, eq=False)
class ControlVerdict:
    """asked: what was drawn.  edges: how well maps of edges are followed.

    with_, without: what was drawn with maps and without, (N, H, W, 3).
    """

    asked: Prompts
    edges: EdgeControl
    with_: np.ndarray
    without: np.ndarray


@dataclass(frozen=True, eq=False)
class ReferenceVerdict:
    """asked: what was drawn.  error: between the hues of samples and references, (N,) degrees.

    shuffled: between those of samples and other references.  real: between those of real images of the same look and
    the references.  with_, without: what was drawn with references and without, (N, H, W, 3).
    """

    asked: Prompts
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
    asked, wanted = Prompts(sample, factors, caption(factors, seed, "test", sample)), maps(scenes, sample, "edges")
    steered = paint(asked.captions.texts, control=wanted)
    return ControlVerdict(asked, edge_control(wanted, steered, real), steered, paint(asked.captions.texts))


def judge_reference(paint: Draw, size: int, seed: int, sample: np.ndarray) -> ReferenceVerdict:
    """Draw captions that are silent on style, each with a reference in two tones that shows something else.

    sample: (N,) int64, the numbers of the prompts in split "test"; see `silent`.
    """
    asked = silent(seed, sample)
    factors, texts = asked.factors, asked.captions.texts
    other = sample + OTHERS
    tones = np.full_like(factors.style, DUOTONE)
    look = {name: getattr(factors, name) for name in ("time", "season", "weather", "hue")}
    shown = sensible(replace(choose(seed, "test", other), style=tones, **look))
    references = draw(shown, size, seed, "test", other).image
    real = draw(replace(factors, style=tones), size, seed, "test", sample).image
    steered = paint(texts, reference=references)
    wanted, found = hue(references), hue(steered)
    half = len(sample) // 2
    return ReferenceVerdict(
        asked,
        hue_error(found, wanted),
        hue_error(found, np.roll(wanted, half)),
        hue_error(hue(real), wanted),
        steered,
        paint(texts),
    )


def silent(seed: int, sample: np.ndarray) -> Prompts:
    """Return prompts that name a subject and no style."""
    factors = choose(seed, "test", sample)
    subject = np.where(factors.subject == NOTHING, 1 + sample % 10, factors.subject)
    factors = sensible(replace(factors, subject=subject, style=np.full_like(factors.style, PLAIN)))
    return Prompts(sample, factors, caption(factors, seed, "test", sample))
