"""Convolution on the CPU by implicit GEMM alone: without Winograd, a little more exact and slower."""

from minidiff.kernels.conv2d import numba_cpu

conv2d = numba_cpu.without_winograd(numba_cpu.conv2d)
conv2d_grad_x = numba_cpu.without_winograd(numba_cpu.conv2d_grad_x)
conv2d_grad_w = numba_cpu.without_winograd(numba_cpu.conv2d_grad_w)
conv2d_grad_b, constant_filters = numba_cpu.conv2d_grad_b, numba_cpu.constant_filters
