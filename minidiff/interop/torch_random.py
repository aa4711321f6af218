"""The random numbers of `torch.randn` for a given seed, computed with NumPy.

Idea: `torch.randn` on the CPU uses the Mersenne Twister and the Box-Muller transform, which NumPy can reproduce.  So a
model that was trained with PyTorch can start from the same noise in minidiff, and draw the same images.
PyTorch computes short and long arrays in different ways, from one sequence of 32-bit words w:

    16 numbers or more, in blocks of 16: 16 words give u[0 … 15] = (w mod 2^24) / 2^24, and for j = 0 … 7
        r = sqrt(-2 ln(1 - u[j])),   theta = 2 pi u[j + 8]
        z[j] = r cos(theta),   z[j + 8] = r sin(theta)
      if 16 does not divide the number of values, the last 16 are then drawn again, from 16 new words
    fewer than 16, in pairs: each of u, u' takes two words w, w' and is ((2^32 w + w') mod 2^53) / 2^53
        theta = 2 pi u,   r = sqrt(-2 ln(1 - u')),   z = r cos(theta), then z = r sin(theta)
      if only the first number of a pair is needed, the second is kept for the next short array, even if long arrays
      are drawn in between

Leaves out minidiff's own noise, which does not depend on the order of calls (random.py), and other distributions,
dtypes and devices of PyTorch, which uses another generator on a GPU.
Source: Matsumoto and Nishimura 1998, doi:10.1145/272991.272995; Box and Muller 1958, doi:10.1214/aoms/1177706645;
the order of the words: PyTorch's aten/src/ATen/core/DistributionsHelper.h and native/cpu/DistributionTemplates.h.
"""

import math

import numpy as np

from minidiff.errors import MinidiffError

SHORT = 16  # arrays of fewer values are drawn pair by pair


class TorchNormals:
    """The standard normal numbers of `torch.Generator().manual_seed(seed)`, array after array.

    The random words are identical; the normal numbers agree to about 1e-6, since PyTorch computes in float32.
    seed: 0 … 2^64 - 1, of which PyTorch uses the lowest 32 bits.
    Raises MinidiffError for a seed outside that range.
    """

    def __init__(self, seed: int) -> None:
        if not 0 <= seed < 1 << 64:
            raise MinidiffError(f"seed must be from 0 to 2^64 - 1, got {seed}")
        self._twister = np.random.MT19937()
        np.random.RandomState(self._twister).seed(seed & 0xFFFFFFFF)  # the seeding of 1998, as in PyTorch
        self._kept: float | None = None

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return the next result of `torch.randn(shape, generator=…)`: float32.

        shape: for images (N, C, H, W), as in PyTorch; transpose(0, 2, 3, 1) of the result is a batch for minidiff.
        """
        n = math.prod(shape)
        drawn = self._long(n) if n >= SHORT else np.array([self._single() for _ in range(n)])
        return drawn.astype(np.float32).reshape(shape)

    def _long(self, n: int) -> np.ndarray:
        """Return n >= 16 numbers: (n,) float64."""
        u = (self._twister.random_raw(n) & 0xFFFFFF) * 2.0**-24
        z = np.empty(n)
        whole = n - n % SHORT
        z[:whole] = _blocks(u[:whole])
        if whole < n:
            z[-SHORT:] = _blocks((self._twister.random_raw(SHORT) & 0xFFFFFF) * 2.0**-24)
        return z

    def _single(self) -> float:
        """Return one number: the kept second one of a pair, or the first one of a new pair."""
        if self._kept is not None:
            z, self._kept = self._kept, None
            return z
        for_angle, for_radius = self._uniform(), self._uniform()
        r, theta = math.sqrt(-2 * math.log1p(-for_radius)), 2 * math.pi * for_angle
        self._kept = r * math.sin(theta)
        return r * math.cos(theta)

    def _uniform(self) -> float:
        """Return a number in [0, 1) from 53 bits of two words, of which the first is the higher."""
        high, low = (int(word) for word in self._twister.random_raw(2))
        return (high << 32 | low) % (1 << 53) * 2.0**-53


def _blocks(u: np.ndarray) -> np.ndarray:
    """Box-Muller transform in blocks of 16: (n,) uniform in [0, 1) to (n,) normal; 16 divides n."""
    of_radius, of_angle = u.reshape(-1, 2, SHORT // 2).transpose(1, 0, 2)  # (n / 16, 8) each
    r, theta = np.sqrt(-2 * np.log1p(-of_radius)), 2 * np.pi * of_angle
    return np.concatenate([r * np.cos(theta), r * np.sin(theta)], axis=1).ravel()
