"""Normalise, SiLU, convolve and add on the CPU, one after the other, without Winograd, for comparison."""

from minidiff.kernels.conv2d.numba_cpu import without_winograd
from minidiff.kernels.norm_silu_conv2d import numba_cpu

norm_silu_conv2d = without_winograd(numba_cpu.norm_silu_conv2d)
norm_silu_conv2d_grad = without_winograd(numba_cpu.norm_silu_conv2d_grad)
