"""The request for an edit: an image, and one thing to do with it.

Idea: one frozen object says what to do; `Edit.start` calls the function of editing.py that does it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from minidiff import backend
from minidiff.diffusion import editing
from minidiff.diffusion.editing import Sample
from minidiff.diffusion.guidance import Denoise
from minidiff.diffusion.process import Process
from minidiff.diffusion.run import Noise, Step
from minidiff.diffusion.schedule import Level
from minidiff.errors import MinidiffError

STRENGTH = 0.6  # the default of img2img: the layout stays, the details do not


@dataclass(frozen=True, eq=False)
class Edit:
    """An image to start from, and one thing to do with it; by default img2img with strength 0.6.

    image: (H, W, C) float32 in [-1, 1].
    strength: how much may change, from 0, nothing, to 1.
    mask: (H, W, 1) float32, 1 where the image is drawn anew (inpainting); strength is 1 by default then.
    resample: see `editing.inpaint`.
    sigma: the standard deviation of the noise to remove, for images in [-1, 1]; "estimate" estimates it.
    to: another image of the same shape; `frames` images are drawn that interpolate between the two.
    vary: draw variations, from 0, the image itself, to 1, any image.
    Raises MinidiffError for two things at once, or shapes that do not fit.
    """

    image: np.ndarray
    strength: float | None = None
    mask: np.ndarray | None = None
    resample: int = 1
    sigma: float | str | None = None
    to: np.ndarray | None = None
    vary: float | None = None
    frames: int = 8

    def __post_init__(self) -> None:
        options = {
            "strength or mask": (self.strength, self.mask),
            "sigma": (self.sigma,),
            "to": (self.to,),
            "vary": (self.vary,),
        }
        given = [name for name, values in options.items() if any(value is not None for value in values)]
        if len(given) > 1:
            raise MinidiffError(f"an image can be edited in one way at a time, got {' and '.join(given)}")
        if self.resample != 1 and self.mask is None:
            raise MinidiffError(f"resample needs a mask, got resample {self.resample} without a mask")
        if self.frames < 2:
            raise MinidiffError(f"frames must be 2 or more, got {self.frames}")
        if isinstance(self.sigma, str) and self.sigma != "estimate":
            raise MinidiffError(f'sigma must be a number or "estimate", got {self.sigma!r}')
        for name, array, shape in (
            ("to", self.to, self.image.shape),
            ("mask", self.mask, (*self.image.shape[:2], 1)),
        ):
            if array is not None and array.shape != shape:
                raise MinidiffError(f"{name} must be {shape} to fit the image, got {array.shape}")

    def start(
        self, sample: Sample, predict: Denoise, process: Process, levels: Sequence[Level], noise: Noise, shape: tuple
    ) -> Iterator[Step]:
        """Return the steps of the edit, for the images with the numbers noise.samples.

        sample: a sampler, see `editing.Sample`.  predict: the network without guidance, for `editing.invert`.
        shape: (H, W, C) of what the network denoises.
        """
        if self.image.shape != shape:
            raise MinidiffError(f"the image must be {shape} as the model's are, got {self.image.shape}")
        n = len(noise.samples)
        x0 = backend.to_device(np.repeat(self.image[None], n, 0))
        if self.sigma is not None:
            return editing.denoise(sample, levels, x0, self.noise_level(), process.schedule, noise)
        if self.vary is not None or self.to is not None:
            x_T = editing.invert(predict, process, x0, levels)
            if self.to is None:
                return sample(editing.vary(x_T, self.vary or 0.0, noise), levels, noise)
            x_T_to = editing.invert(predict, process, backend.to_device(np.repeat(self.to[None], n, 0)), levels)
            weight = np.minimum(noise.samples / (self.frames - 1), 1.0)
            return sample(editing.slerp(x_T, x_T_to, weight), levels, noise)
        default = STRENGTH if self.mask is None else 1.0
        rest = editing.last_levels(levels, default if self.strength is None else self.strength, process.schedule)
        if len(rest) == 1:
            return editing.unchanged(x0)
        if self.mask is None:
            return editing.img2img(sample, rest, x0, noise)
        return editing.inpaint(sample, rest, x0, backend.to_device(self.mask), noise, self.resample)

    def resume(self, sample: Sample, x: np.ndarray, levels: Sequence[Level], noise: Noise) -> Iterator[Step]:
        """Return the rest of the steps of the edit, from images x at levels[0], which noise.first steps have drawn.

        Raises MinidiffError with `resample`: it repeats steps, and a repetition cannot begin in its middle.
        """
        if self.mask is None:
            return sample(x, levels, noise)
        if self.resample > 1:
            raise MinidiffError(f"with resample {self.resample}, another sampler cannot take over; give resample 1")
        x0 = backend.to_device(np.repeat(self.image[None], len(x), 0))
        return editing.inpaint(sample, levels, x0, backend.to_device(self.mask), noise, x=x)

    def noise_level(self) -> float:
        """Return the standard deviation of the noise to remove: the given one, or an estimate."""
        if self.sigma == "estimate":
            return max(editing.estimate_sigma(self.image[None]), 1e-3)
        return float(self.sigma or math.nan)
