"""All settings of a training, in one frozen dataclass for each concern.

Idea: each setting has one name, one default and one explanation, which stand together in its class.  The command line,
the TOML file in the run's folder and the checkpoint are made from these classes, so they cannot disagree.  The command
line has one flat list of options, so a name is unique over all classes.  A training without options has these defaults.
Leaves out the settings of the data (data/config.py), the limits of numbers (limits.py), and how settings are read and
written (settings.py, training/cli.py).
"""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from minidiff.command_line import BackendName
from minidiff.data.config import DataConfig, check_size
from minidiff.diffusion.process import DrawT, Target, Weighting
from minidiff.diffusion.schedule import Kind
from minidiff.errors import MinidiffError
from minidiff.limits import check_limits, check_text

Adapter = Literal["none", "edges", "segmentation", "depth", "reference"]

DEFAULT_MINUTES = 8.5  # the rest of ten minutes is for machines that slow down after their speed was measured
LEAST_WARMUP = 10  # steps in which `--minutes` can measure; see training/budget.py
NO_ADAPTER = "a ControlNet or an IP-Adapter is added to a U-Net; a transformer (--network dit) takes none"


@dataclass(frozen=True)
class ModelConfig:
    """The network: a denoiser, or an autoencoder, in whose latents a denoiser can then be trained."""

    network: Literal["unet", "dit", "autoencoder"] = "unet"
    """What is trained: a denoiser, which is a U-Net or a transformer (dit), or an autoencoder for images that are too
    large to be denoised at full size."""
    patch: int | None = None
    """Pixels along each side of a patch, which is stacked into channels; 2 makes the network four times cheaper than 1.
    None given: as many, among 1, 2, 4, …, as leave 16 places along the shorter side, or at most 8 for a transformer."""
    model_channels: int = 32
    """Channels at full resolution, or of patches."""
    channel_mult: tuple[int, ...] = (1, 2, 4)
    """Channels of each level, as multiples of --model-channels; every level after the first halves height and width."""
    num_res_blocks: int = 1
    """Residual blocks a level on the way down; one more on the way up."""
    attention_at: tuple[int, ...] | None = None
    """Levels at which pixels attend to each other, by their height in patches, such as 16 8; None: the smallest."""
    heads: int = 4
    """Attention heads."""
    groups: int = 8
    """Most groups that a normalisation divides its channels into."""
    time: Literal["scale_shift", "add"] = "scale_shift"
    """How the timestep conditions a residual block: its embedding scales and shifts the normalisation, or is added."""
    text_width: int = 128
    """Width of the embedding of a word of a caption."""
    text_layers: int = 0
    """Transformer layers over the words of a caption, before the image attends to them; without any, the words of short
    captions are learnt sooner."""
    cross_attention_at: tuple[int, ...] | None = None
    """Levels at which pixels attend to the words, by their height in patches, such as 8 4; None: the two smallest."""
    hidden_size: int = 160
    """Length of the vector that stands for a patch in a transformer (--network dit)."""
    num_layers: int = 6
    """Transformer blocks (--network dit)."""


@dataclass(frozen=True)
class AutoencoderSettings:
    """Latent diffusion: the autoencoder that a denoiser works with, and the training of one (--network autoencoder)."""

    autoencoder: Path | None = None
    """A trained autoencoder, or a model that has one: the network denoises its latents instead of pixels, and the
    decoder makes images of them."""
    latent_channels: int = 8
    """Numbers that each place of the latents has."""
    autoencoder_patch: int = 2
    """Pixels along each side of a patch of the autoencoder."""
    encoder_channels: tuple[int, ...] = (32, 64, 128)
    """Channels of each level of the encoder; every level after the first halves height and width."""
    decoder_channels: tuple[int, ...] = (32, 64, 128)
    """Channels of each level of the decoder."""
    encoder_blocks: tuple[int, ...] = (0, 1, 1)
    """Residual blocks of each level of the encoder."""
    decoder_blocks: tuple[int, ...] = (2, 2, 2)
    """Residual blocks of each level of the decoder."""
    edge_weight: float = 1.0
    """Weight of the error of differences between neighbouring pixels, which makes edges crisp."""
    scale_weight: float = 0.25
    """Weight of the error at half the height and width, decoded from latents of half the size, which keeps information
    out of the high frequencies of latents."""
    kl_weight: float = 1e-3
    """Weight of the divergence of the latents from the standard normal distribution, which limits their means and keeps
    their variances from vanishing."""


@dataclass(frozen=True)
class DiffusionConfig:
    """The noising process, and what the network predicts."""

    schedule: Kind = "cosine"
    """How fast noise grows with t: by shares of variance (linear, scaled_linear, cosine, sigmoid), by sigma (karras,
    exponential), or straight from image to noise (flow)."""
    num_timesteps: int = 1000
    """Number of timesteps t, from almost clean to pure noise."""
    target: Target = "v"
    """What the network predicts: the noise (eps), the image (x0), v between both, the flow's velocity (flow), or
    what EDM's preconditioning leaves to it (edm)."""
    weighting: Weighting = "plain"
    """How the error at each t counts in the loss: as it is (plain), or as an error of the image that counts
    min(snr, gamma) (min_snr) or as EDM has it (edm)."""
    gamma: float = 5.0
    """Where min_snr weighting caps the signal-to-noise ratio."""
    cond_dropout: float = 0.1
    """Share of labels hidden while training; classifier-free guidance needs them hidden at times."""
    shift: float = 1.0
    """For the flow schedule: above 1, more of its timesteps are noisy, as large images need."""
    zero_snr: bool = False
    """Make the last timestep pure noise, without a trace of the image; the flow's always is. Not with target eps."""
    timestep_sampling: DrawT = "uniform"
    """Which timesteps are trained: all equally often (uniform), also in each batch (stratified), or most often those
    where the logarithm of sigma is near sigma_mean (lognormal)."""
    sigma_mean: float = -1.2
    """Mean of ln(sigma), for timestep_sampling lognormal. EDM's value; 0 on the flow is the logit-normal of Stable
    Diffusion 3."""
    sigma_std: float = 1.2
    """Spread of ln(sigma), for timestep_sampling lognormal."""


@dataclass(frozen=True)
class AdditionConfig:
    """An adapter for a trained network, which is not changed."""

    adapter: Adapter = "none"
    """What the adapter is conditioned on: edges, a segmentation or a depth map (a ControlNet), or the style of a
    reference image (an IP-Adapter). none: train a whole network."""
    onto: Path | None = None
    """The trained model below the adapter: a checkpoint file, or a training's folder for its newest checkpoint."""


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer: AdamW, and a moving average of the weights."""

    lr: float = 2e-3
    """Learning rate at its peak."""
    warmup: int = 100
    """Steps in which the learning rate rises to its peak; from there it falls along a cosine to the last step."""
    beta1: float = 0.9
    """Decay of Adam's moving average of the gradients."""
    beta2: float = 0.99
    """Decay of Adam's moving average of the squared gradients."""
    weight_decay: float = 0.01
    """Weight decay, times the learning rate; biases and norms are not decayed."""
    clip: float = 1.0
    """Largest norm of all gradients together; gradients with a larger norm are scaled down to it."""
    ema: float = 0.999
    """Decay of the moving average of the weights, which draws the images."""


@dataclass(frozen=True)
class RunConfig:
    """The length of the run, the batch, and what is saved."""

    steps: int | None = None
    """Number of training steps; or give --minutes."""
    minutes: float | None = None
    """Minutes for the whole command: it measures its speed, then fixes the number of steps. 8.5 if neither is given."""
    batch_size: int = 32
    """Images per step."""
    accumulate: int = 1
    """Parts that a batch is computed in, to save memory or by several processes; must divide the batch. Several
    processes raise it to a multiple of their number, so that all have equally many."""
    seed: int = 0
    """Seed of all random numbers: the same seed on the same machine, backend and threads gives the same weights."""
    backend: BackendName = "auto"
    threads: int | None = None
    """CPU threads, for numpy those of its BLAS. None: all that this process may use; a resumed run keeps its number."""
    save_every: int | None = None
    """Steps between checkpoints; None: one every two minutes."""
    keep: int = 3
    """Checkpoints kept, the newest ones."""
    preview_every: int | None = None
    """Steps between grids of samples; None: one after ten seconds, then one a minute."""


@dataclass(frozen=True)
class Config:
    """All settings of a training."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    autoencoder: AutoencoderSettings = field(default_factory=AutoencoderSettings)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    addition: AdditionConfig = field(default_factory=AdditionConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)


def check(config: Config) -> None:
    """Raise MinidiffError, with the setting, what is expected and what came, unless every value is valid.

    The limits of numbers are in limits.py.  Whether settings fit the network, the schedule or the data (do the levels
    divide the image?) is checked where these are made, which happens before anything is written.
    """
    run = config.run
    for concern in fields(config):
        settings = vars(getattr(config, concern.name))
        # The backend checks the number of threads.
        check_limits({name: value for name, value in settings.items() if name != "threads"}, "--{}")
        for name, value in settings.items():
            check_text(value, f"--{name.replace('_', '-')}")
    check_size(config.data.size)
    if not config.model.channel_mult:
        raise MinidiffError("--channel-mult must be one number a level, got nothing")
    if config.data.flip and config.data.data == "mnist":
        raise MinidiffError("--flip: a mirrored digit is none, so mnist is not mirrored; leave it out")
    if (config.addition.adapter == "none") != (config.addition.onto is None):
        raise MinidiffError("--adapter and --onto go together: what is added, and the trained model it is added to")
    if config.addition.onto is not None and config.autoencoder.autoencoder is not None:
        raise MinidiffError(f"--autoencoder: an adapter works in the latents of {config.addition.onto}; leave it out")
    if config.model.network == "dit" and config.addition.adapter != "none":
        raise MinidiffError(f"--adapter {config.addition.adapter}: {NO_ADAPTER}")
    if config.model.network == "autoencoder":
        for name, given in (("--autoencoder", config.autoencoder.autoencoder), ("--onto", config.addition.onto)):
            if given is not None:
                raise MinidiffError(f"--network autoencoder is trained by itself; leave out {name} {given}")
    if run.steps is not None and run.minutes is not None:
        raise MinidiffError(f"give --steps or --minutes, not both; got {run.steps} steps and {run.minutes:g} minutes")
    if run.steps is None and config.optimizer.warmup < LEAST_WARMUP:
        raise MinidiffError(
            f"--warmup must be {LEAST_WARMUP} or more while --minutes measures the speed, because only then the "
            f"learning rate does not depend on the end, got {config.optimizer.warmup}"
        )
    if run.batch_size % run.accumulate:
        raise MinidiffError(f"--accumulate must divide the batch of {run.batch_size}, got {run.accumulate}")
