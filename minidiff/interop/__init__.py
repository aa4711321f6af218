"""Exchange with other libraries: the noise of PyTorch, and networks of the diffusers library, read and written."""

from minidiff.interop.diffusers_read import files_of, load_diffusers
from minidiff.interop.diffusers_write import save_as_diffusers
from minidiff.interop.scheduler import read_scheduler, scheduler_file, scheduler_options
from minidiff.interop.steps import ends, visited
from minidiff.interop.torch_noise import TorchNoise
from minidiff.interop.torch_random import TorchNormals
from minidiff.interop.unet2d import UNet2D
from minidiff.interop.unet2d_config import UNet2DConfig

__all__ = [
    "TorchNoise",
    "TorchNormals",
    "UNet2D",
    "UNet2DConfig",
    "ends",
    "files_of",
    "load_diffusers",
    "read_scheduler",
    "save_as_diffusers",
    "scheduler_file",
    "scheduler_options",
    "visited",
]
