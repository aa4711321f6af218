"""Reading the images that a request names, as inputs of a model.

Idea: images of any size and file format become arrays of the model's size and channels.  An image that cannot be used
raises an error of one line.  `files_of` lists all files that decide the result; like.py stores their hashes.
Leaves out reading a single file: images/read.py, data/control.py.
"""

import math
from pathlib import Path

from minidiff.data.control import read_control
from minidiff.diffusion.edit import Edit
from minidiff.errors import MinidiffError
from minidiff.images.files import to_float
from minidiff.images.read import read_image, read_mask
from minidiff.pipeline.model import Model
from minidiff.pipeline.settings import Inputs
from minidiff.sampling import branches
from minidiff.sampling.request import SampleRequest

IMAGES = ("init", "mask", "to", "control", "reference")  # the settings that name an image


def read_inputs(request: SampleRequest, model: Model) -> Inputs:
    """Read the images that the request names, and return them with its prompt and label."""
    height, width, channels = model.shape
    control = reference = None
    if request.control is not None:
        control = read_control(request.control, height, width, request.control_kind)
    if request.reference is not None:
        reference = read_image(request.reference, height, width, channels)
    return Inputs(
        label=request.label,
        prompt=request.prompt or None,
        negative=request.negative,
        edit=read_edit(request, model),
        control=control,
        control_kind=request.control_kind,
        control_scale=request.control_scale,
        reference=reference,
        reference_scale=request.reference_scale,
    )


def read_edit(request: SampleRequest, model: Model) -> Edit | None:
    """Read the images of an edit; return them with the edit's settings, or None without --init."""
    if request.init is None:
        for name in ("strength", "mask", "noise_level", "to", "vary"):
            if getattr(request, name) is not None:
                raise MinidiffError(f"--{name.replace('_', '-')} needs an image to work on: give --init")
        return None
    height, width, channels = model.shape
    read = lambda path: to_float(read_image(path, height, width, channels))
    return Edit(
        image=read(request.init),
        strength=request.strength,
        mask=read_mask(request.mask, height, width) if request.mask else None,
        resample=request.resample,
        sigma=None if request.noise_level is None else noise_level(request.noise_level),
        to=read(request.to) if request.to else None,
        vary=request.vary,
        frames=max(request.count, 2),
    )


def noise_level(text: str) -> float | str:
    """Return --noise-level, in grey levels, on the scale of images in [-1, 1]; "estimate" for auto."""
    if text == "auto":
        return "estimate"
    try:
        level = float(text)
    except ValueError:
        level = math.nan
    if not 0 < level < math.inf:
        raise MinidiffError(f"--noise-level must be auto or a number of grey levels above 0, got {text!r}")
    return level * 2 / 255


def files_of(request: SampleRequest, model: Model) -> dict[str, Path]:
    """Return all files that decide the images, by the names that messages and grid.png use for them."""
    files = {"checkpoint": model.path, **model.beside}
    files |= {name: path for name in IMAGES if (path := getattr(request, name))}
    files |= dict(branches.files(request))
    if request.control or request.reference or any(branches.files(request)):
        files |= {f"adapter for {kind}": path for kind, path in model.files.items()}
    return files
