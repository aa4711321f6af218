"""Convolution over images (N, H, W, C): the output and the gradients of the input and of the filter."""
