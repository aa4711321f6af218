"""Exercise 14: the Kullback-Leibler divergence of two normal distributions.

The divergence of p from q is the mean of ln p(z) - ln q(z) over numbers z that are sampled from p: how much larger the
log-density of p is there than that of q, on average.  For normal distributions it has a formula.

Hint: ln p(z) is -((z - mean) / std)^2 / 2 - ln std, and a constant that cancels.  The mean of (z - mean)^2 over p is
std^2; that of (z - m)^2 for another m is std^2 + (mean - m)^2.
"""

import sys

import numpy as np
from checking import expect, report

from minidiff.autograd import Tensor
from minidiff.latent.reconstruction import kl_divergence


def divergence(mean: float, std: float, mean_q: float, std_q: float) -> float:
    """The divergence of N(mean, std²) from N(mean_q, std_q²), by its formula."""
    raise NotImplementedError


def drawn(mean: float, std: float, mean_q: float, std_q: float, eps: np.ndarray) -> float:
    """The same, estimated from numbers of the first distribution that are made of standard normals eps."""
    raise NotImplementedError


def check() -> None:
    """Raise an error that says what is missing, unless both functions are right."""
    expect(abs(divergence(1.5, 0.7, 1.5, 0.7)) < 1e-12, "a distribution does not diverge from itself")
    expect(divergence(0.0, 0.1, 0.0, 1.0) > 1.5, "a narrow distribution is far from a wide one")
    expect(
        abs(divergence(0.0, 1.0, 0.0, 2.0) - divergence(0.0, 2.0, 0.0, 1.0)) > 0.1,
        "the divergence of p from q is not that of q from p",
    )
    mean, std = np.array([[0.3, -2.0]]), np.array([[0.5, 0.1]])
    ours = float(kl_divergence(Tensor(mean), Tensor(2 * np.log(std))).data)
    found = np.mean([divergence(m, s, 0.0, 1.0) for m, s in zip(mean[0], std[0])])
    expect(abs(found - ours) < 1e-9, f"the loss has {ours:.4f} for two numbers, found {found:.4f}")
    eps = np.random.default_rng(0).standard_normal(100_000)
    for p in ((0.5, 1.2, -0.3, 0.8), (0.0, 0.5, 1.0, 2.0)):
        expect(abs(drawn(*p, eps) - divergence(*p)) < 0.05, f"for {p}, drawing and the formula differ")


if __name__ == "__main__":
    sys.exit(report(check))
