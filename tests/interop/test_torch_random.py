"""PyTorch's noise: against its own numbers in a file, against itself where it is installed."""

import numpy as np
import pytest

from minidiff import backend
from minidiff.errors import MinidiffError
from minidiff.interop import TorchNormals
from minidiff.interop.torch_noise import TorchNoise
from tests.interop.foreign import GOLDEN
from tests.interop.random_cases import DRAWS

# PyTorch takes logarithm, sine and cosine in float32, by polynomials: 2e-6 at most in a million numbers of up to 5.
BOUND = 4e-6


@pytest.mark.parametrize("seed", DRAWS)
def test_the_numbers_that_pytorch_drew(seed):
    ours = TorchNormals(seed)
    drawn = [ours.normal(shape) for shape in DRAWS[seed]]
    assert [array.shape for array in drawn] == DRAWS[seed]
    assert {array.dtype for array in drawn} == {np.dtype(np.float32)}
    with np.load(GOLDEN) as file:
        expected = file[f"randn/{seed}"]
    assert np.abs(np.concatenate([array.ravel() for array in drawn]) - expected).max() < BOUND


def test_only_the_lowest_32_bits_of_a_seed_count():
    np.testing.assert_array_equal(TorchNormals(5).normal((20,)), TorchNormals(2**32 + 5).normal((20,)))
    assert np.abs(TorchNormals(5).normal((20,)) - TorchNormals(6).normal((20,))).max() > 0.1


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_no_such_seed(seed):
    with pytest.raises(MinidiffError, match=rf"^seed must be from 0 to 2\^64 - 1, got {seed}$"):
        TorchNormals(seed)


def test_beside_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(0)
    for _ in range(100):
        seed = int(rng.integers(2**63))
        generator, ours = torch.Generator().manual_seed(seed), TorchNormals(seed)
        for n in rng.choice([1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 1000], 6):
            expected = torch.randn(int(n), generator=generator).numpy()
            assert np.abs(ours.normal((int(n),)) - expected).max() < BOUND


def test_noise_is_drawn_on_the_host_and_used_where_the_backend_computes(every_backend):
    def draw():
        noise = TorchNoise(3, np.array([2, 0]), 3)
        x = noise.start((2, 4, 3))
        return [backend.to_numpy(a) for a in (x, noise.mix(x, x, None, (0.5, 0.25, 0.0, 2.0), 0))]

    found = draw()
    with backend.using("numpy"):
        exact = draw()
    np.testing.assert_array_equal(found[0], exact[0])
    np.testing.assert_allclose(found[1], exact[1], rtol=1e-6, atol=1e-6)
