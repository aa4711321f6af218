"""What the network learns: a picture is noised, and the network says what the noise was.

Idea: with a = sqrt(alpha_bar[t]) and s = sqrt(1 - alpha_bar[t]), picture, noise and noised picture lie on one line,

    x_t = a x0 + s eps

so whoever knows x_t and *one* of eps, x0 or v = a eps - s x0 knows the other two.  The network may predict any of the
three; everything after it speaks of x0_hat and eps_hat.
Second file of diffusion/, after schedule.py; samplers.py uses the conversions, training the loss.  Leaves out learned
variances (the network predicts no uncertainty of its own).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from minidiff import backend, ops, random
from minidiff.autograd import Tensor
from minidiff.diffusion.schedule import Schedule
from minidiff.errors import MinidiffError
from minidiff.random import Key, Stream

Target = Literal["eps", "x0", "v"]
Weighting = Literal["plain", "min_snr"]
TARGETS: tuple[str, ...] = get_args(Target)
WEIGHTINGS: tuple[str, ...] = get_args(Weighting)


@dataclass(frozen=True)
class Process:
    """The noising of pictures, and what a network is to make of it.

    target: what the network predicts: "eps", the noise; "x0", the picture; "v", the mixture a eps - s x0.
    weighting: how much each t counts in the loss: "plain", all alike; "min_snr", see `loss_weight`.
    gamma: where min-SNR caps the signal-to-noise ratio.
    label_drop: the share of labels hidden in training, so that the network also learns to draw without one.
    """

    schedule: Schedule
    target: str = "eps"
    weighting: str = "plain"
    gamma: float = 5.0
    label_drop: float = 0.1

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise MinidiffError(f"target must be one of {', '.join(TARGETS)}, got {self.target!r}")
        if self.weighting not in WEIGHTINGS:
            raise MinidiffError(f"weighting must be one of {', '.join(WEIGHTINGS)}, got {self.weighting!r}")
        if not self.gamma > 0:
            raise MinidiffError(f"gamma must be above 0, got {self.gamma}")
        if not 0 <= self.label_drop <= 1:
            raise MinidiffError(f"label_drop must be in [0, 1], got {self.label_drop}")

    # -- the line x_t = a x0 + s eps --------------------------------------------------------------------------------

    def target_of(self, x0: np.ndarray, eps: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Return what the network should say about x_t = a x0 + s eps.

        x0, eps: (N, ...) float.  t: (N,) int64.  Returns (N, ...) of their dtype.
        Source for v: Salimans and Ho 2022, arXiv:2202.00512, section 4 and appendix D.
        """
        if self.target == "eps":
            return eps
        if self.target == "x0":
            return x0
        a, s = _a_s(self.schedule.alpha_bar[t], x0)
        return a * eps - s * x0

    def to_x0_eps(self, output: np.ndarray, x_t: np.ndarray, alpha_bar: Any) -> tuple[np.ndarray, np.ndarray]:
        """Read the network's output as a picture and a noise: the inverse of `target_of`.

            eps:  x0_hat = (x_t - s eps_hat) / a
            x0:   eps_hat = (x_t - a x0_hat) / s
            v:    x0_hat = a x_t - s v,  eps_hat = a v + s x_t

        output, x_t: (N, ...) float.  alpha_bar: one float in (0, 1) or (N,).  Returns two arrays like x_t.
        """
        a, s = _a_s(alpha_bar, x_t)
        if self.target == "eps":
            return (x_t - s * output) / a, output
        if self.target == "x0":
            return output, (x_t - a * output) / s
        return a * x_t - s * output, a * output + s * x_t

    # -- training ---------------------------------------------------------------------------------------------------

    def loss_weight(self, t: np.ndarray) -> np.ndarray:
        """Return how much the squared error of each t counts: (N,) float64.

        The squared error of eps is snr times that of x0, the squared error of v is snr + 1 times that of x0: plainly
        weighted, both stare at almost clean pictures, where snr is in the thousands.  Min-SNR weights the squared
        error *of x0* by min(snr, gamma), whatever the network predicts:

            eps: min(snr, gamma) / snr      x0: min(snr, gamma)      v: min(snr, gamma) / (snr + 1)

        Source: Hang et al. 2023, arXiv:2303.09556, section 3.4.
        """
        if self.weighting == "plain":
            return np.ones(len(t))
        snr = self.schedule.snr[t]
        of_x0 = {"eps": snr, "x0": 1.0, "v": snr + 1}[self.target]
        return np.minimum(snr, self.gamma) / of_x0

    def loss(
        self, model: Callable, x0: np.ndarray, labels: np.ndarray | None, t: np.ndarray, key: Key
    ) -> tuple[Tensor, np.ndarray]:
        """Return the weighted mean squared error of a batch at given times, with the noise that `key` names.

            L = mean over n of  weight(t_n) mean (model(x_t, t, label)_n - target_n)^2

        x0: (N, H, W, C) float in [-1, 1].  labels: (N,) int64 or None.  t: (N,) int64.  key.sample: (N,).
        Returns the loss, a Tensor to call `backward` on, and its N summands (N,) before the mean.
        Source: Ho et al. 2020, arXiv:2006.11239, eq. 14.
        """
        a, s = (part.reshape(-1) for part in _a_s(self.schedule.alpha_bar[t], x0))
        x_t, eps = backend.current().add_noise(x0, a, s, key[:3], key.sample)
        output = model(x_t, t.astype(np.float32), labels)
        error = ops.square(output - Tensor(self.target_of(x0, eps, t)))
        weight = Tensor(backend.to_device(self.loss_weight(t).astype(x0.dtype)))
        each = ops.mul(weight, ops.mean(error, axis=tuple(range(1, x0.ndim))))  # (N,)
        return ops.mean(each), each.data

    def training_loss(
        self, model: Callable, x0: np.ndarray, labels: np.ndarray | None, seed: int, step: int, sample: np.ndarray
    ) -> tuple[Tensor, np.ndarray]:
        """Return the loss of one training step, as `loss` does, with t, noise and hidden labels drawn by key.

        sample: (N,) int64, each picture's place in the step's whole batch.  All that is drawn for a picture depends
        on (seed, step, sample) alone, so a batch may be cut into parts and the parts' losses averaged.
        Source: Ho et al. 2020, arXiv:2006.11239, algorithm 1.
        """
        t = random.integers(Key(seed, Stream.T, step, sample), (), self.schedule.T)
        labels = self.drop_labels(labels, model, seed, step, sample)
        return self.loss(model, x0, labels, t, Key(seed, Stream.NOISE, step, sample))

    def drop_labels(
        self, labels: np.ndarray | None, model: Any, seed: int, step: int, sample: np.ndarray
    ) -> np.ndarray | None:
        """Hide each label with probability `label_drop`: a hidden label is the number `model.config.classes`.

        labels: (N,) int64 or None, which stays None.
        Source: Ho and Salimans 2022, arXiv:2207.12598, algorithm 1.
        """
        if labels is None:
            return None
        hidden = random.uniform(Key(seed, Stream.LABEL_DROP, step, sample), ()) < self.label_drop
        return np.where(hidden, model.config.classes, labels)


def eps_from_x0(x_t: np.ndarray, x0_hat: np.ndarray, alpha_bar: Any) -> np.ndarray:
    """Return the noise that leads from x0_hat to x_t: (x_t - a x0_hat) / s.  Shapes as in `Process.to_x0_eps`."""
    a, s = _a_s(alpha_bar, x_t)
    return (x_t - a * x0_hat) / s


def _a_s(alpha_bar: Any, like: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a and s for one alpha_bar or (N,) of them, shaped (1 or N, 1, 1, 1) to multiply arrays like `like`.

    The roots are taken in float64 and rounded once to the arrays' dtype: a float64 factor would make the product
    float64.
    """
    alpha_bar = np.asarray(alpha_bar, dtype=np.float64).reshape(-1, *[1] * (like.ndim - 1))
    a, s = np.sqrt(alpha_bar).astype(like.dtype), np.sqrt(1 - alpha_bar).astype(like.dtype)
    return backend.to_device(a), backend.to_device(s)
