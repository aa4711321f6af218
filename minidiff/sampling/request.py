"""All settings that decide the images of `python -m minidiff.sample`: what `--like` repeats.

Idea: one frozen object is parsed from the command line, handed down to the sampler, and stored in grid.png.  With the
same request, files and version, and for backend numpy the same threads, the images are the same to the bit.
Leaves out options that only say what is shown and written: sample.py.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from minidiff.command_line import BackendName
from minidiff.pipeline.settings import SamplingSettings


@dataclass(frozen=True)
class SampleRequest(SamplingSettings):
    """What to draw and how: `SamplingSettings`, and the command's own options for the model and its inputs."""

    prompt: tyro.conf.Positional[tuple[str, ...]] = ()
    """What to draw, in words between quotation marks; several prompts take turns."""
    checkpoint: Path | None = None
    """The model: a checkpoint file, or a training's folder for its newest checkpoint. Default: the weights that come
    with minidiff, which draw scenes."""
    diffusers: Path | None = None
    """A diffusers model in its place: a folder with a UNet2DModel that the diffusers library has saved. Seeds are
    PyTorch's then, and the images those that diffusers would draw."""
    count: int = 16
    """Number of images."""
    label: tuple[str, ...] = ()
    """What to draw: names or numbers of labels, which take turns. Default: all in turn, or none for --init."""
    negative: str | None = None
    """A negative prompt: what not to draw, in words; guidance leads away from it."""
    batch_size: int = 64
    """Images drawn at once; fewer need less memory."""
    init: Path | None = None
    """An image to start from; its middle is taken and scaled to the model's size. Without further options it is drawn
    anew, with some likeness left."""
    strength: float | None = None
    """How much of the image --init may change, from 0, nothing, to 1. Default: 0.6, or 1 with a mask."""
    mask: Path | None = None
    """An image that is white where that of --init is drawn anew, black where it is kept; or painted where it is drawn
    anew, in any colour, and clear where it is kept."""
    resample: int = 1
    """How often each part of the steps is repeated under a mask (RePaint): more take longer and fit edges better."""
    noise_level: str | None = None
    """Remove the noise on an image, that of --init: its standard deviation in grey levels, or auto to estimate it."""
    to: Path | None = None
    """Another image, the end of an interpolation that starts with --init and has --count images."""
    vary: float | None = None
    """Draw variations of the image, that of --init, from 0, itself, to 1, anything."""
    control: Path | None = None
    """A drawing that says where things are: lines on a plain ground, dark or light, or a photo, whose edges are taken;
    any size."""
    control_scale: float = 1.0
    """How strongly the drawing is followed, from 0, not at all."""
    control_kind: Literal["edges", "segmentation", "depth"] = "edges"
    """What kind of map the drawing is; segmentation and depth as scenes have them."""
    reference: Path | None = None
    """An image whose style and colours are taken over."""
    reference_scale: float = 0.8
    """How strongly they are taken over, from 0, not at all."""
    branch: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Change settings on the way: 'step = 20, prompt = "a cat"' goes on after step 20 with another prompt. Prompt,
    label, guidance, sampler, control and reference can change, more than once; "default" is a setting's default."""
    adapter: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """An adapter that was trained to follow drawings or references: a checkpoint, or a training's folder. Those of the
    weights that come with minidiff are there already."""
    backend: BackendName = "auto"
