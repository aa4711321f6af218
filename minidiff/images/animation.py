"""Sampling as an animation: noise becomes images, step by step.

Idea: a frame shows x_t and, beside it, the image that the network predicts from it, x0_hat.
Leaves out which steps there are: diffusion/samplers.py.
"""

import math
from pathlib import Path

import numpy as np

from minidiff.diffusion import Step
from minidiff.images.files import make_grid, save_animation, to_uint8

ANIMATED = 16  # images in a frame
ANIMATION_FRAMES, ANIMATION_ZOOM = 25, 2  # noise does not compress: 50 frames four times as large are 7 MB
WIDEST = 1000  # pixels of a grid, beyond which it is not enlarged
FRAME_MS, LAST_FRAME_MS = 120, 2500


def frame(step: Step, count: int = ANIMATED, zoom: int | None = None) -> np.ndarray:
    """Return x_t and, beside it, x0_hat, of the first `count` images: one image (height, width, 3) uint8."""
    halves = [make_grid(to_uint8(x[:count]), zoom=zoom) for x in (step.x_t, step.x0_hat)]
    return np.concatenate(halves, axis=1)


def animation_zoom(images: np.ndarray) -> int:
    """Return how much images (N, H, W, C) are enlarged in an animation."""
    columns = math.ceil(math.sqrt(min(len(images), ANIMATED)))
    return ANIMATION_ZOOM if ANIMATION_ZOOM * columns * max(images.shape[1:3]) <= WIDEST else 1


class Animation:
    """Denoising as an animation: x_t and x0_hat of the first images of a grid.

    It has at most 25 frames, and a last one with the finished images.
    """

    def __init__(self) -> None:
        self.frames: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}  # step number to (left, right) of each part

    def add(self, part: slice, step: Step) -> None:
        """Keep, as bytes, what the animation shows of a step.  part: the place of its images among all images."""
        count = max(min(part.stop, ANIMATED) - part.start, 0)
        every = -(-step.steps // ANIMATION_FRAMES)
        last = step.index == step.steps - 1
        if count and step.index % every == 0:
            self._keep(step.index, step.x_t[:count], step.x0_hat[:count])
        if count and last:
            self._keep(step.steps, step.x_prev[:count], step.x_prev[:count])

    def _keep(self, index: int, left: np.ndarray, right: np.ndarray) -> None:
        self.frames.setdefault(index, []).append((to_uint8(left), to_uint8(right)))

    def save(self, path: Path) -> None:
        """Write the frames in the order of the steps; the last one stays for a while."""
        frames = []
        for _, parts in sorted(self.frames.items()):
            halves = [np.concatenate(half) for half in zip(*parts)]
            grids = [make_grid(images, zoom=animation_zoom(images)) for images in halves]
            frames.append(np.concatenate(grids, axis=1))
        save_animation(path, frames, [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS])
