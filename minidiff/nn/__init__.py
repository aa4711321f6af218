"""The denoiser and the layers that it is built of; read module, layers, attention, text, embedding, unet."""

from minidiff.nn.attention import Conditioning, CrossAttention, SelfAttention, on_attention
from minidiff.nn.embedding import TimeEmbedding, sinusoidal
from minidiff.nn.layers import Conv2d, Embedding, GroupNorm, Linear
from minidiff.nn.module import Module, Parameter, watch
from minidiff.nn.text import TextEncoder
from minidiff.nn.unet import ResidualBlock, Stage, UNet, UNetConfig, decode, encode, space_to_depth

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
    "sinusoidal",
    "space_to_depth",
    "watch",
]
