"""Convolution over images (N, H, W, C): the output and the gradients of the input and of the filter.

Reading order on the CPU: reference, ladder, pack, few_channels, implicit_gemm, winograd, winograd_transforms,
winograd_forward, winograd_backward_filter, numba_cpu. On a GPU: cuda_host, numba_cuda beside conv2d_naive.cu, and
conv2d_tiled.cu.
"""
