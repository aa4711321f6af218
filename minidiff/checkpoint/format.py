"""What a checkpoint file holds.

Idea: one safetensors file holds everything that the next step depends on,

    model/<parameter>, ema/<parameter>, adam_m/<parameter>, adam_v/<parameter>     float32
    autoencoder/<parameter>                                                        float32, of a latent model
    metadata "minidiff": JSON of version, step, config, network (a U-Net) or dit (a transformer), classes, words, base,
    data, drawing, made, digest, and of a latent model autoencoder and latents

so a training that goes on from it computes the same bits as one that never stopped.  `Checkpoint` and `Metadata` below
explain the fields.  A file for sampling only (`drawing`) holds only ema/<parameter> and autoencoder/<parameter>, in
float16: an eighth of the size.
The digest is the SHA-256 of everything else: a bit that flipped on the disk is found, not drawn.  Nothing is pickled:
reading a checkpoint runs no code.
Leaves out writing and reading: write.py, read.py.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minidiff.checkpoint.config import Adapter, Config
from minidiff.errors import MinidiffError, printable
from minidiff.latent.space import LatentStatistics
from minidiff.nn import DenoiserConfig, DiTConfig, UNetConfig
from minidiff.nn.autoencoder import AutoencoderConfig
from minidiff.nn.tokenizer import Tokenizer

KEY = "minidiff"  # of the metadata; a file without this key is not minidiff's
# Version 1 had no captions, 2 no digest of the data; up to 3, settings and parameters had other names, and some files
# of version 4 have a setting `batch` (renamed.py); up to 4, `size` was one number, and there were no autoencoders
# and no transformers.
# read.py reads all of them: it translates the names, and a field that a version lacks takes its default.
# The version goes up when an older release of minidiff could not read the file, or would read it wrongly.
VERSION = 5
RENAMED = 4  # the first version whose parameters have today's names
GROUPS = ("model", "ema", "adam_m", "adam_v")
SAMPLING_GROUPS = ("ema",)  # of a file that serves sampling only
AUTOENCODER = "autoencoder"  # the group of the weights of a latent model's autoencoder
LONGEST_NAME = 255  # bytes of a class's name: folders have no longer ones


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file, checked.

    step: updates made so far.  classes: the names of the labels, words: the vocabulary of the captions, () for none.
    trained: the configuration of the denoiser, or of the autoencoder, that was trained.
    base: of an adapter, the digest of the model below it, whose configuration is `trained`; of a whole network in a
    file for sampling, the digest of the checkpoint that the file was made from; else "".
    data: the digest of the training images, "" if that is not known.
    tensors: group (model, ema, adam_m, adam_v; or only ema; autoencoder) to parameter's name to float32 array.
    model: the denoiser, the adapter or the autoencoder that the tensors are for, without weights; see `make_network`.
    autoencoder: of a latent model and its adapters, the configuration of the autoencoder; else None.
    latents: of a latent model, what is known of its latents; else None.
    """

    path: Path
    step: int
    config: Config
    trained: DenoiserConfig | AutoencoderConfig
    classes: tuple[str, ...]
    words: tuple[str, ...]
    base: str
    data: str
    digest: str
    tensors: dict[str, dict[str, np.ndarray]]
    model: Any
    autoencoder: AutoencoderConfig | None = None
    latents: LatentStatistics | None = None

    @property
    def network(self) -> DenoiserConfig:
        """The configuration of the denoiser.  Raises MinidiffError if the checkpoint is of an autoencoder."""
        if isinstance(self.trained, AutoencoderConfig):
            raise MinidiffError(
                f"{self.path} is an autoencoder, which draws nothing by itself; train a model that works in its "
                "latents: python -m minidiff.train --autoencoder"
            )
        return self.trained

    @property
    def adapter(self) -> Adapter:
        """The kind of the adapter, "none" for a whole network."""
        return self.config.addition.adapter

    @property
    def identity(self) -> str:
        """The digest by which an adapter recognises its network; a file for sampling has that of its checkpoint."""
        return self.base if self.base and self.adapter == "none" else self.digest

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer of the captions, None for a network without captions.  Raises MinidiffError as `network`."""
        length = self.network.max_tokens
        return Tokenizer(self.words, length) if self.words else None


@dataclass(frozen=True)
class Metadata:
    """Everything in a checkpoint file but the tensors, under the names that the file uses.

    network, dit: the configuration of a U-Net, or that of a transformer; both are None in the file of an autoencoder.
    drawing: whether the file serves sampling only.  made: for people, how the weights were made.
    """

    version: int
    step: int
    config: Config
    classes: tuple[str, ...]
    network: UNetConfig | None = None
    words: tuple[str, ...] = ()
    base: str = ""
    data: str = ""
    autoencoder: AutoencoderConfig | None = None
    latents: LatentStatistics | None = None
    dit: DiTConfig | None = None
    drawing: bool = False
    made: str = ""
    digest: str = ""

    @property
    def denoiser(self) -> DenoiserConfig | None:
        """The configuration of the denoiser, None in the file of an autoencoder."""
        return self.network or self.dit


def check_names(names: Iterable[str], where: str) -> None:
    """Raise MinidiffError for a class or a word that is no printable text of at most 255 bytes.

    Names are printed in lists, tables and titles: what could move a cursor or forge a line is refused.
    where: the beginning of the message.
    """
    for name in names:
        if not name or printable(name, LONGEST_NAME) != name or len(name.encode()) > LONGEST_NAME:
            raise MinidiffError(
                f"{where}expected printable names of up to {LONGEST_NAME} bytes for classes and words, "
                f"got '{printable(name, 60)}'"
            )


def content_digest(values: dict[str, Any], tensors: Iterable[tuple[str, np.ndarray]]) -> str:
    """Return the SHA-256 of the metadata, without its digest, and of the tensors in the order of their names.

    values: the metadata as it stands in the file, so that settings which are newer than the file do not change it.
    """
    sha256 = hashlib.sha256(json.dumps({**values, "digest": ""}, sort_keys=True).encode())
    for name, array in sorted(tensors, key=lambda item: item[0]):
        sha256.update(f"{name}{array.shape}\0".encode())
        sha256.update(array.tobytes())
    return sha256.hexdigest()
