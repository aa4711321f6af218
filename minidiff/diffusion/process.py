"""The noising process, what the network predicts, and the loss that it is trained with.

Idea: the noisy image is a linear combination of image and noise.  The output that the network learns is another linear
combination of the two,

    x_t    = a x0 + s eps
    output = g x0 + h eps

These are two equations with two unknowns: x_t and the output determine x0 and eps.  A prediction target, such as the
noise or the image, is a choice of g and h; samplers only see x0_hat and eps_hat.  In training, timesteps and noise are
drawn at random, and the loss is the weighted squared error of the output.
Where a is 0, x_t is the noise itself, and the target "eps" says nothing about x0: such a schedule refuses it.
Leaves out learned variances: the network predicts no uncertainty of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from minidiff import backend, ops, random
from minidiff.autograd import Tensor
from minidiff.diffusion.schedule import Level, Schedule
from minidiff.errors import MinidiffError
from minidiff.random import Key, Stream

Target = Literal["eps", "x0", "v", "flow", "edm"]
Weighting = Literal["plain", "min_snr", "edm"]
DrawT = Literal["uniform", "stratified", "lognormal"]
TARGETS: tuple[str, ...] = get_args(Target)
WEIGHTINGS: tuple[str, ...] = get_args(Weighting)
DRAWS: tuple[str, ...] = get_args(DrawT)

SIGMA_DATA = 0.5  # the standard deviation of image values that EDM assumes: arXiv:2206.00364, table 1


@dataclass(frozen=True)
class Process:
    """The noising of images, and what a network learns from it.

    target: what the network predicts, see `mixture`.
    weighting: the weight of each t in the loss, see `loss_weight`.
    gamma: where min-SNR caps the signal-to-noise ratio.
    cond_dropout: the share of labels dropped in training, so that the network also learns to draw without one.
    timestep_sampling: how timesteps are drawn in training, see `draw_level`.
    sigma_mean, sigma_std: of ln(sigma), for "lognormal".
    Raises MinidiffError for an unknown name, a number out of range, or a target that the schedule does not allow.
    """

    schedule: Schedule
    target: str = "eps"
    weighting: str = "plain"
    gamma: float = 5.0
    cond_dropout: float = 0.1
    timestep_sampling: str = "uniform"
    sigma_mean: float = -1.2
    sigma_std: float = 1.2

    def __post_init__(self) -> None:
        for name, known in (("target", TARGETS), ("weighting", WEIGHTINGS), ("timestep_sampling", DRAWS)):
            if getattr(self, name) not in known:
                raise MinidiffError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if not self.gamma > 0:
            raise MinidiffError(f"gamma must be above 0, got {self.gamma}")
        if not 0 <= self.cond_dropout <= 1:
            raise MinidiffError(f"cond_dropout must be in [0, 1], got {self.cond_dropout}")
        if not 0 < self.sigma_std < np.inf:
            raise MinidiffError(f"sigma_std must be above 0, got {self.sigma_std}")
        if self.schedule.a[-1] == 0 and self.target in ("eps", "edm"):
            why = {
                "eps": "there x_t is the noise itself, and predicting it says nothing about the image",
                "edm": "there sigma is infinite, and the network gets its logarithm",
            }[self.target]
            raise MinidiffError(f"target {self.target} needs a schedule that leaves a trace of the image at the last "
                                f"timestep: {why}; use v, x0 or flow")  # fmt: skip

    # -- two equations, two unknowns ----------------------------------------------------------------------------------

    def mixture(self, level: Level) -> tuple[Any, Any]:
        """Return g and h of the prediction target g x0 + h eps; floats, or (N,) like the level's.

            eps:   the noise                                          0,  1
            x0:    the image                                          1,  0
            v:     at a right angle to x_t, whose weights are a, s   -s,  a
            flow:  eps - x0, the direction from image to noise       -1,  1
            edm:   F, so that x0_hat = c_skip x_t / a + c_out F       s / (sigma_data S),  -a sigma_data / S

        with S^2 = s^2 + a^2 sigma_data^2, the variance of x_t.  EDM's numbers, for x_t / a = x0 + sigma eps, are

            c_skip = sigma_data^2 / (sigma^2 + sigma_data^2),   c_out = sigma sigma_data / sqrt(sigma^2 + sigma_data^2)

        F is mostly the noise where there is little of it, mostly the image where there is much: the part that cannot be
        read from x_t, scaled to variance one.  With sigma_data = 1 it is -v.
        Sources: Ho et al. 2020, arXiv:2006.11239 (eps); Salimans and Ho 2022, arXiv:2202.00512, appendix D (v); Lipman
        et al. 2022, arXiv:2210.02747, eq. 23 (flow); Karras et al. 2022, arXiv:2206.00364, table 1 (edm).
        """
        a, s = level.a, level.s
        if self.target == "edm":
            S = spread(level)
            return s / (SIGMA_DATA * S), -a * SIGMA_DATA / S
        zero, one = np.zeros_like(a), np.ones_like(a)
        return {"eps": (zero, one), "x0": (one, zero), "v": (-s, a), "flow": (-one, one)}[self.target]

    def target_of(self, x0: np.ndarray, eps: np.ndarray, level: Level) -> np.ndarray:
        """Return the prediction target g x0 + h eps for x_t = a x0 + s eps.

        x0, eps: (N, ...) float.  level: one, or of N timesteps.  Returns (N, ...) of their dtype.
        """
        g, h = (_each(part, x0) for part in self.mixture(level))
        return g * x0 + h * eps

    def to_x0_eps(self, output: np.ndarray, x_t: np.ndarray, level: Level) -> tuple[np.ndarray, np.ndarray]:
        """Convert the network's output to an image and a noise: the inverse of `target_of`.

            x0_hat = (h x_t - s output) / (a h - s g)
            eps_hat = (a output - g x_t) / (a h - s g)

        output, x_t: (N, ...) float.  level: one, or of N timesteps.  Returns two arrays like x_t.
        """
        return self.to_x0(output, x_t, level), self.to_eps(output, x_t, level)

    def to_x0(self, output: np.ndarray, x_t: np.ndarray, level: Level) -> np.ndarray:
        """Return x0_hat alone, see `to_x0_eps`."""
        (g, h), a, s = self.mixture(level), level.a, level.s
        determinant = a * h - s * g
        return _each(h / determinant, x_t) * x_t - _each(s / determinant, x_t) * output

    def to_eps(self, output: np.ndarray, x_t: np.ndarray, level: Level) -> np.ndarray:
        """Return eps_hat alone, see `to_x0_eps`."""
        (g, h), a, s = self.mixture(level), level.a, level.s
        determinant = a * h - s * g
        return _each(a / determinant, x_t) * output - _each(g / determinant, x_t) * x_t

    # -- what the network is given ------------------------------------------------------------------------------------

    def predict(self, network: Callable, x_t: Any, level: Level) -> Any:
        """Return network(x, t) for x_t, with the x and t that it was trained with.

        EDM's network gets x_t scaled to variance one, c_in x_t / a = x_t / S, and c_noise = ln(sigma) / 4, here times
        1000, as the embedding of t is made for values in the hundreds.  All others get x_t and t.
        Source: Karras et al. 2022, arXiv:2206.00364, table 1.
        """
        if self.target == "edm":
            x_t = x_t * _each(1 / spread(level), x_t)
        return network(x_t, self.network_t(level))

    def x_t_of(self, x: Any, level: Level) -> Any:
        """Return x_t from the x that `predict` gives to the network."""
        return x * _each(spread(level), x) if self.target == "edm" else x

    def network_t(self, level: Level) -> Any:
        """Return the t that `predict` gives to the network."""
        return 250 * np.log(level.sigma) if self.target == "edm" else level.t

    # -- training ---------------------------------------------------------------------------------------------------

    def loss_weight(self, level: Level) -> np.ndarray:
        """Return the weight of each image's squared error: (N,) float64.

        An error of the output causes an error of x0_hat that is s / (a h - s g) times as large, see `to_x0_eps`.  So an
        error of eps is sqrt(snr) times, and an error of v sqrt(snr + 1) times, as large as the error of x0_hat that it
        causes.  With weight 1, "plain", eps and v therefore learn mostly from almost clean images, where snr is in the
        thousands.  The others set the weight of an error *of x0_hat*, for any target:

            min_snr:  min(snr, gamma)
            edm:      (sigma^2 + sigma_data^2) / (sigma sigma_data)^2, which for target "edm" is what "plain" does

        Where nothing is left of the image, at the last timestep of the flow and of zero terminal SNR, min_snr is 0,
        and almost 0 close by: predictions there are hardly trained, although sampling may begin there.
        Sources: Hang et al. 2023, arXiv:2303.09556, section 3.4; Karras et al. 2022, arXiv:2206.00364, table 1.
        """
        if self.weighting == "plain":
            return np.ones(len(level.t))
        (g, h), snr = self.mixture(level), level.snr
        of_x0 = np.minimum(snr, self.gamma) if self.weighting == "min_snr" else snr + 1 / SIGMA_DATA**2
        return of_x0 * (level.s / (level.a * h - level.s * g)) ** 2

    def loss(self, model: Callable, x0: np.ndarray, cond: Any, level: Level, key: Key) -> tuple[Tensor, np.ndarray]:
        """Return the weighted mean squared error of a batch at given timesteps, with the noise that `key` names.

            L = mean over n of  weight(t_n) mean (model(x_t, t, cond)_n - target_n)^2

        x0: (N, H, W, C) float in [-1, 1].  cond: see `Denoiser.condition`.  level: of N timesteps.  key.sample: (N,).
        Returns the loss, a Tensor to call `backward` on, and its N summands (N,) before the mean.
        Source: Ho et al. 2020, arXiv:2006.11239, eq. 14.
        """
        examples = self.examples(x0, None, level, key)
        return examples.loss(model(examples.x, examples.t, cond))

    def examples(self, x0: np.ndarray, labels: np.ndarray | None, level: Level, key: Key) -> "Examples":
        """Return what the network gets and what it is to answer, at given timesteps; arguments: see `loss`."""
        a, s = level.a.astype(x0.dtype), level.s.astype(x0.dtype)
        x_t, eps = backend.current().add_noise(x0, backend.to_device(a), backend.to_device(s), key[:3], key.sample)
        x, t = self.predict(lambda x, t: (x, backend.to_device(t.astype(np.float32))), x_t, level)
        weight = backend.to_device(self.loss_weight(level).astype(x0.dtype))
        labels = None if labels is None else backend.to_device(labels)
        return Examples(x, t, labels, self.target_of(x0, eps, level), weight)

    def training_examples(
        self,
        model: Any,
        x0: np.ndarray,
        labels: np.ndarray | None,
        seed: int,
        step: int,
        sample: np.ndarray,
        batch_size: int,
    ) -> "Examples":
        """Draw t, noise and dropped labels of a training step by key; return what the network learns from.

        sample: (N,) int64, each image's place in the step's whole batch of `batch_size` images.  All that is drawn for
        an image depends on (seed, step, sample) alone, so a batch may be cut into parts and their losses averaged.
        Source: Ho et al. 2020, arXiv:2006.11239, algorithm 1.
        """
        level = self.draw_level(seed, step, sample, batch_size)
        labels = self.drop_labels(labels, model, seed, step, sample)
        return self.examples(x0, labels, level, Key(seed, Stream.NOISE, step, sample))

    def draw_level(self, seed: int, step: int, sample: np.ndarray, batch_size: int) -> Level:
        """Draw the timesteps of images `sample` of a batch in training: a level of N of them.

        uniform: t is uniform, drawn for each image by itself.
        stratified: one draw u for the step, and from there evenly over the timesteps,
            t = T ((u + sample / batch_size) mod 1), so that no step sees only clean images.
            Kingma et al. 2021, arXiv:2107.00630, appendix I.1.
        lognormal: ln(sigma) ~ N(sigma_mean, sigma_std^2), cut at the schedule's ends; most t lie where there is
            most to learn, and next to none at sigma above exp(sigma_mean + 4 sigma_std). Karras et al. 2022,
            arXiv:2206.00364, table 1. On the flow, whose s is the logistic function of ln(sigma), it is Esser et al.'s
            logit-normal draw, arXiv:2403.03206, eq. 19.
        """
        schedule, key = self.schedule, Key(seed, Stream.T, step, sample)
        if self.timestep_sampling == "uniform":
            return schedule.level(random.integers(key, (), schedule.T))
        if self.timestep_sampling == "stratified":
            u = float(random.uniform(key._replace(sample=0), ()))
            return schedule.level((schedule.T * ((u + sample / batch_size) % 1)).astype(np.int64))
        z = backend.to_numpy(random.normal(key, ())).astype(np.float64)
        least, most = schedule.all.sigma[[0, -1]]
        return schedule.at_sigma(np.clip(np.exp(self.sigma_mean + self.sigma_std * z), least, most))

    def drop_labels(
        self, labels: np.ndarray | None, model: Any, seed: int, step: int, sample: np.ndarray
    ) -> np.ndarray | None:
        """Drop each label with probability `cond_dropout`: a dropped label is the number `model.config.null_cond`.

        labels: (N,) int64, or captions (N, L), or None, which stays None.
        Source: Ho and Salimans 2022, arXiv:2207.12598, algorithm 1.
        """
        if labels is None:
            return None
        hidden = random.uniform(Key(seed, Stream.LABEL_DROP, step, sample), ()) < self.cond_dropout
        return np.where(hidden.reshape(-1, *[1] * (labels.ndim - 1)), model.config.null_cond, labels)


class Examples(NamedTuple):
    """What a network learns from, on the device: its inputs x, t and labels, the target, the weight of each error.

    x, target: (N, H, W, C).  t, weight: (N,).  labels: (N,) int64, or captions (N, L), or None.
    """

    x: Any
    t: Any
    labels: Any
    target: Any
    weight: Any

    def loss(self, output: Tensor) -> tuple[Tensor, Any]:
        """Return the weighted mean squared error of the network's output, and its N summands (N,) before the mean."""
        error = ops.square(output - Tensor(self.target))
        each = ops.mul(Tensor(self.weight), ops.mean(error, axis=tuple(range(1, len(error.shape)))))
        return ops.mean(each), each.data


def loss_of(model: Any, examples: Examples) -> tuple[Tensor, Any]:
    """Return the loss of a network on examples, and its summands."""
    cond = model.condition(len(examples.x), examples.labels)
    return examples.loss(model(examples.x, examples.t, cond))


def spread(level: Level) -> Any:
    """Return the standard deviation of x_t if that of the images is sigma_data: sqrt(s^2 + a^2 sigma_data^2)."""
    return np.hypot(level.s, level.a * SIGMA_DATA)


def eps_from_x0(x_t: np.ndarray, x0_hat: np.ndarray, level: Level) -> np.ndarray:
    """Return the noise that leads from x0_hat to x_t: (x_t - a x0_hat) / s.  Shapes as in `Process.to_x0_eps`."""
    return (x_t - _each(level.a, x_t) * x0_hat) / _each(level.s, x_t)


def _each(factor: Any, x: np.ndarray) -> Any:
    """Return one float64 factor, or (N,) of them, such that it multiplies x (N, ...) image by image.

    An array is rounded to the dtype of x and goes to its device: times a float64 array, float32 would become float64.
    """
    if np.ndim(factor) == 0:
        return float(factor)
    return backend.to_device(factor.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1)))
