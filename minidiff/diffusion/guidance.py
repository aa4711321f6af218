"""Classifier-free guidance: evaluate the network with the label and without, and extrapolate from one to the other.

Idea: a network that was trained with some of its labels hidden can predict with a label and without one.  The
difference of the two predictions is what the label adds; classifier-free guidance enlarges it,

    eps = uncond + guidance_scale (cond - uncond)

A scale of 0 ignores the label, and 1 follows it as it was learnt.  With a larger scale the images show the label more
clearly and vary less.  If `uncond` is the prediction for another prompt, a negative prompt, guidance leads away from
that prompt.
Guidance can be limited to an interval of t.
Leaves out a scale that grows or shrinks with t.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidiff import backend
from minidiff.autograd import no_grad
from minidiff.errors import MinidiffError
from minidiff.graphed import Graphed

Denoise = Callable[[np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class Prediction:
    """One evaluation of the network, for viewers.

    x_t, t: its inputs.  cond: its output with the label, or the only one.  uncond: its output without the label, or for
    the negative prompt; None where it was not evaluated.  guided: the combination of both.  Arrays (N, H, W, C)
    float32.
    """

    x_t: np.ndarray
    t: float
    cond: np.ndarray
    uncond: np.ndarray | None
    guided: np.ndarray


OnPrediction = Callable[[Prediction], object]


def denoiser(
    model: Any,
    labels: np.ndarray | None = None,
    guidance_scale: float = 1.0,
    negative: np.ndarray | None = None,
    between: tuple[float, float] = (-math.inf, math.inf),
    on_prediction: OnPrediction | None = None,
) -> Denoise:
    """Return a function that maps x_t (N, H, W, C) float32 and a float t to the (guided) output, shaped like x_t.

    model: has condition(n, labels, with_cond), which encodes what n images are conditioned on, and is called as
    model(x, t, cond); model.config.null_cond is the label that stands for "none".
    labels: (N,) int64, or captions (N, L), or None to draw without.  negative: what to lead away from, in the place of
    no label, shaped like labels.  between: the lowest and the highest t at which guidance is used; at other
    t, guidance_scale is 1.  (Users give two sigma, which pipeline/prepare.py turns into t.)  on_prediction: is called
    with every prediction, and must not change it.
    The model's weights must stay as they are for as long as the function is used: the condition is encoded once, and
    convolutions prepare their filters once.

    Both predictions are made in one batch of 2 N; with guidance_scale 1 only the conditional one is.  The equation is
    meant for eps, but for a fixed x_t the outputs x0 and v are affine functions of eps, and the weights of the
    equation add up to 1: the same equation serves all targets.
    Guidance in the middle of the way is enough: at its noisy start it makes images alike, and at its end it has
    nothing to add (Kynkäänniemi et al. 2024, arXiv:2404.07724).
    Source: Ho and Salimans 2022, arXiv:2207.12598, eq. 6, whose w is guidance_scale - 1.
    """
    if guidance_scale != 1 and labels is None:
        raise MinidiffError(f"guidance_scale {guidance_scale:g} needs labels to guide towards; without labels it is 1")
    constant = backend.current().constant_filters()

    @functools.cache
    def condition(n: int, doubled: bool) -> Any:
        if not doubled:
            return model.condition(n, labels)
        none = np.full_like(labels, model.config.null_cond) if negative is None else negative
        return model.condition(2 * n, np.concatenate([labels, none]), np.arange(2 * n) < n)

    @functools.cache
    def network(n: int, doubled: bool) -> Graphed:
        cond = condition(n, doubled)
        return Graphed(lambda x, t: (model(x, t, cond).data,))

    def predict(x_t: np.ndarray, t: float, doubled: bool = False) -> np.ndarray:
        with no_grad(), constant:
            xp = backend.current().xp
            x = xp.concatenate([x_t, x_t]) if doubled else x_t
            (output,) = network(len(x_t), doubled)(x, xp.full(len(x), t, np.float32))
            return output

    def conditional(x_t: np.ndarray, t: float) -> np.ndarray:
        output = predict(x_t, t)
        if on_prediction is not None:
            on_prediction(Prediction(x_t, t, output, None, output))
        return output

    def guided(x_t: np.ndarray, t: float) -> np.ndarray:
        if not between[0] <= t <= between[1]:
            return conditional(x_t, t)
        output = predict(x_t, t, doubled=True)
        cond, uncond = output[: len(x_t)], output[len(x_t) :]
        output = uncond + float(guidance_scale) * (cond - uncond)
        if on_prediction is not None:
            on_prediction(Prediction(x_t, t, cond, uncond, output))
        return output

    return conditional if labels is None or guidance_scale == 1 else guided
