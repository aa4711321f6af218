"""The noise that PyTorch would draw from the same seed, number for number.

Idea: `torch.randn` on the CPU is the Mersenne twister and the Box-Muller transform, both of which NumPy has.  A model
that came from PyTorch then starts from the very noise with which its images were drawn there.
Two ways of drawing share one stream of 32-bit words w:

    16 numbers or more, in blocks of 16, j = 0 … 7, u = (w mod 2^24) / 2^24:
        r = sqrt(-2 ln(1 - u[j])),   theta = 2 pi u[j + 8]
        z[j] = r cos(theta),   z[j + 8] = r sin(theta)
      the last 16 numbers are drawn afresh when 16 does not divide how many there are
    fewer than 16, two at a time, u = (2^32 w + w' mod 2^53) / 2^53:
        theta = 2 pi u,   r = sqrt(-2 ln(1 - u')),   z = r cos(theta), then r sin(theta)
      an odd draw keeps the second of a pair for the next short draw, however many long ones come between

minidiff's own noise is random.py's, which no order of drawing changes.  First of interop/.  Leaves out PyTorch's other
distributions, dtypes and devices: a GPU's generator is another one.
Source: Matsumoto and Nishimura 1998, doi:10.1145/272991.272995; Box and Muller 1958, doi:10.1214/aoms/1177706645;
the order of the words: PyTorch's aten/src/ATen/core/DistributionsHelper.h and native/cpu/DistributionTemplates.h.
"""

import math

import numpy as np

from minidiff.errors import MinidiffError

SHORT = 16  # numbers; a draw of fewer goes pair by pair


class TorchNormals:
    """Standard normal numbers as `torch.Generator().manual_seed(seed)` makes them, draw after draw.

    PyTorch computes in float32 with approximations of its own: numbers agree to about 1e-6, the words to the bit.
    seed: 0 … 2^64 - 1; PyTorch uses its lowest 32 bits.
    Raises MinidiffError for a seed that is none.
    """

    def __init__(self, seed: int) -> None:
        if not 0 <= seed < 1 << 64:
            raise MinidiffError(f"seed must be from 0 to 2^64 - 1, got {seed}")
        self._twister = np.random.MT19937()
        np.random.RandomState(self._twister).seed(seed & 0xFFFFFFFF)  # the twister's seeding of 1998, as PyTorch's
        self._kept: float | None = None

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return what `torch.randn(shape, generator=…)` returns next: float32.

        An image's shape is PyTorch's (N, C, H, W); transpose(0, 2, 3, 1) makes a minidiff batch of the result.
        """
        n = math.prod(shape)
        drawn = self._long(n) if n >= SHORT else np.array([self._single() for _ in range(n)])
        return drawn.astype(np.float32).reshape(shape)

    def _long(self, n: int) -> np.ndarray:
        """n >= 16 numbers: (n,) float64."""
        u = (self._twister.random_raw(n) & 0xFFFFFF) * 2.0**-24
        z = np.empty(n)
        whole = n - n % SHORT
        z[:whole] = _blocks(u[:whole])
        if whole < n:
            z[-SHORT:] = _blocks((self._twister.random_raw(SHORT) & 0xFFFFFF) * 2.0**-24)
        return z

    def _single(self) -> float:
        """One number: the one that was kept, or the first of a new pair."""
        if self._kept is not None:
            z, self._kept = self._kept, None
            return z
        for_angle, for_radius = self._uniform(), self._uniform()
        r, theta = math.sqrt(-2 * math.log1p(-for_radius)), 2 * math.pi * for_angle
        self._kept = r * math.sin(theta)
        return r * math.cos(theta)

    def _uniform(self) -> float:
        """53 bits of two words, the first word on top, as a number in [0, 1)."""
        high, low = (int(word) for word in self._twister.random_raw(2))
        return (high << 32 | low) % (1 << 53) * 2.0**-53


def _blocks(u: np.ndarray) -> np.ndarray:
    """Box-Muller by blocks of 16: (n,) uniform in [0, 1) to (n,) normal, for n that 16 divides."""
    of_radius, of_angle = u.reshape(-1, 2, SHORT // 2).transpose(1, 0, 2)  # (n / 16, 8) each
    r, theta = np.sqrt(-2 * np.log1p(-of_radius)), 2 * np.pi * of_angle
    return np.concatenate([r * np.cos(theta), r * np.sin(theta)], axis=1).ravel()
