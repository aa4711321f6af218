"""Latent diffusion: noise is added to the latents of an autoencoder (nn/autoencoder.py) instead of to pixels.

`reconstruction` is the loss that an autoencoder is trained with, and `space` the way from images to what is noised and
back.
"""
