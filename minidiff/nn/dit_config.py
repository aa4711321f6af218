"""The settings of a diffusion transformer, and the check that they fit together.

Leaves out how the settings of a training (`--size`, `--data`, …) become these: checkpoint/build.py.
"""

from dataclasses import dataclass

from minidiff.errors import MinidiffError
from minidiff.limits import check_limits
from minidiff.nn.tokenizer import PADDING
from minidiff.nn.unet_config import UNetConfig, check_conditioning


@dataclass(frozen=True)
class DiTConfig:
    """The settings of a diffusion transformer.

    height, width, channels: size of the images.
    patch: side of the square patches; each patch is a token of the transformer.
    hidden_size: length of the vector that stands for a patch.
    num_layers: number of transformer blocks.  heads: of every attention.
    classes, vocab_size, max_tokens, text_width, text_layers: as in `UNetConfig`.

    The defaults here are those of a bare network; a training's are in checkpoint/config.py, where the patch depends on
    the size of the images.
    Raises MinidiffError if a setting is out of its range, or if the settings do not make a network.
    """

    height: int = 32
    width: int = 32
    channels: int = 3
    patch: int = 4
    hidden_size: int = 160
    num_layers: int = 6
    heads: int = 4
    classes: int = 0
    vocab_size: int = 0
    max_tokens: int = 0
    text_width: int = 128
    text_layers: int = 0

    @property
    def tokens(self) -> int:
        """The number of patches of an image."""
        return (self.height // self.patch) * (self.width // self.patch)

    @property
    def null_cond(self) -> int:
        """The value in `labels` that stands for "no condition": one past the last class, or in captions the padding."""
        return PADDING if self.vocab_size else self.classes

    def __post_init__(self) -> None:
        check_limits(vars(self), "transformer: {}")
        check_conditioning(self, "transformer")
        if self.hidden_size % 8 or self.hidden_size < 16:  # a half and a quarter of it hold sines and cosines
            raise MinidiffError(
                f"transformer: hidden_size must be a number that 8 divides, 16 or more, got {self.hidden_size}"
            )
        if self.hidden_size % self.heads:
            raise MinidiffError(f"transformer: {self.heads} heads do not divide a hidden_size of {self.hidden_size}")
        if self.height % self.patch or self.width % self.patch:
            raise MinidiffError(
                f"transformer: patches of {self.patch}×{self.patch} need a height and a width that {self.patch} "
                f"divides ({self.patch}, {2 * self.patch}, {3 * self.patch}, …), got {self.height}×{self.width}"
            )


DenoiserConfig = UNetConfig | DiTConfig
