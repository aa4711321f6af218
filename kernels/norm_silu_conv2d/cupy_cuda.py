"""Normalise, SiLU, convolve and add on a GPU, with the kernels in CUDA C++."""

from minidiff.kernels.conv2d import cupy_cuda as convolution
from minidiff.kernels.norm import cupy_cuda as norm
from minidiff.kernels.norm_silu_conv2d.cuda_host import Composed

_composed = Composed(norm, convolution)

norm_silu_conv2d, norm_silu_conv2d_grad = _composed.norm_silu_conv2d, _composed.norm_silu_conv2d_grad
