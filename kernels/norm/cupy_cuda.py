"""Group normalisation on a GPU in CUDA C++: `group_norm.cu`."""

from pathlib import Path

from minidiff.kernels.cuda_launch import Source
from minidiff.kernels.norm.cuda_host import GroupNorm

_norm = GroupNorm(Source(Path(__file__).with_name("group_norm.cu")))

group_norm, group_norm_again, group_norm_grad = _norm.group_norm, _norm.group_norm_again, _norm.group_norm_grad
