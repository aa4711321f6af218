"""The settings of a U-Net, and the check that they fit together.

Idea: everything that decides the network's shape is one frozen object.  The object checks itself once, when it is
created, so that unet.py can build the network without a single check.  A checkpoint stores these settings together with
the weights.
Leaves out how the settings of a training (`--size`, `--data`, …) become these: checkpoint/build.py.
"""

from dataclasses import dataclass
from typing import Any, Literal

from minidiff.errors import MinidiffError
from minidiff.limits import check_limits
from minidiff.nn.tokenizer import PADDING

MAX_LEVELS = 13  # 4,096 pixels, halved 12 times, are one


@dataclass(frozen=True)
class UNetConfig:
    """The settings of a U-Net; the network has len(channel_mult) levels, each half as high and wide as the one before.

    height, width, channels: size of the images.
    patch: side of the square patches whose pixels become the channels of level 0; 1 for no patches.
    model_channels, channel_mult: level i has model_channels * channel_mult[i] channels.
    num_res_blocks: residual blocks per level of the encoder; the decoder has one more per level.
    attention_at: heights of the levels that have self-attention.  heads: of every attention.
    groups: of every group normalisation.
    time: how the time embedding enters a residual block, as scale and shift or by addition.
    classes: number of classes, 0 for a network without class labels.

    For networks that read captions, chapter 10:
    vocab_size: number of tokens, 0 for a network without captions.  max_tokens: length of a caption in tokens.
    text_width, text_layers: vector length and number of transformer blocks of the text encoder.
    cross_attention_at: heights of the levels that attend to the tokens.

    The defaults here are those of a bare network; a training's are in checkpoint/config.py, where attention_at is the
    smallest level and cross_attention_at the two smallest ones.
    Raises MinidiffError if a setting is out of its range, or if the settings do not make a network.
    """

    height: int = 32
    width: int = 32
    channels: int = 3
    patch: int = 1
    model_channels: int = 32
    channel_mult: tuple[int, ...] = (1, 2, 4)
    num_res_blocks: int = 1
    attention_at: tuple[int, ...] = (8,)
    heads: int = 4
    groups: int = 8
    time: Literal["scale_shift", "add"] = "scale_shift"
    classes: int = 0
    vocab_size: int = 0
    max_tokens: int = 0
    text_width: int = 128
    text_layers: int = 0
    cross_attention_at: tuple[int, ...] = ()

    @property
    def level_channels(self) -> list[int]:
        """The number of channels of each level."""
        return [self.model_channels * multiplier for multiplier in self.channel_mult]

    @property
    def level_heights(self) -> list[int]:
        """The height of each level, in patches."""
        return [self.height // self.patch >> level for level in range(len(self.channel_mult))]

    @property
    def size_divisor(self) -> int:
        """The number that must divide height and width: `patch`, times 2 for every level but the last."""
        return self.patch << (len(self.channel_mult) - 1)

    @property
    def null_cond(self) -> int:
        """The value in `labels` that stands for "no condition": one past the last class, or in captions the padding."""
        return PADDING if self.vocab_size else self.classes

    def __post_init__(self) -> None:
        of_levels = ("attention_at", "cross_attention_at")  # compared with the levels of this network, below
        check_limits({name: value for name, value in vars(self).items() if name not in of_levels}, "U-Net: {}")
        check_conditioning(self, "U-Net")
        if self.model_channels < 4 or self.model_channels % 2:
            raise MinidiffError(f"U-Net: model_channels must be even and at least 4, got {self.model_channels}")
        if not 1 <= len(self.channel_mult) <= MAX_LEVELS:
            raise MinidiffError(f"U-Net: channel_mult needs 1 to {MAX_LEVELS} entries, got {len(self.channel_mult)}")
        if self.time not in ("scale_shift", "add"):
            raise MinidiffError(f"U-Net: time must be scale_shift or add, got {self.time!r}")
        divisor = self.size_divisor
        if self.height % divisor or self.width % divisor:
            patches = f" of {self.patch}×{self.patch} patches" if self.patch > 1 else ""
            raise MinidiffError(
                f"U-Net: {len(self.channel_mult)} levels{patches} need a height and a width that {divisor} divides "
                f"({divisor}, {2 * divisor}, {3 * divisor}, …), got {self.height}×{self.width}"
            )
        heights = self.level_heights
        for name in of_levels:
            for height in getattr(self, name):
                if height not in heights:
                    raise MinidiffError(f"U-Net: {name}: no level has height {height}; the heights are {heights}")
        for height, channels in zip(heights, self.level_channels):
            if height in self.attention_at + self.cross_attention_at and channels % self.heads:
                raise MinidiffError(f"U-Net: {self.heads} heads do not divide the {channels} channels")


def check_conditioning(config: Any, name: str) -> None:
    """Raise MinidiffError unless a denoiser has classes, or captions of a word or more, or neither.

    name: what the message calls the denoiser.
    """
    if config.vocab_size and not config.max_tokens:
        raise MinidiffError(f"{name}: captions must be 1 word long or more, got max_tokens 0")
    if config.vocab_size and config.classes:
        raise MinidiffError(f"{name}: vocab_size or classes must be 0, got {config.vocab_size} and {config.classes}")
    if config.vocab_size and config.text_width % config.heads:
        raise MinidiffError(f"{name}: {config.heads} heads do not divide the {config.text_width} channels of the text")
