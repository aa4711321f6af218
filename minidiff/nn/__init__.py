"""The denoiser and the layers that it is built of; read module, layers, attention, embedding, unet."""

from minidiff.nn.attention import SelfAttention
from minidiff.nn.embedding import TimeEmbedding, sinusoidal
from minidiff.nn.layers import Conv2d, Embedding, GroupNorm, Linear
from minidiff.nn.module import Module, Parameter, watch
from minidiff.nn.unet import ResidualBlock, Stage, UNet, UNetConfig, through

__all__ = [
    "Conv2d",
    "Embedding",
    "GroupNorm",
    "Linear",
    "Module",
    "Parameter",
    "ResidualBlock",
    "SelfAttention",
    "Stage",
    "TimeEmbedding",
    "UNet",
    "UNetConfig",
    "sinusoidal",
    "through",
    "watch",
]
