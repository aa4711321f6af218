"""The peak signal-to-noise ratio: how close an image is to the original, pixel by pixel.

    PSNR = 10 log10(255² / MSE) decibels,     MSE: the mean squared difference of all numbers of an image

Idea: an error of one grey level in a hundred numbers is nothing, one of fifty levels in each is ruin; the logarithm
makes one scale of both.  Ten decibels more are a tenth of the squared error; 30 dB are differences of about 8 levels.
Leaves out how a difference looks: a shift by a pixel costs more than a blur that everybody sees.
"""

import numpy as np


def psnr(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the PSNR of each pair of images, both (N, H, W, C) uint8, in dB: (N,) float64.

    Equal images would be infinitely many dB apart; they count as if one of their numbers differed by one level.
    """
    if images.shape != others.shape or images.ndim != 4 or not images.dtype == others.dtype == np.uint8:
        got = f"{images.shape} {images.dtype} and {others.shape} {others.dtype}"
        raise ValueError(f"psnr: expected two (N, H, W, C) uint8, got {got}")
    error = ((images.astype(np.float64) - others) ** 2).mean(axis=(1, 2, 3))
    return 10 * np.log10(255**2 / np.maximum(error, 1 / np.prod(images.shape[1:])))
