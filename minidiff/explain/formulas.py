"""The formulas of one step, in the symbols of docs/notation.md, each with its numbers at one pixel.

Of a latent model, a pixel is a position of the latents, and its first channel is channel 0.

Idea: guidance combines two outputs of the network into one.  The output and x_t are converted to an image and a noise;
the image may be clipped.  The sampler mixes image and noise again, with less noise.  Each formula is applied pixel by
pixel, so one pixel shows the whole step.
A prime marks the end of the step: x′ is x_prev.
Leaves out derivations, which are in diffusion/.
"""

import math
from collections.abc import Callable

import numpy as np

from minidiff.diffusion.process import Process
from minidiff.diffusion.run import Step
from minidiff.explain.recording import Frame, NetworkOutputs

At = Callable[[np.ndarray], float]
Line = dict[str, str]  # what, formula, numbers, note: plain text, the last three maybe ""

OUTPUT = {
    "eps": "ε",
    "x0": "x",
    "v": "v",
    "flow": "u",
    "edm": "F",
}  # the prediction's symbol
READ = {
    "eps": "x̂₀ = (xₜ − s ε) / a",
    "x0": "x̂₀ = x",
    "v": "x̂₀ = (a xₜ − s v) / (a² + s²)",
    "flow": "x̂₀ = (xₜ − s u) / (a + s)",
    "edm": "x̂₀ = c_skip xₜ / a + c_out F",
}
# A sampler's own formula, and whether its numbers are those of (xₜ, x̂₀) or of (x̂₀, ε̂).
FORMULAS = {
    "ddpm": ("x′ = αs′²/s² xₜ + a′β/s² x̂₀ + σ z,   α = a/a′,  β = s² − α²s′²", "x_t"),
    "ddim": ("x′ = a′ x̂₀ + √(s′² − σ_step²) ε̂ + σ_step z", "eps"),
    "euler": ("x′/a′ = xₜ/a + (σ′ − σ) ε̂,   σ = s/a", "eps"),
    "euler-ancestral": ("x′ = a′ (x̂₀ + σ_down ε̂ + σ_up z)", "eps"),
    "heun": ("x′/a′ = xₜ/a + (σ′ − σ) (d + d′)/2,   d = ε̂ here,  d′ = ε̂ at the step's end", "eps"),
    "dpm-solver": ("x′ = s′/s xₜ − a′ (e⁻ʰ − 1) D,   D = x̂₀ + (x̂₀ − x̂₀ before)/2r", "x_t"),
    "dpm-solver-sde": ("x′ = s′/s e⁻ʰ xₜ + a′ (1 − e⁻²ʰ) D + s′ √(1 − e⁻²ʰ) z", "x_t"),
    "unipc": ("x′ = s′/s xₜ − a′ (e⁻ʰ − 1) (x̂₀ + D₁/2), and corrected once x̂₀ is known there", "x_t"),
}
ANOTHER = {"heun": "x̂₀ at the step's end"}  # what the third coefficient of `mix` multiplies; of other samplers:
BEFORE = "x̂₀ of the step before"


def lines(frame: Frame, image: int, process: Process, sampler: str, guidance_scale: float, without: str) -> list[Line]:
    """Return the lines of a step at the middle pixel of an image or of its latents, in the first channel.

    without: the symbol of what the second evaluation was conditioned on, such as ∅.
    """
    step, outputs = frame.step, frame.outputs
    at: At = lambda array: float(array[image, array.shape[1] // 2, array.shape[2] // 2, 0])
    found = [] if outputs is None else _predicted(frame, outputs, image, at, process, guidance_scale, without)
    return [*found, _mixed(step, at, sampler)]


def _predicted(
    frame: Frame, outputs: NetworkOutputs, image: int, at: At, process: Process, guidance_scale: float, without: str
) -> list[Line]:
    step, out = frame.step, OUTPUT[process.target]
    found: list[Line] = []
    if outputs.uncond is not None:
        cond, uncond = at(outputs.cond), at(outputs.uncond)
        formula = f"{out} = {out}({without}) + (1+w) ({out}(c) − {out}({without})),   1+w = {number(guidance_scale)}"
        w, guided = number(guidance_scale), number(at(outputs.guided))
        values = f"{guided} = {number(uncond)} + {w} · ({number(cond)} − {_in(uncond)})"
        found.append(line("Guidance: extrapolate from one prediction through the other", formula, values))
    else:
        found.append(line("The network's output", f"{out}(xₜ, t) = {number(at(outputs.guided))}"))

    g, h = process.mixture(step.level)
    determinant = step.level.a * h - step.level.s * g
    on_x_t, on_output = float(h / determinant), -float(step.level.s / determinant)
    parts = [(on_x_t, at(step.x_t), ""), (on_output, at(outputs.guided), "")]
    x0 = at(outputs.x0_guided)
    what = "Converted to latents without noise" if frame.latent else "Converted to an image"
    found.append(line(what, READ[process.target], f"{number(x0)} = {summed(parts)}"))

    beyond = float(np.mean(np.abs(outputs.x0_guided[image]) > 1))
    if not frame.latent and not np.array_equal(outputs.x0_guided[image], step.x0_hat[image]):
        formula = f"x̂₀ ← {number(at(step.x0_hat))}" if x0 != at(step.x0_hat) else "x̂₀ stays as it is at this pixel"
        note = f"{100 * beyond:.0f}% of the image's values were beyond [−1, 1]"
        found.append(line("Clipped to the range of images", formula, "", note))
    values = f"{number(at(step.eps_hat))} = ({number(at(step.x_t))} − {number(step.level.a)} · {_in(at(step.x0_hat))})"
    found.append(line("And the noise that is left", "ε̂ = (xₜ − a x̂₀) / s", f"{values} / {number(step.level.s)}"))
    return found


def _mixed(step: Step, at: At, sampler: str) -> Line:
    """Return the sampler's line: the terms of x_prev that are known at this step, and the others as one number."""
    formula, of = FORMULAS[sampler]
    if sampler == "ddim" and step.mix is not None and not step.mix[3]:
        formula = "x′ = a′ x̂₀ + s′ ε̂"  # nothing is drawn anew
    x_prev, what = at(step.x_prev), f"The step to less noise: {sampler}"
    if step.mix is None:
        return line(what, formula, f"x′ = {number(x_prev)}", "x′ was corrected or partly replaced after the step")
    on_eps, on_x0, on_another, on_z = map(float, step.mix)
    known = [(on_x0, at(step.x0_hat), "x̂₀"), (on_eps, at(step.eps_hat), "ε̂")]
    if of == "x_t":  # eps_hat = (x_t - a x0_hat) / s
        on_x_t = on_eps / step.level.s
        known = [(on_x_t, at(step.x_t), "xₜ"), (on_x0 - step.level.a * on_x_t, at(step.x0_hat), "x̂₀")]
    others = [(on_another, 0.0, ANOTHER.get(sampler, BEFORE)), (on_z, 0.0, "z")]
    others = [part for part in others if part[0]]
    named = "x′ = " + summed([*known, *others], values=False)
    values = f"{number(x_prev)} = {summed(known)}"
    if others:
        rest = x_prev - sum(factor * value for factor, value, _ in known)
        values += f" {'−' if rest < 0 else '+'} {number(abs(rest))}"
        names = " and ".join("fresh noise z" if name == "z" else name for _, _, name in others)
        return line(what, formula, f"{named}\n{values}", f"the last term is the contribution of {names}")
    return line(what, formula, f"{named}\n{values}")


def line(what: str, formula: str, numbers: str = "", note: str = "") -> Line:
    """Return a line of the page."""
    return {"what": what, "formula": formula, "numbers": numbers, "note": note}


def summed(parts: list[tuple[float, float, str]], values: bool = True) -> str:
    """Write a sum of factors times values, or times names: "0.5 · 0.2 − 0.1 · 0.3"."""
    text = ""
    for factor, value, name in parts:
        sign = "−" if factor < 0 else "+"
        start = f" {sign} " if text else ("−" if factor < 0 else "")
        text += f"{start}{number(abs(factor))}{f' · {_in(value)}' if values else f' {name}'}"
    return text


def number(x: float) -> str:
    """Write a number for people: three decimals, none for integers, three significant digits if large or tiny."""
    if not math.isfinite(x):
        return "∞" if x > 0 else "−∞" if x < 0 else "?"
    x = float(x)
    text = f"{x:.3g}" if abs(x) >= 100 or 0 < abs(x) < 0.001 else f"{x:.3f}"
    if float(text) == int(float(text)) and abs(float(text)) < 1e6:
        text = str(int(float(text)))
    return text.replace("-", "−")


def _in(x: float) -> str:
    """A number within a sum: in brackets if it is negative."""
    return f"({number(x)})" if x < 0 else number(x)
