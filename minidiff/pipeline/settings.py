"""The settings of a sampling run: how to sample (`SamplingSettings`), and what to draw (`Inputs`).

Idea: both are frozen objects.  They are made once, from keywords or from a command line, and handed on as they are.
prepare.py checks them once, and fills in the defaults of the model (`Defaults`).
Leaves out reading images (sampling/inputs.py) and parsing a command line (sample.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from minidiff import renamed
from minidiff.diffusion.clipping import Clip, Clipping
from minidiff.diffusion.edit import Edit
from minidiff.diffusion.schedule import Level, Schedule
from minidiff.diffusion.solvers import SAMPLERS, SamplerName
from minidiff.diffusion.timesteps import Spacing, levels
from minidiff.errors import MinidiffError
from minidiff.limits import check_limits

Label = str | int | Sequence[str | int] | np.ndarray | None
Prompt = str | Sequence[str] | None

# The settings that not every sampler takes.
SAMPLER_SETTINGS: dict[str, tuple[str, ...]] = {
    "ddpm": ("variance",),
    "ddim": ("eta",),
    "euler": ("churn",),
    "heun": ("churn",),
}


@dataclass(frozen=True)
class SamplingSettings:
    """How images are sampled.  None stands for the model's default."""

    sampler: SamplerName = "ddim"
    """How noise becomes an image: ddim is plain and needs fifty steps, dpm-solver and unipc need ten; heun evaluates
    the network twice a step, and needs many steps on the cosine schedule; ddpm, euler-ancestral and dpm-solver-sde add
    fresh noise at every step."""
    steps: int | None = None
    """Steps from noise to image, from 1 to the length of the model's schedule. Default: 50, or that length where it is
    shorter."""
    spacing: Spacing | None = None
    """Which timesteps are visited: evenly spaced ones, from the last one (trailing), from the first one (leading) or
    between both (linspace); or denser ones where little noise is left (karras). Default: trailing, or what a diffusers
    model says, as for variance and clip."""
    eta: float = 0.0
    """Fresh noise in ddim, from 0, none, to 1, as much as ddpm."""
    churn: float = 0.0
    """Noise added again before each step of euler and heun; 0 for none, tens for much."""
    variance: Literal["small", "large"] | None = None
    """How much fresh noise ddpm adds at every step. Default: small."""
    guidance_scale: float | None = None
    """How strongly the prompt or label is followed; 1 is as trained, 0 not at all. Default: 3, of latents 2, or 1
    without prompt and label."""
    guidance_interval: tuple[float, float] | None = None
    """Noise levels between which guidance is used, as two sigma: noise over image, both on the scale of images from -1
    to 1. Guidance only in the middle, such as 0.2 2, keeps samples varied. Default: always."""
    clip: Clip | None = None
    """What is done with predicted images outside the range of images: cut off (clip), scaled into it (dynamic), or left
    (none). Default: clip."""
    seed: int = 0
    """Names the noise: the same seed gives the same images."""

    def check(self) -> None:
        """Raise MinidiffError for a number beyond its limits, an unknown sampler, or a setting of another sampler."""
        names = ("seed", "eta", "churn", "guidance_interval")
        check_limits({name: getattr(self, name) for name in names})
        if self.sampler not in SAMPLERS:
            raise MinidiffError(f"sampler must be one of {', '.join(SAMPLERS)}, got {self.sampler!r}")
        default = SamplingSettings()
        for name in ("eta", "churn", "variance"):
            value = getattr(self, name)
            having = [sampler for sampler in SAMPLERS if name in SAMPLER_SETTINGS.get(sampler, ())]
            if self.sampler not in having and value != getattr(default, name):
                raise MinidiffError(f"{name} is a setting of {', '.join(having)}; {self.sampler} has none, got {value}")


@dataclass(frozen=True, eq=False)
class Inputs:
    """What to draw.

    label: a name, a number, or several, which take turns; None takes all labels in turn, or none for an edit.
    prompt: what to draw in words, or several prompts, which take turns; None draws anything.
    negative: a negative prompt, what not to draw.
    edit: an image to start from, and what is done with it.
    control: a map that says where things are, (H, W, c) uint8, or several, (N, H, W, c), which take turns: white lines
    on black, if `control_kind` is "edges".  control_scale: its strength; 0 switches it off.
    reference: an image whose style is taken over, (H, W, C) uint8, or several, (N, H, W, C), which take turns.
    reference_scale: its strength.
    """

    label: Label = None
    prompt: Prompt = None
    negative: Prompt = None
    edit: Edit | None = None
    control: np.ndarray | None = None
    control_kind: str = "edges"
    control_scale: float = 1.0
    reference: np.ndarray | None = None
    reference_scale: float = 0.8

    def check(self) -> None:
        """Raise MinidiffError for a number beyond its limits."""
        check_limits({"control_scale": self.control_scale, "reference_scale": self.reference_scale})


def from_keywords(keywords: dict[str, Any]) -> tuple[SamplingSettings, Inputs]:
    """Return settings and inputs from keywords, each named as the field that it sets; TypeError for another name."""
    how, what = ({field.name for field in fields(kind)} for kind in (SamplingSettings, Inputs))
    if unknown := sorted(keywords.keys() - how - what):
        if new := renamed.SETTINGS["sample"].get(unknown[0]):
            raise TypeError(f"{unknown[0]} is now called {new}")
        raise TypeError(f"unknown setting {unknown[0]!r}; known are {', '.join(sorted(how | what))}")
    return (
        SamplingSettings(**{name: value for name, value in keywords.items() if name in how}),
        Inputs(**{name: value for name, value in keywords.items() if name in what}),
    )


@dataclass(frozen=True)
class Defaults:
    """A model's default settings, and where the samplers of diffusers differ.

    keep_eps: for ddim, see `Run`.  noisy_end: for ddpm.
    levels: a function like `timesteps.levels`.
    ends: for ddim, a function from the schedule and the levels to the level at which each step ends; None: the next.
    """

    spacing: str = "trailing"
    clip: str | Clipping = "clip"
    variance: str = "small"
    keep_eps: bool = False
    noisy_end: bool = False
    levels: Callable[[Schedule, int, str], list[Level]] = levels
    ends: Callable[[Schedule, Sequence[Level]], list[Level]] | None = None


DEFAULTS = Defaults()  # those of minidiff's own models
