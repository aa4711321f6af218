"""Clipping: what is done with values of a predicted image outside [-1, 1].

Idea: early in sampling the prediction x0_hat is far off.  No image has values outside [-1, 1], so these are certainly
wrong.  Clipping either cuts all of them off, or it cuts off only the most extreme ones and scales the image into the
range.
Leaves out the noise eps_hat that belongs to the clipped image: run.py.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from minidiff import backend
from minidiff.errors import MinidiffError

Clip = Literal["none", "clip", "dynamic"]
CLIPS: tuple[str, ...] = get_args(Clip)


@dataclass(frozen=True)
class Clipping:
    """A kind of clipping and its numbers, see `clip_x0`; diffusers models have other numbers.

    limit: where "clip" cuts.  share: the quantile that "dynamic" takes.  most: its largest c, even if that is below 1.
    """

    kind: str = "clip"
    limit: float = 1.0
    share: float = 0.995
    most: float = math.inf

    def __post_init__(self) -> None:
        if self.kind not in CLIPS:
            raise MinidiffError(f"clip must be one of {', '.join(CLIPS)}, got {self.kind!r}")


def clip_x0(x0_hat: np.ndarray, clip: str | Clipping) -> np.ndarray:
    """Clip a predicted image to the range of images, [-1, 1].

    "none": leave it.  "clip": cut at -1 and 1.  "dynamic": where more than 0.5% of an image's values lie outside,
    cut only the outermost 0.5% and scale the image into the range, so that bright parts keep their shading,

        c = max(1, the 99.5% quantile of |x0_hat|),   x0_hat <- clip(x0_hat, -c, c) / c

    A `Clipping` may cut elsewhere, take another quantile, and let c be no more than `most`.

    The samplers then recompute eps_hat from x_t and the clipped x0_hat, so that the two still add up to x_t.  If the
    network predicts eps, its error appears in an early x0_hat multiplied by s / a, which may be 100 and more.  With
    the unclipped eps_hat, what clipping takes from x0_hat would be missing from x_prev.
    x0_hat: (N, H, W, C) float.  Returns the same.
    Source: Saharia et al. 2022, arXiv:2205.11487, section 2.3.
    """
    clip = Clipping(clip) if isinstance(clip, str) else clip
    if clip.kind == "none":
        return x0_hat
    if clip.kind == "clip":
        return x0_hat.clip(-clip.limit, clip.limit)
    xp = backend.current().xp
    largest = xp.quantile(abs(x0_hat).reshape(len(x0_hat), -1), clip.share, axis=1)
    c = xp.clip(largest, min(1, clip.most), clip.most).astype(x0_hat.dtype).reshape(-1, *[1] * (x0_hat.ndim - 1))
    return x0_hat.clip(-c, c) / c
