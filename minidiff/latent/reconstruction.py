"""The loss of the autoencoder: how far the decoded image is from the original, and how far the latents from noise.

    L = E(decoder(z), x) + scale_weight E(decoder(halved(z)), halved(x)) + kl_weight KL
    E(y, x) = mean |y - x| + edge_weight (mean |Δ_rows (y - x)| + mean |Δ_columns (y - x)|)

Idea: z are latents sampled from the encoder's distribution, and Δ the differences of neighbouring pixels.  An edge that
is too soft costs little in mean |y - x|, since only few pixels lie on edges, but much in the differences.  The absolute
error is smallest at the median of the possible values, the squared error at their mean: where a pixel may be black or
white, the median is one of the two, and the mean is grey.

halved(z) and halved(x) are latents and images of half the height and width, where each number is the mean of four.  The
decoder has to make the small image from the small latents (scale equivariance), which moves information from the high
frequencies of latents to the low ones.  Without this term, neighbouring positions differ more; a diffusion model
generates such differences last, and least exactly.

KL is the Kullback-Leibler divergence of the encoder's normal distribution from the standard normal one,

    KL = mean of  (mean² + variance - 1 - ln variance) / 2

It keeps latents from growing, and their variances from vanishing: without it the encoder would make its distributions
narrow, and the decoder would depend on digits of the latents that no diffusion model gets right.
Leaves out a discriminator, which Rombach et al. train against the decoder: photographs need one for their texture.
Sources: Kingma and Welling 2013, arXiv:1312.6114, appendix B (KL); Mathieu et al. 2015, arXiv:1511.05440, eq. 6
(differences of neighbours); Skorokhodov et al. 2025, arXiv:2502.14831, section 3.3 (the image at half its size).
"""

from typing import Any

from minidiff import ops
from minidiff.autograd import Tensor
from minidiff.nn.autoencoder import Autoencoder


def reconstruction_loss(
    model: Autoencoder, x: Any, eps: Any, edge_weight: float, scale_weight: float, kl_weight: float
) -> Tensor:
    """Return the loss of a batch, a Tensor to call `backward` on.

    x: images (N, H, W, C) float in [-1, 1].  eps: standard normals shaped like their latents (N, h, w, c).
    """
    x = ops.as_tensor(x)
    z, mean, log_variance = model.sample(x, eps)
    loss = error(model.decoder(z), x, edge_weight) + kl_weight * kl_divergence(mean, log_variance)
    h, w, factor = z.shape[1] // 2, z.shape[2] // 2, x.shape[1] // z.shape[1]
    if scale_weight and min(h, w) * factor > 1:  # some of the small image is left, and it has neighbours
        small = halved(x, h * factor, w * factor)
        loss = loss + scale_weight * error(model.decoder(halved(z, h, w)), small, edge_weight)
    return loss


def error(y: Tensor, x: Tensor, edge_weight: float) -> Tensor:
    """Return E(y, x), how far decoded images y are from the originals x, both (N, H, W, C)."""
    d = y - x
    edges = ops.mean(ops.abs(d[:, 1:] - d[:, :-1])) + ops.mean(ops.abs(d[:, :, 1:] - d[:, :, :-1]))
    return ops.mean(ops.abs(d)) + edge_weight * edges


def halved(x: Tensor, h: int, w: int) -> Tensor:
    """Return the means (N, h, w, C) of blocks of two rows and two columns; what is beyond 2 h and 2 w is left out."""
    n, _, _, c = x.shape
    return ops.mean(ops.reshape(x[:, : 2 * h, : 2 * w], (n, h, 2, w, 2, c)), (2, 4))


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the divergence of normal distributions from the standard one, the mean over all their numbers, in nats."""
    return 0.5 * ops.mean(ops.square(mean) + ops.exp(log_variance) - 1.0 - log_variance)
