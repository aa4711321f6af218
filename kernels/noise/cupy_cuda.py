"""Random numbers from keys on a GPU in CUDA C++: `noise.cu`."""

from pathlib import Path

from minidiff.kernels.cuda_launch import Source
from minidiff.kernels.noise.cuda_host import Noise

_noise = Noise(Source(Path(__file__).with_name("noise.cu")), numbers=4 * 128)

random_bits, uniform, normal = _noise.random_bits, _noise.uniform, _noise.normal
add_noise, sampler_update = _noise.add_noise, _noise.sampler_update
