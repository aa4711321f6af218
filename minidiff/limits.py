"""The allowed range of every numeric setting, and a check that texts can be encoded.

Idea: a setting may come from a command line, a settings file, a checkpoint of an unknown author, or the metadata of an
image.  One table holds its range, which is the same for all these sources.  So no file can ask for a network of a
billion blocks, and no setting is NaN.  Texts must be valid UTF-8, because they are written to files again.
Leaves out conditions between several settings (heads must divide channels): nn/unet_config.py and others.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from minidiff.errors import MinidiffError, printable


@dataclass(frozen=True)
class Range:
    """The numbers from `least` to `most`.  above: without `least` itself.  below: without `most` itself."""

    least: float
    most: float
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number is in the range; NaN never is."""
        return (self.least < value if self.above else self.least <= value) and (
            value < self.most if self.below else value <= self.most
        )

    def __str__(self) -> str:
        least, most = _shown(self.least), _shown(self.most)
        if self.most == math.inf:
            return f"above {least}" if self.above else f"{least} or more"
        if self.above:
            return f"above {least}, {'below' if self.below else 'at most'} {most}"
        return f"from {least} to {'below ' * self.below}{most}"


def _shown(number: float) -> str:
    """Write 4294967295 as 2^32 - 1, and so on."""
    for power in (32, 64):
        if number == 2**power - 1:
            return f"2^{power} - 1"
    return f"{number:g}" if isinstance(number, float) else str(number)


_HUGE = 1e12  # larger numbers are typing errors

# By the name of the setting in the code; command-line options have "-" instead of "_".
LIMITS: Mapping[str, Range] = {
    # images and data
    "size": Range(1, 4096),
    "height": Range(1, 4096),
    "width": Range(1, 4096),
    "channels": Range(1, 64),
    "classes": Range(0, 1 << 16),
    # network
    "patch": Range(1, 64),
    "model_channels": Range(1, 1 << 14),
    "channel_mult": Range(1, 256),
    "num_res_blocks": Range(1, 256),
    "attention_at": Range(1, 4096),
    "heads": Range(1, 1024),
    "groups": Range(1, 1 << 14),
    "hidden_size": Range(1, 1 << 14),
    "num_layers": Range(1, 256),
    "vocab_size": Range(0, 1 << 16),
    "max_tokens": Range(0, 1024),
    "text_width": Range(1, 1 << 14),
    "text_layers": Range(0, 64),
    "cross_attention_at": Range(1, 4096),
    # autoencoder
    "latent_channels": Range(1, 64),
    "autoencoder_patch": Range(1, 64),
    "encoder_channels": Range(1, 1 << 14),
    "decoder_channels": Range(1, 1 << 14),
    "encoder_blocks": Range(0, 256),
    "decoder_blocks": Range(0, 256),
    "edge_weight": Range(0, _HUGE),
    "scale_weight": Range(0, _HUGE),
    "kl_weight": Range(0, _HUGE),
    # noise
    "num_timesteps": Range(2, 1 << 20),
    "gamma": Range(0, _HUGE, above=True),
    "cond_dropout": Range(0, 1),
    "shift": Range(0, 1e6, above=True),
    "sigma_mean": Range(-20, 20),
    "sigma_std": Range(0, 20, above=True),
    # optimiser
    "lr": Range(0, _HUGE, above=True),
    "warmup": Range(0, 2**32 - 1),
    "beta1": Range(0, 1, below=True),
    "beta2": Range(0, 1, below=True),
    "weight_decay": Range(0, _HUGE),
    "clip": Range(0, math.inf, above=True),
    "ema": Range(0, 1, below=True),
    # run
    "step": Range(0, 2**32 - 1),
    "steps": Range(1, 2**32 - 1),
    "minutes": Range(0, 1e6, above=True),
    "batch_size": Range(1, 1 << 20),
    "accumulate": Range(1, 1 << 20),
    "seed": Range(0, 2**64 - 1),
    "threads": Range(1, 1024),
    "save_every": Range(1, 2**32 - 1),
    "keep": Range(1, 2**32 - 1),
    "preview_every": Range(1, 2**32 - 1),
    # drawing
    "count": Range(1, 2**32 - 1),
    "eta": Range(0, 1),
    "churn": Range(0, 1e6),
    "guidance_scale": Range(-1e4, 1e4),
    "guidance_interval": Range(0, math.inf),
    "strength": Range(0, 1),
    "resample": Range(1, 1000),
    "vary": Range(0, 1),
    "control_scale": Range(-1e4, 1e4),
    "reference_scale": Range(-1e4, 1e4),
    # evaluation
    "judge_size": Range(1, 4096),
}


def check_limits(settings: Mapping[str, object], say: str = "{}") -> None:
    """Raise MinidiffError for a number outside its range in LIMITS.

    settings: names to values.  Each entry of a tuple is checked.  None, texts and names without a range are ignored.
    say: how the message writes the name of a setting; with "--{}" it is written as an option.
    """
    for name, value in settings.items():
        limit = LIMITS.get(name)
        numbers = value if isinstance(value, tuple | list) else (value,)
        for number in numbers:
            if limit is not None and isinstance(number, int | float) and not limit.holds(number):
                named = say.replace("{}", name.replace("_", "-") if say.startswith("--") else name)
                raise MinidiffError(f"{named} must be {limit}, got {printable(number_text(number), 60)}")


def check_text(value: object, where: str) -> None:
    """Raise MinidiffError for a text or path that cannot be encoded as UTF-8, or that contains NUL.

    where: the name of the value in the message.  Values of other types are ignored.
    """
    if not isinstance(value, str | Path):
        return
    try:
        whole = b"\0" not in str(value).encode()
    except UnicodeEncodeError:
        whole = False
    if not whole:
        raise MinidiffError(f"{where} must be text in valid UTF-8, without NUL, got {printable(value, 60)}")


def number_text(number: float) -> str:
    """Return a number as text; Python cannot convert whole numbers of more than 4,300 digits."""
    try:
        return str(number)
    except ValueError:
        return "a whole number of more than 4,300 digits"
