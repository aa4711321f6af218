"""Writing checkpoints: a file is either complete or not there.

`save` writes all that training needs to go on, `save_for_sampling` only the averaged weights, as float16.
Leaves out what a file holds (format.py), how a file is written atomically (minidiff/files.py), and when a training
writes one (training/loop.py).
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as to_safetensors

from minidiff import backend
from minidiff.checkpoint.config import Config
from minidiff.checkpoint.format import AUTOENCODER, GROUPS, KEY, VERSION, Checkpoint, Metadata, content_digest
from minidiff.checkpoint.settings import to_dict
from minidiff.errors import MinidiffError
from minidiff.files import write_atomically
from minidiff.latent.space import PIXELS, Latents, Space
from minidiff.nn import DenoiserConfig, DiTConfig
from minidiff.nn.autoencoder import AutoencoderConfig
from minidiff.nn.flat_parameters import FlatParameters


def save(
    path: Path,
    step: int,
    config: Config,
    trained: DenoiserConfig | AutoencoderConfig,
    classes: tuple[str, ...],
    parameters: FlatParameters,
    words: tuple[str, ...] = (),
    base: str = "",
    data: str = "",
    space: Space = PIXELS,
) -> None:
    """Write a checkpoint.

    space: what the denoiser denoises.  See `Checkpoint` for the other parameters.
    Raises OSError if the file cannot be written; `path` is then what it was before.
    """
    flats = zip(GROUPS, map(backend.to_numpy, (parameters.w, parameters.ema, parameters.m, parameters.v)))
    tensors = {f"{group}/{name}": array for group, flat in flats for name, array in parameters.split(flat).items()}
    statistics = None
    if isinstance(space, Latents) and not base:  # the file of an adapter leaves this to the model below it
        statistics = space.statistics
        for name, parameter in space.autoencoder.named_parameters().items():
            tensors[f"{AUTOENCODER}/{name}"] = backend.to_numpy(parameter.data)
    configs = _configs(trained, space.autoencoder_config)
    about = Metadata(VERSION, step, config, classes, words=words, base=base, data=data, latents=statistics, **configs)
    values = to_dict(about)
    values["digest"] = content_digest(values, tensors.items())
    # One entry: safetensors writes several in any order, and the same state would not make the same file.
    write_atomically(path, to_safetensors(tensors, {KEY: json.dumps(values)}))


def save_for_sampling(path: Path, checkpoint: Checkpoint, made: str) -> None:
    """Write only the averaged weights of a checkpoint, and those of its autoencoder, in float16.

    made: a line on how they were made.

    float16 keeps eleven bits of a weight.  The file is to be given away, so of the paths on this machine it keeps only
    the last name.
    Raises MinidiffError if a weight is beyond 65504, the largest float16, or if there is a file of that name.
    """
    c = checkpoint
    with np.errstate(over="ignore"):  # an overflow raises below
        halves = {
            f"{group}/{name}": array.astype(np.float16)
            for group in ("ema", AUTOENCODER)
            for name, array in c.tensors.get(group, {}).items()
        }
    if not all(np.isfinite(array).all() for array in halves.values()):
        raise MinidiffError(f"{c.path} has weights beyond 65504, which float16 cannot hold")
    base = c.base if c.adapter != "none" else c.identity
    last = lambda path: path and Path(path.name)
    config = replace(
        c.config,
        data=replace(c.config.data, data_dir=last(c.config.data.data_dir)),
        addition=replace(c.config.addition, onto=last(c.config.addition.onto)),
        autoencoder=replace(c.config.autoencoder, autoencoder=last(c.config.autoencoder.autoencoder)),
    )
    about = Metadata(
        VERSION, c.step, config, c.classes, words=c.words, base=base, latents=c.latents, drawing=True, made=made,
        **_configs(c.trained, c.autoencoder),
    )  # fmt: skip
    values = to_dict(about)
    values["digest"] = content_digest(values, halves.items())
    write_atomically(path, to_safetensors(halves, {KEY: json.dumps(values)}), new=True)


def _configs(trained: DenoiserConfig | AutoencoderConfig, autoencoder: AutoencoderConfig | None) -> dict[str, Any]:
    """Return the configurations of the networks that a file describes, as fields of `Metadata`."""
    if isinstance(trained, AutoencoderConfig):
        return {"autoencoder": trained}
    return {"dit" if isinstance(trained, DiTConfig) else "network": trained, "autoencoder": autoencoder}
