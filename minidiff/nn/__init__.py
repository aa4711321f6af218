"""The denoiser and its layers.

unet.py is the denoiser.  controlnet.py and ip_adapter.py add a drawing and a reference image to it, and adapted_unet.py
puts all of them together.  The other files are their parts, except for flat_parameters.py, which is for training: it
puts all weights of a network into one array.
"""

from minidiff.nn.attention import SelfAttention
from minidiff.nn.conditioning import Conditioning
from minidiff.nn.cross_attention import CrossAttention, on_attention
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
