"""Training: how a network that starts from random weights learns to denoise images."""
