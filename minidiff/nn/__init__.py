"""The denoiser and the layers that it is built of; read module, layers, attention, text, embedding, unet."""

from minidiff.nn.attention import CrossAttention, SelfAttention, Told, watch_words
from minidiff.nn.embedding import TimeEmbedding, sinusoidal
from minidiff.nn.layers import Conv2d, Embedding, GroupNorm, Linear
from minidiff.nn.module import Module, Parameter, watch
from minidiff.nn.text import TextEncoder
from minidiff.nn.unet import ResidualBlock, Stage, UNet, UNetConfig, ascend, descend, stack

__all__ = [
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
    "Told",
    "UNet",
    "UNetConfig",
    "ascend",
    "descend",
    "sinusoidal",
    "stack",
    "watch",
    "watch_words",
]
