"""Training: how a network of random weights learns to denoise images."""
