"""The loss of the autoencoder: how far the decoded image is from the original, and how far the latents from noise.

    L = mean |y - x| + edge_weight (mean |Δ_rows (y - x)| + mean |Δ_columns (y - x)|) + kl_weight KL

Idea: Δ are the differences of neighbouring pixels.  An edge that is too soft costs little in mean |y - x|, since only
few pixels lie on edges, but much in the differences.  Absolute values instead of squares make the decoder choose a
likely value where it is uncertain, not the mean of all of them, which is grey and blurred.

KL is the Kullback-Leibler divergence of the encoder's normal distribution from the standard normal one,

    KL = mean of  (mean² + variance - 1 - ln variance) / 2

It keeps latents from growing, and their variances from vanishing: without it the encoder would make its distributions
narrow, and the decoder would depend on digits of the latents that no diffusion model gets right.
Leaves out a discriminator, which Rombach et al. train against the decoder: photographs need one for their texture.
Sources: Kingma and Welling 2013, arXiv:1312.6114, appendix B (KL); Mathieu et al. 2015, arXiv:1511.05440, eq. 6
(differences of neighbours).
"""

from typing import Any

from minidiff import ops
from minidiff.autograd import Tensor
from minidiff.nn.autoencoder import Autoencoder


def reconstruction_loss(model: Autoencoder, x: Any, eps: Any, edge_weight: float, kl_weight: float) -> Tensor:
    """Return the loss of a batch, a Tensor to call `backward` on.

    x: images (N, H, W, C) float in [-1, 1].  eps: standard normals shaped like their latents.
    """
    y, mean, log_variance = model(x, eps)
    error = y - ops.as_tensor(x)
    pixels = ops.mean(ops.abs(error))
    edges = ops.mean(ops.abs(error[:, 1:] - error[:, :-1])) + ops.mean(ops.abs(error[:, :, 1:] - error[:, :, :-1]))
    return pixels + edge_weight * edges + kl_weight * kl_divergence(mean, log_variance)


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the divergence of normal distributions from the standard one, the mean over all their numbers, in nats."""
    return 0.5 * ops.mean(ops.square(mean) + ops.exp(log_variance) - 1.0 - log_variance)
