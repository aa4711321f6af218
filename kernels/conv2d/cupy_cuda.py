"""Convolution on a GPU in CUDA C++: `conv2d_tiled.cu`, and the rung below it, `conv2d_naive.cu`."""

from pathlib import Path

from minidiff.kernels.conv2d.cuda_host import Convolution, NaiveConvolution
from minidiff.kernels.cuda_launch import Source

naive = NaiveConvolution(Source(Path(__file__).with_name("conv2d_naive.cu")))
_tiled = Convolution(Source(Path(__file__).with_name("conv2d_tiled.cu")), rows=128, columns=64)

conv2d, conv2d_grad_x, conv2d_grad_w = _tiled.conv2d, _tiled.conv2d_grad_x, _tiled.conv2d_grad_w
conv2d_grad_b, constant_filters = _tiled.conv2d_grad_b, _tiled.constant_filters
