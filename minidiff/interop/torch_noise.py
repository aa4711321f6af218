"""The noise of a sampling run as diffusers draws it: for all images at once, from one stream of random numbers.

Idea: diffusers draws the noise of a whole batch as one array: first x_T, then z step by step.  So the noise of an image
depends on the number of images.  To get the noise of some images, the noise of all must be drawn.
`TorchNoise` has the methods of `Noise` in diffusion/run.py, which draws minidiff's own noise.
Leaves out PyTorch's generator, which torch_random.py reproduces.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minidiff import backend
from minidiff.interop.torch_random import TorchNormals


class TorchNoise:
    """The noise of `torch.Generator().manual_seed(seed)` for N of the images of a sampling run.

    samples: (N,) int64, the numbers of these images.  of: the number of all images, which diffusers draws in one batch.
    """

    def __init__(self, seed: int, samples: np.ndarray, of: int) -> None:
        self.normals, self.samples, self.of = TorchNormals(seed), samples, of

    def start(self, shape: Sequence[int]) -> Any:
        """Return x_T: (N, *shape) float32.  shape: (H, W, C)."""
        return self._draw(shape)

    def mix(self, x: Any, x0_hat: Any, x0_hat_last: Any, c: Any, index: int) -> Any:
        """Return c0 x + c1 x0_hat + c2 x0_hat_last + c3 z, where z is the next noise."""
        known = np.array([*c[:3], 0.0], dtype=x.dtype)
        y = backend.current().sampler_update(x, x0_hat, x0_hat_last, known, (0, 0, 0), self.samples)
        return y + float(c[3]) * self._draw(x.shape[1:]).astype(x.dtype) if c[3] else y

    def _draw(self, shape: Sequence[int]) -> Any:
        """Draw with channels first, as PyTorch does, and return channels last."""
        h, w, c = shape
        drawn = self.normals.normal((self.of, c, h, w))[self.samples]
        return backend.to_device(np.ascontiguousarray(drawn.transpose(0, 2, 3, 1)))
