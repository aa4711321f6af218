"""Do samples follow edge maps and reference images, and do they still follow their prompts?

Idea: an edge map prescribes edges, so the edges of a sample are compared with those of its map.  A reference image
prescribes a look, so the hue of a sample is compared with that of its reference.  The references have the style
"duotone", because no prompt can name its hue.  Both could weaken the prompt, so the same prompts are drawn with and
without an edge map or reference image.
Leaves out segmentation and depth, for which there is no detector here.
"""

from dataclasses import dataclass, replace

import numpy as np

from minidiff.data.maps import maps
from minidiff.evaluation.reduce import reduced
from minidiff.evaluation.scenes.edges import EdgeControl, edge_control
from minidiff.evaluation.scenes.hue import hue, hue_error
from minidiff.evaluation.scenes.prompts import Generate, Prompts
from minidiff.scenes import Scenes
from minidiff.scenes.captions import caption
from minidiff.scenes.factors import NOTHING, STYLES, choose, sensible
from minidiff.scenes.scenes import render

PLAIN, DUOTONE = STYLES.index("plain"), STYLES.index("duotone")
REFERENCE_OFFSET = 1 << 24  # from the number of a prompt's scene to that of its reference image


@dataclass(frozen=True, eq=False)
class ControlResults:
    """edges: how well samples follow their edge maps, reduced to the size of the judges.  whole: not reduced.
    with_, without: samples drawn with maps and without them, (N, H, W, 3) uint8."""

    prompts: Prompts
    edges: EdgeControl
    whole: EdgeControl
    with_: np.ndarray
    without: np.ndarray


@dataclass(frozen=True, eq=False)
class ReferenceResults:
    """error: the difference between the hues of samples and of their references, (N,) degrees.

    shuffled: the same with the references of other samples.  real: the same for real images with the look of the
    references.  with_, without: samples drawn with references and without them, (N, H, W, 3) uint8.
    """

    prompts: Prompts
    error: np.ndarray
    shuffled: np.ndarray
    real: np.ndarray
    with_: np.ndarray
    without: np.ndarray


def judge_control(generate: Generate, size: int, judged: int, seed: int, sample: np.ndarray) -> ControlResults:
    """Draw held-out scenes from their captions and edge maps, and from their captions alone.

    size: height and width of the images.  judged: those to which they are reduced to be compared with the exact edges,
    so that a pixel is the same part of the image for models of all sizes.
    sample: (N,) int64, the scenes' numbers in split "test".
    """
    scenes = Scenes(size, "test", seed, captions=True)
    factors, real = scenes.factors(sample), scenes.batch(sample)[0]
    prompts = Prompts(sample, factors, caption(factors, seed, "test", sample))
    with_ = generate(prompts.captions.texts, control=maps(scenes, sample, "edges"))

    def edges(side: int) -> EdgeControl:
        wanted = maps(Scenes(side, "test", seed, captions=True), sample, "edges")
        return edge_control(wanted, reduced(with_, side, side), reduced(real, side, side))

    return ControlResults(prompts, edges(judged), edges(size), with_, generate(prompts.captions.texts))


def judge_reference(generate: Generate, size: int, seed: int, sample: np.ndarray) -> ReferenceResults:
    """Draw prompts that mention no style, each with a reference image in two tones that shows another scene.

    sample: (N,) int64, the numbers of the prompts' scenes in split "test"; see `prompts_without_style`.
    """
    prompts = prompts_without_style(seed, sample)
    factors, texts = prompts.factors, prompts.captions.texts
    other = sample + REFERENCE_OFFSET
    tones = np.full_like(factors.style, DUOTONE)
    look = {name: getattr(factors, name) for name in ("time", "season", "weather", "hue")}
    shown = sensible(replace(choose(seed, "test", other), style=tones, **look))
    references = render(shown, size, seed, "test", other).image
    real = render(replace(factors, style=tones), size, seed, "test", sample).image
    with_ = generate(texts, reference=references)
    wanted, found = hue(references), hue(with_)
    half = len(sample) // 2
    return ReferenceResults(
        prompts,
        hue_error(found, wanted),
        hue_error(found, np.roll(wanted, half)),
        hue_error(hue(real), wanted),
        with_,
        generate(texts),
    )


def prompts_without_style(seed: int, sample: np.ndarray) -> Prompts:
    """Return prompts that mention a subject and no style."""
    factors = choose(seed, "test", sample)
    subject = np.where(factors.subject == NOTHING, 1 + sample % 10, factors.subject)
    factors = sensible(replace(factors, subject=subject, style=np.full_like(factors.style, PLAIN)))
    return Prompts(sample, factors, caption(factors, seed, "test", sample))
