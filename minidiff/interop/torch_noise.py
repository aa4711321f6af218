"""The noise of a drawing as diffusers takes it: all images of a batch from one PyTorch generator, one after another.

After torch_random.py; diffusion/run.py's `Noise` is minidiff's own, whose methods these are.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minidiff import backend
from minidiff.interop.torch_random import TorchNormals


class TorchNoise:
    """What a drawing takes from `torch.Generator().manual_seed(seed)`: x_T of all images, then z step by step.

    samples: (N,) int64, which of the images are drawn.  of: how many there are in all batches.  diffusers draws all
    of them in one batch; so for each batch here the noise of all is drawn, and that of its own images taken.
    """

    def __init__(self, seed: int, samples: np.ndarray, of: int) -> None:
        self.normals, self.samples, self.of = TorchNormals(seed), samples, of

    def start(self, shape: Sequence[int]) -> Any:
        """Return x_T: (N, *shape) float32, where an image's shape is (H, W, C)."""
        return self._draw(shape)

    def mix(self, x: Any, x0_hat: Any, x0_hat_last: Any, c: Any, index: int) -> Any:
        """Return c0 x + c1 x0_hat + c2 x0_hat_last + c3 z, with z the next noise."""
        known = np.array([*c[:3], 0.0], dtype=x.dtype)
        y = backend.current().sampler_update(x, x0_hat, x0_hat_last, known, (0, 0, 0), self.samples)
        return y + float(c[3]) * self._draw(x.shape[1:]).astype(x.dtype) if c[3] else y

    def _draw(self, shape: Sequence[int]) -> Any:
        """Channels first, as PyTorch draws them; channels last to us."""
        h, w, c = shape
        drawn = self.normals.normal((self.of, c, h, w))[self.samples]
        return backend.to_device(np.ascontiguousarray(drawn.transpose(0, 2, 3, 1)))
