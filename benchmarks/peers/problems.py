"""What is computed, said once for all engines: shapes and the numbers that go in.

Idea: each engine runs in a process of its own, so a problem is a small frozen dataclass that travels there, and makes
its numbers there, from a seed: everybody starts from the same ones.
First of the folder.  Leaves out how anything is computed.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from minidiff import backend
from minidiff.checkpoint.build import make_process, network_config
from minidiff.checkpoint.config import Config, DiffusionConfig, ModelConfig
from minidiff.images.files import to_float
from minidiff.interop import UNet2D
from minidiff.interop.unet2d_config import from_json
from minidiff.nn import Module, UNet, UNetConfig
from minidiff.nn.autoencoder import AutoencoderConfig, Decoder
from minidiff.scenes.factors import SUBJECTS

Direction = Literal["forward", "grad_x", "grad_w"]
DIRECTIONS: tuple[Direction, ...] = ("forward", "grad_x", "grad_w")


@dataclass(frozen=True)
class Convolution:
    """x (N, H, H, C_in) with w (K, K, C_in, C_out), without bias; or its gradient for x or for w."""

    batch: int
    size: int
    inputs: int
    outputs: int
    kernel: int = 3
    stride: int = 1
    direction: Direction = "forward"

    @property
    def name(self) -> str:
        """N×H×H×C_in-C_out, and what is not 3×3 with stride 1: 32x16x16x64-64, 32x32x32x96-32-1x1."""
        kernel = "" if self.kernel == 3 else f"-{self.kernel}x{self.kernel}"
        stride = "" if self.stride == 1 else f"-stride{self.stride}"
        return f"{self.batch}x{self.size}x{self.size}x{self.inputs}-{self.outputs}{kernel}{stride}"

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return x, w and gy (N, H/stride, H/stride, C_out), standard normal float32."""
        rng, small = np.random.default_rng(0), -(-self.size // self.stride)
        x = (self.batch, self.size, self.size, self.inputs)
        w = (self.kernel, self.kernel, self.inputs, self.outputs)
        gy = (self.batch, small, small, self.outputs)
        return tuple(rng.standard_normal(shape, np.float32) for shape in (x, w, gy))  # type: ignore[return-value]


# The 3×3 convolutions that make up a U-Net's cost: the means are over exactly these seven.
USUAL = tuple(
    Convolution(*shape)
    for shape in [
        (32, 32, 32, 32),
        (32, 32, 96, 32),
        (32, 16, 64, 64),
        (32, 16, 128, 64),
        (32, 8, 64, 64),
        (32, 32, 64, 64),
        (32, 16, 128, 128),
    ]
)
OTHERS = tuple(
    Convolution(*shape)  # type: ignore[arg-type]  # the numbers alone
    for shape in [
        (32, 8, 256, 128),
        (32, 16, 192, 128),
        (32, 32, 16, 16),
        (32, 32, 96, 32, 1),
        (32, 16, 192, 128, 1),
        (32, 32, 64, 64, 3, 2),
        (32, 16, 128, 128, 3, 2),
        (32, 32, 3, 64),
        (32, 32, 64, 3),
        (32, 28, 1, 32),
        (32, 28, 32, 1),
    ]
)
FEW_CHANNELS = 16  # below so many, on either side, a 3×3 convolution is an end of the network


def is_usual_kind(problem: Convolution) -> bool:
    """Whether it is 3×3 with stride 1 and at least 16 channels on both sides."""
    return (problem.kernel, problem.stride) == (3, 1) and min(problem.inputs, problem.outputs) >= FEW_CHANNELS


@dataclass(frozen=True)
class Network:
    """A U-Net for arrays size × size, `batch` at a time: as a problem by itself, one step of its training.

    channels: 3 for RGB images, any other number for latents.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    size: int = 32
    batch: int = 32
    classes: int = 0
    channels: int = 3

    @property
    def config(self) -> UNetConfig:
        """The network as minidiff's own training builds it from these settings."""
        return network_config(self.model, self.size, self.size, self.channels, self.classes)

    @property
    def latent(self) -> bool:
        """Whether it works with latents, which have no range that a predicted x0 is cut to."""
        return self.channels != 3

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the arrays of a batch."""
        return self.batch, self.size, self.size, self.channels

    def images(self) -> np.ndarray:
        """(N, H, W, 3) uint8, random: speed does not depend on what they show."""
        return np.random.default_rng(1).integers(0, 256, (*self.shape[:3], 3), np.uint8)

    def x0(self) -> np.ndarray:
        """(N, H, W, C) float32, what noise is added to: the images, or latents, which are standard normal."""
        if self.latent:
            return np.random.default_rng(1).standard_normal(self.shape, np.float32)
        return to_float(self.images())

    def labels(self) -> np.ndarray | None:
        """(N,) int64, or None for a network without classes."""
        return np.arange(self.batch) % self.classes if self.classes else None

    def noised(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        """Return a step with nothing left to chance: x_t, v (N, H, W, C) float32, t (N,) int64, labels, one hidden."""
        rng, process = np.random.default_rng(2), make_process(DiffusionConfig())
        x0 = self.x0()
        eps, t = rng.standard_normal(x0.shape, np.float32), rng.integers(0, process.schedule.T, self.batch)
        level = process.schedule.level(t)
        a, s = (part.reshape(-1, 1, 1, 1) for part in (level.a, level.s))
        labels = np.arange(self.classes, self.classes - self.batch, -1) % (self.classes + 1) if self.classes else None
        with backend.using("numpy"):  # whatever computes afterwards
            return (a * x0 + s * eps).astype(np.float32), process.target_of(x0, eps, level), t, labels


@dataclass(frozen=True)
class Sampling:
    """DDIM from pure noise, eta 0 and no guidance, `network.batch` images in `steps` steps."""

    network: Network
    steps: int = 50

    def start(self) -> np.ndarray:
        """x_T: (N, H, W, C) float32."""
        return np.random.default_rng(3).standard_normal(self.network.shape, np.float32)


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a network without gradients.  With a batch of 2 it is a step of one image with guidance."""

    network: Network

    def inputs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """x_t (N, H, W, C) float32, t (N,) float32, labels."""
        x_t, _, t, labels = self.network.noised()
        return x_t, t.astype(np.float32), labels


@dataclass(frozen=True)
class Decoding:
    """From latents to `batch` images at once, without gradients, by the decoder of an autoencoder."""

    batch: int = 16
    config: AutoencoderConfig = field(default_factory=lambda: AutoencoderConfig(128, 128))

    def decoder(self) -> Decoder:
        """The decoder as minidiff builds it, its weights not filled in."""
        return Decoder(self.config)

    def latents(self) -> np.ndarray:
        """(N, h, w, c) float32, standard normal."""
        return np.random.default_rng(3).standard_normal((self.batch, *self.config.latent_shape), np.float32)


@dataclass(frozen=True)
class Forward:
    """One pass, without gradients, of the U-Net of google/ddpm-cifar10-32 (DDPM for CIFAR-10), its weights random.

    base: features of its first level; 128 makes the 35,746,307 weights of that network.
    """

    batch: int = 1
    base: int = 128

    @property
    def options(self) -> dict[str, Any]:
        """Its config.json."""
        return {
            "sample_size": 32,
            "block_out_channels": [self.base, 2 * self.base, 2 * self.base, 2 * self.base],
            "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
            "layers_per_block": 2,
            "attention_head_dim": None,
            "norm_num_groups": 32,
            "norm_eps": 1e-6,
            "downsample_padding": 0,
            "freq_shift": 1,
            "flip_sin_to_cos": False,
        }

    def network(self) -> UNet2D:
        """The network as minidiff builds it, its weights not filled in."""
        return UNet2D(from_json(self.options, "ddpm"))

    def inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """Return x (N, 32, 32, 3) and t (N,), float32."""
        x = np.random.default_rng(3).standard_normal((self.batch, 32, 32, 3), np.float32)
        return x, np.linspace(0, 999, self.batch, dtype=np.float32)


CHECKED_STEPS = 5  # of sampling, when results are compared: each step adds to the differences of the one before

Problem = Convolution | Network | Sampling | Evaluation | Decoding | Forward

PLAIN = Network(
    ModelConfig(patch=1, model_channels=64, channel_mult=(1, 2, 2), num_res_blocks=1, attention_at=(), time="add")
)
DEFAULT = Network(Config().model, size=32, batch=Config().run.batch_size, classes=len(SUBJECTS))  # minidiff.train's
LATENT = replace(DEFAULT, size=16, channels=8)  # the same for the latents of images of 128 pixels


def made_small(problem: Any) -> Any:
    """The problem with at most two images, and two steps: to try the benchmark, not to measure."""
    if isinstance(problem, Sampling):
        return Sampling(made_small(problem.network), steps=2)
    if isinstance(problem, Evaluation):
        return problem
    return replace(problem, batch=min(2, problem.batch))


def weights(config: UNetConfig) -> dict[str, np.ndarray]:
    """Return float32 weights by parameter name in minidiff's layout, as a training starts but none of them zero."""
    return random_weights(UNet(config))


def random_weights(model: Module) -> dict[str, np.ndarray]:
    """Return `weights` for any network.

    The last convolutions of a new network are zero, and so would be every gradient below them: a comparison would
    hold whatever is computed there.  So 0.02 of noise lies on all of them.
    """
    rng, made = np.random.default_rng(4), {}
    for name, parameter in model.named_parameters().items():
        noise = rng.standard_normal(parameter.planned_shape, np.float32)
        made[name] = (parameter.initial_mean + math.hypot(parameter.std, 0.02) * noise).astype(np.float32)
    return made
