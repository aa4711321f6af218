"""The settings of a `UNet2DModel` of diffusers, read from its config.json.

Idea: the fields of `UNet2DConfig` are the options of diffusers, with the same names and defaults.  An option or value
that is not supported raises an error with its name, since a network that is built almost correctly draws only noise,
without an error.
Leaves out the network (unet2d.py), and options that neither the networks of DDPM nor the training example of diffusers
use: class labels, Fourier or learnt time embeddings, other kinds of up- and downsampling.
Source: the options and their defaults are those of `diffusers.UNet2DModel`, version 0.42.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from minidiff.checkpoint.settings import from_dict
from minidiff.errors import MinidiffError
from minidiff.limits import LIMITS

CLASS = "UNet2DModel"
DOWN = {"DownBlock2D": False, "AttnDownBlock2D": True}  # block type to whether it has self-attention
UP = {"UpBlock2D": False, "AttnUpBlock2D": True}
COUNTS = (
    "sample_size",
    "in_channels",
    "out_channels",
    "time_embedding_dim",
    "block_out_channels",
    "layers_per_block",
    "downsample_padding",
    "attention_head_dim",
    "norm_num_groups",
    "attn_norm_num_groups",
)
MAX_COUNT = 1 << 20  # a larger number in COUNTS means a broken file


@dataclass(frozen=True)
class UNet2DConfig:
    """The options of `UNet2DModel`, with its names and defaults.

    Level i has block_out_channels[i] channels, and half the height and width of level i - 1.  Block types are listed in
    the order of the forward pass, so that the first of up_block_types belongs to the last level.
    attention_head_dim: channels per head, None for a single head.
    norm_num_groups: the groups of all normalisations except the one before the attention in the middle.  That one has
    attn_norm_num_groups; if this is None, it has norm_num_groups with resnet_time_scale_shift "default", and with
    "scale_shift" there is no normalisation before that attention.
    freq_shift, flip_sin_to_cos: as in `sinusoidal` of nn/embedding.py.
    dropout, num_train_timesteps: without effect after training.
    Raises MinidiffError if an option is not supported, or if the options do not make a network.
    """

    sample_size: tuple[int, ...] | None = None
    in_channels: int = 3
    out_channels: int = 3
    center_input_sample: bool = False
    time_embedding_type: Literal["positional"] = "positional"
    time_embedding_dim: int | None = None
    freq_shift: float = 0.0
    flip_sin_to_cos: bool = True
    down_block_types: tuple[str, ...] = ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D")
    mid_block_type: Literal["UNetMidBlock2D"] | None = "UNetMidBlock2D"
    up_block_types: tuple[str, ...] = ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D")
    block_out_channels: tuple[int, ...] = (224, 448, 672, 896)
    layers_per_block: int = 2
    mid_block_scale_factor: float = 1.0
    downsample_padding: int = 1
    downsample_type: Literal["conv"] = "conv"
    upsample_type: Literal["conv"] = "conv"
    dropout: float = 0.0
    act_fn: Literal["silu", "swish"] = "silu"  # two names of one function
    attention_head_dim: int | None = 8
    norm_num_groups: int = 32
    attn_norm_num_groups: int | None = None
    norm_eps: float = 1e-5
    resnet_time_scale_shift: Literal["default", "scale_shift"] = "default"
    add_attention: bool = True
    class_embed_type: str | None = None
    num_class_embeds: int | None = None
    num_train_timesteps: int | None = None

    null_cond: ClassVar[int] = 0  # samplers read it, beside height, width and channels

    def __post_init__(self) -> None:
        for name in ("class_embed_type", "num_class_embeds"):
            if getattr(self, name) is not None:
                raise MinidiffError(
                    f"{name} must be null, as networks with labels are not read, got {self._show(name)}"
                )
        for name in COUNTS:
            value = getattr(self, name)
            numbers = value if isinstance(value, tuple) else () if value is None else (value,)
            least = 0 if name == "downsample_padding" else 1
            most = int(LIMITS["height"].most) if name == "sample_size" else MAX_COUNT
            if not all(least <= number <= most for number in numbers):
                raise MinidiffError(f"{name} must be from {least} to {most}, got {self._show(name)}")
        if self.downsample_padding > 1:
            raise MinidiffError(f"downsample_padding must be 0 or 1, got {self.downsample_padding}")
        if not (math.isfinite(self.norm_eps) and self.norm_eps > 0):
            raise MinidiffError(f"norm_eps must be a number above 0, got {self.norm_eps}")
        if not (math.isfinite(self.mid_block_scale_factor) and self.mid_block_scale_factor):
            raise MinidiffError(
                f"mid_block_scale_factor must be a number other than 0, got {self.mid_block_scale_factor}"
            )
        self._check_levels()
        self._check_features()
        if self.sample_size is not None:
            self._check_size()

    def _check_levels(self) -> None:
        levels = len(self.block_out_channels)
        if not levels:
            raise MinidiffError("block_out_channels is empty")
        for name, known in (("down_block_types", DOWN), ("up_block_types", UP)):
            types = getattr(self, name)
            if len(types) != levels:
                raise MinidiffError(f"{name} must have {levels} entries, as block_out_channels has, got {len(types)}")
            for found in types:
                if found not in known:
                    raise MinidiffError(f"{name} must be of {', '.join(known)}, got {found[:60]!r}")

    def _check_features(self) -> None:
        """Check that groups and heads divide the channels of the layers that have them."""
        first, last = self.block_out_channels[0], self.block_out_channels[-1]
        if first % 2 or not first / 2 > self.freq_shift:  # not <=, because NaN must not pass
            raise MinidiffError(
                f"block_out_channels must begin with an even number above twice freq_shift ({self.freq_shift:g}), "
                f"as it is the width of the sinusoidal time embedding, got {first}"
            )
        for width in self.block_out_channels:
            if width % self.norm_num_groups:
                raise MinidiffError(
                    f"norm_num_groups ({self.norm_num_groups}) must divide block_out_channels, got {width}"
                )
        groups = self.middle_groups
        if self.attends_in_the_middle and groups is not None and last % groups:
            raise MinidiffError(
                f"attn_norm_num_groups ({groups}) must divide the last of block_out_channels, got {last}"
            )
        attending = {width for width, attends in zip(self.block_out_channels, self.attends_down) if attends}
        attending |= {width for width, attends in zip(self.block_out_channels, self.attends_up) if attends}
        for width in sorted(attending | ({last} if self.attends_in_the_middle else set())):
            if width % self.head_width(width):
                raise MinidiffError(f"attention_head_dim ({self.attention_head_dim}) must divide the {width} channels")

    def _check_size(self) -> None:
        if len(self.sample_size or ()) != 2:
            raise MinidiffError(
                f"sample_size must be one number or two, height and width, got {self._show('sample_size')}"
            )
        factor = 1 << (len(self.block_out_channels) - 1)
        if self.height % factor or self.width % factor:
            raise MinidiffError(
                f"sample_size: {len(self.block_out_channels)} levels need a height and a width that {factor} divides, "
                f"got {self.height}×{self.width}"
            )

    def _show(self, name: str) -> str:
        text = repr(getattr(self, name))
        return text if len(text) <= 60 else text[:57] + "..."

    @property
    def height(self) -> int:
        return self._size[0]

    @property
    def width(self) -> int:
        return self._size[1]

    @property
    def channels(self) -> int:
        """The channels of the input."""
        return self.in_channels

    @property
    def _size(self) -> tuple[int, ...]:
        if self.sample_size is None:
            raise MinidiffError(
                "sample_size is null, so how large its images are is not known; write their height and width there, "
                'such as "sample_size": [32, 32]'
            )
        return self.sample_size

    @property
    def attends_down(self) -> list[bool]:
        """For each level, whether its encoder stages have self-attention."""
        return [DOWN[name] for name in self.down_block_types]

    @property
    def attends_up(self) -> list[bool]:
        """For each level, whether its decoder stages have self-attention; the first level comes first here too."""
        return [UP[name] for name in self.up_block_types[::-1]]

    @property
    def attends_in_the_middle(self) -> bool:
        return self.mid_block_type is not None and self.add_attention

    @property
    def middle_groups(self) -> int | None:
        """The groups of the normalisation before the attention in the middle; None without such a normalisation."""
        if self.attn_norm_num_groups is None and self.resnet_time_scale_shift == "default":
            return self.norm_num_groups
        return self.attn_norm_num_groups

    def head_width(self, width: int) -> int:
        """Return the channels per head of an attention with `width` channels."""
        return width if self.attention_head_dim is None else self.attention_head_dim


def from_json(values: Any, where: str, size: tuple[int, int] | None = None) -> UNet2DConfig:
    """Return the settings in a config.json.

    values: the parsed JSON; names that begin with "_" are not options.  where: the name of the file, for messages.
    size: height and width, instead of its sample_size.
    Raises MinidiffError for another class of network, an unknown option or an unsupported value.
    """
    if not isinstance(values, dict):
        raise MinidiffError(f"{where} must be a table of options")
    kind = values.get("_class_name", CLASS)
    if kind != CLASS:
        raise MinidiffError(f"{where} is of a {str(kind)[:60]!r}; of diffusers' networks minidiff reads {CLASS}")
    options = {name: value for name, value in values.items() if not name.startswith("_")}
    for name in ("down_block_types", "up_block_types"):
        if isinstance(options.get(name), list):  # early files write UNetResDownBlock2D for DownBlock2D
            options[name] = [str(entry).removeprefix("UNetRes") for entry in options[name]]
    if type(options.get("sample_size")) is int:
        options["sample_size"] = [options["sample_size"]] * 2
    try:
        config = from_dict(UNet2DConfig, options, "options")
        if size is not None:
            config = replace(config, sample_size=size)
        config._size  # noqa: B018  # raises if the size is not known
    except MinidiffError as error:
        raise MinidiffError(f"{where}: {str(error).removeprefix('options: ')}") from error
    return config
