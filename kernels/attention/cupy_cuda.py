"""Attention on a GPU in CUDA C++: `attention.cu`."""

from pathlib import Path

from minidiff.kernels.attention.cuda_host import Attention
from minidiff.kernels.cuda_launch import Source

_attention = Attention(Source(Path(__file__).with_name("attention.cu")), most_keys=4096)  # as its shared memory holds

attention, attention_grad = _attention.attention, _attention.attention_grad
