"""Exercise 5: draw a timestep more often instead of weighting it.

In the loss each timestep counts with its weight:

    L = mean over t = 0 ... T - 1 of  weight(t) error(t)

Where the weight is small, the network is evaluated for little. So draw the timesteps as often as they are to count,
and give all of them the same weight. Write `draw`: it returns the timesteps of a batch, and one number, `factor`, for
all batches, such that

    factor * (mean over the batch of error(t))

is L on average over u, whatever the errors are. As in stratified sampling, u is the only random number of the whole
batch. No batch may be far from the average: each t is drawn as often as it should be, rounded up or down.

Hint: u, and what is spaced evenly from there, are numbers in [0, 1). Which part of [0, 1) should belong to a timestep?
"""

import sys

import numpy as np
from checking import expect, report

from minidiff.diffusion import Process, make_schedule


def draw(weight: np.ndarray, n: int, u: float) -> tuple[np.ndarray, float]:
    """weight: (T,), none below 0, not all 0. n: images in the batch. u: in [0, 1). Returns t, (n,), and factor."""
    raise NotImplementedError


U = np.arange(1000) / 1000  # in the place of random numbers


def check() -> None:
    """Raise an error that says what is missing, unless `draw` is right."""
    for weight in (np.array([0.0, 1.0, 0.0, 3.0, 0.5, 2.0, 0.0]), np.full(5, 3.0)):
        share, counts = weight / weight.sum(), np.array([counted(weight, 16, u) for u in U])
        far = np.abs(counts - 16 * share).max(axis=0)
        t = int(far.argmax())
        expect(  # a share that is exactly k / 16 may miss k by one through rounding
            far[t] <= 1 + 1e-9,
            f"weights {weight}: t = {t} should be {16 * share[t]:.1f} of 16 draws, and is {far[t]:.1f} away in a batch",
        )
        for t, (found, expected) in enumerate(zip(counts.mean(axis=0) / 16, share)):
            # of evenly spaced numbers, an interval may hold one more or less than its length says
            expect(
                abs(found - expected) <= 1 / len(U) + 1e-9,
                f"weights {weight}: the share of t = {t} in all draws should be {expected:.3f}, got {found:.3f}",
            )

    process = Process(make_schedule("cosine"), "v", weighting="min_snr")
    level = process.schedule.all
    weight, alpha_bar = process.loss_weight(level), process.schedule.alpha_bar
    for error in (alpha_bar, 1 - alpha_bar):
        L = np.mean(weight * error)
        batches = [draw(weight.copy(), 32, u) for u in U]
        found = np.mean([factor * error[t].mean() for t, factor in batches])
        # a sum over U is off by a thousandth of the largest factor * error, which is below a hundredth of L
        expect(abs(found - L) < 0.01 * L, f"with the weights of min-SNR the loss should be {L:.4f}, got {found:.4f}")
    expect(len({float(factor) for _, factor in batches}) == 1, "the factor must be the same for all batches")


def counted(weight: np.ndarray, n: int, u: float) -> np.ndarray:
    """How often each t is drawn in a batch, (T,)."""
    t, _ = draw(weight.copy(), n, u)
    t = np.asarray(t)
    expect(t.shape == (n,), f"t has shape {t.shape}, expected ({n},)")
    expect(t.dtype.kind in "iu", f"t should be integers, got {t.dtype}")
    expect(t.min() >= 0 and t.max() < len(weight), f"t must lie in 0 ... {len(weight) - 1}, got {t.min()} to {t.max()}")
    expect((weight[t] > 0).all(), f"a timestep of weight 0 was drawn, at u = {u:g}")
    return np.bincount(t, minlength=len(weight))


if __name__ == "__main__":
    sys.exit(report(check))
