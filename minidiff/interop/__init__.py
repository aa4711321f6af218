"""Models, noise and schedules of other tools: PyTorch's `randn`, and the U-Nets of the diffusers library, both ways.

Read torch_random and torch_noise, unet2d_config and unet2d (the network), tensor_names, diffusers_read, scheduler and
diffusers_write (its files).
"""

from minidiff.interop.diffusers_read import load_diffusers, weights_of
from minidiff.interop.diffusers_write import save_as_diffusers
from minidiff.interop.scheduler import read_scheduler, scheduler_options
from minidiff.interop.torch_noise import TorchNoise
from minidiff.interop.torch_random import TorchNormals
from minidiff.interop.unet2d import UNet2D
from minidiff.interop.unet2d_config import UNet2DConfig

__all__ = [
    "TorchNoise",
    "TorchNormals",
    "UNet2D",
    "UNet2DConfig",
    "load_diffusers",
    "read_scheduler",
    "save_as_diffusers",
    "scheduler_options",
    "weights_of",
]
