"""The denoiser and its layers.

unet.py is the denoiser, dit.py is another one, and denoiser.py is what the two have in common.  controlnet.py and
ip_adapter.py add a drawing and a reference image to the U-Net, and adapted_unet.py puts all of them together.  The
other files are their parts, except for flat_parameters.py, which is for training: it puts all weights of a network into
one array.
"""

from minidiff.nn.attention import SelfAttention
from minidiff.nn.conditioning import Conditioning
from minidiff.nn.cross_attention import CrossAttention, on_attention
from minidiff.nn.denoiser import Denoiser
from minidiff.nn.dit import DiT, DiTBlock
from minidiff.nn.dit_config import DenoiserConfig, DiTConfig
from minidiff.nn.embedding import TimeEmbedding, sinusoidal
from minidiff.nn.layers import Conv2d, Embedding, GroupNorm, Linear
from minidiff.nn.module import Module, Parameter, on_forward
from minidiff.nn.text import TextEncoder
from minidiff.nn.unet import ResidualBlock, Stage, UNet, decode, encode, space_to_depth
from minidiff.nn.unet_config import UNetConfig

__all__ = [
    "Conditioning",
    "Conv2d",
    "CrossAttention",
    "Denoiser",
    "DenoiserConfig",
    "DiT",
    "DiTBlock",
    "DiTConfig",
    "Embedding",
    "GroupNorm",
    "Linear",
    "Module",
    "Parameter",
    "ResidualBlock",
    "SelfAttention",
    "Stage",
    "TextEncoder",
    "TimeEmbedding",
    "UNet",
    "UNetConfig",
    "decode",
    "encode",
    "on_attention",
    "on_forward",
    "sinusoidal",
    "space_to_depth",
]
