"""Reading checkpoints: nothing in a file is believed before it is checked.

Idea: the checks go from the outside in: whether the file is minidiff's, its version, whether its network has a
plausible size, its tensors, and the digest of every bit.  Then the weights go into a network: for sampling
(`make_network`), or with the state of the optimizer for resuming a training (`restore`).
Leaves out what a file holds: format.py.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from safetensors import SafetensorError, safe_open

from minidiff import backend, renamed
from minidiff.checkpoint.build import make_model
from minidiff.checkpoint.format import (
    AUTOENCODER,
    GROUPS,
    KEY,
    RENAMED,
    SAMPLING_GROUPS,
    VERSION,
    Checkpoint,
    Metadata,
    check_names,
    content_digest,
)
from minidiff.checkpoint.settings import from_dict
from minidiff.errors import MinidiffError, one_line, printable
from minidiff.files import check_regular, parse_json
from minidiff.latent.space import PIXELS, Latents, Space
from minidiff.nn import DenoiserConfig, DiTConfig, Module
from minidiff.nn.autoencoder import Autoencoder, AutoencoderConfig
from minidiff.nn.flat_parameters import FlatParameters


def load(path: Path) -> Checkpoint:
    """Read a checkpoint file.

    Raises MinidiffError in one line if it cannot be read, is cut off or damaged, is not minidiff's, is of another
    format version, or holds other tensors than its network has.
    """
    path = Path(path)
    try:
        check_regular(path)  # what keeps it from being read is said better here than by safetensors
        with safe_open(path, framework="numpy") as file:
            return _read(path, file)
    except OSError as error:
        raise MinidiffError(f"cannot read checkpoint: {one_line(error)}") from error
    except SafetensorError as error:
        raise MinidiffError(f"{path} is damaged or not a checkpoint: {error}") from error


def make_network(checkpoint: Checkpoint, weights: str = "ema") -> Any:
    """Return the denoiser or the adapter of a checkpoint, by default with its averaged weights, which draw best.

    weights: the group of weights.  A checkpoint has only one network object: each call overwrites its weights.
    """
    _fill(checkpoint.model, checkpoint.tensors[weights])
    return checkpoint.model


def make_space(checkpoint: Checkpoint) -> Space:
    """Return what the denoiser of a checkpoint denoises: latents, with their autoencoder, or pixels."""
    if checkpoint.autoencoder is None or checkpoint.latents is None:
        return PIXELS
    autoencoder = Autoencoder(checkpoint.autoencoder)
    _fill(autoencoder, checkpoint.tensors[AUTOENCODER])
    return Latents(autoencoder, checkpoint.latents)


def restore(checkpoint: Checkpoint, network: DenoiserConfig | AutoencoderConfig) -> tuple[Any, FlatParameters]:
    """Return the network of a checkpoint as training left it, with the state of the optimizer.

    network: the shape that it must have.
    Raises MinidiffError if the checkpoint is of another network, naming the first tensor or setting that differs.
    """
    if "model" not in checkpoint.tensors:
        raise MinidiffError(f"{checkpoint.path} holds weights for sampling only; a training cannot go on from it")
    if network != checkpoint.trained:
        _refuse(checkpoint, network)
    _fill(checkpoint.model, checkpoint.tensors["model"])
    parameters = FlatParameters(checkpoint.model)
    for group, flat in {"ema": parameters.ema, "adam_m": parameters.m, "adam_v": parameters.v}.items():
        for name, view in parameters.split(flat).items():
            view[:] = backend.to_device(checkpoint.tensors[group][name])
    return checkpoint.model, parameters


def _refuse(checkpoint: Checkpoint, network: DenoiserConfig | AutoencoderConfig) -> NoReturn:
    """Raise MinidiffError for the first tensor or, where all shapes agree, the first setting that differs."""
    expected = make_model(network, checkpoint.adapter, checkpoint.autoencoder).named_parameters()
    found = checkpoint.tensors["model"]
    for name, parameter in expected.items():
        shape = found[name].shape if name in found else None
        if shape != parameter.planned_shape:
            there = f"has none called {name}" if shape is None else f"has {name} {shape}"
            raise MinidiffError(
                f"{checkpoint.path} is of another network: expected {name} {parameter.planned_shape}, it {there}"
            )
    if more := found.keys() - expected.keys():
        raise MinidiffError(f"{checkpoint.path} is of another network: it has {min(more)}, this one has not")
    names = (field.name for field in fields(network))  # what shapes do not show: heads, groups, heights
    name = next(name for name in names if getattr(checkpoint.trained, name) != getattr(network, name))
    there, here = getattr(checkpoint.trained, name), getattr(network, name)
    raise MinidiffError(f"{checkpoint.path} is of another network: its {name} is {there}, expected {here}")


def _fill(model: Module, tensors: Mapping[str, np.ndarray]) -> None:
    for name, parameter in model.named_parameters().items():
        parameter.data = backend.to_device(tensors[name]).copy()


def _read(path: Path, file: Any) -> Checkpoint:
    """Read and check an open safetensors file."""
    text = (file.metadata() or {}).get(KEY)
    if text is None:
        raise MinidiffError(f"{path} is a safetensors file, but not a checkpoint of minidiff's")
    values = parse_json(text, f"{path} is damaged: its metadata")
    version = values.get("version") if isinstance(values, dict) else None
    if version not in range(1, VERSION + 1):  # before the rest is read, which another version may spell otherwise
        shown = printable(version, 60) if type(version) is int else "none"
        raise MinidiffError(f"{path} has format version {shown}; this minidiff reads versions 1 to {VERSION}")
    names = dict(zip(file.keys(), file.keys()))  # today's name of each tensor to that in the file
    digested = values
    values = renamed.settings(values)
    if "config" in values:
        values["config"] = renamed.settings(values["config"])
    if values["version"] < RENAMED:
        names = {_renamed(name): name for name in names}
    try:
        metadata = from_dict(Metadata, values, "metadata")
    except MinidiffError as error:
        raise MinidiffError(f"{path} is damaged: {error}") from error
    classes, adapter = metadata.classes, metadata.config.addition.adapter
    trained = _trained(path, metadata)
    latent = _has_latents(path, metadata)
    check_names(classes + metadata.words, f"{path} is damaged: ")

    groups, kind = (SAMPLING_GROUPS, "F16") if metadata.drawing else (GROUPS, "F32")
    # Sizes in the metadata may be anything: a network that the file cannot hold must not be built to be compared.
    if _blocks(metadata, adapter, latent) > len(names):
        raise MinidiffError(f"{path} is damaged: its network would have more blocks than the file has tensors")
    model = make_model(trained, adapter, metadata.autoencoder)
    parameters = model.named_parameters().items()
    expected = {f"{group}/{name}": parameter.planned_shape for name, parameter in parameters for group in groups}
    if latent and metadata.autoencoder is not None:
        inside = Autoencoder(metadata.autoencoder).named_parameters().items()
        expected |= {f"{AUTOENCODER}/{name}": parameter.planned_shape for name, parameter in inside}
    if missing := sorted(expected.keys() - names.keys()):
        raise MinidiffError(f"{path} is damaged: {len(missing)} tensors are missing, the first is {missing[0]}")
    tensors: dict[str, dict[str, np.ndarray]] = {group: {} for group in (*groups, *[AUTOENCODER] * latent)}
    for full_name, shape in expected.items():
        found = file.get_slice(names[full_name])
        if (found.get_dtype(), tuple(found.get_shape())) != (kind, shape):
            got = f"{found.get_dtype()} {tuple(found.get_shape())}"
            raise MinidiffError(f"{path} is damaged: expected {full_name} as {kind} {shape}, got {got}")
        group, _, name = full_name.partition("/")
        tensors[group][name] = file.get_tensor(names[full_name])
        if not np.isfinite(tensors[group][name]).all():
            raise MinidiffError(f"{path} is damaged: {full_name} has numbers that are not finite")
    flat = [(names[f"{group}/{name}"], array) for group, arrays in tensors.items() for name, array in arrays.items()]
    if metadata.digest != content_digest(digested, flat):
        raise MinidiffError(f"{path} is damaged: its content does not match its digest")
    if metadata.drawing:
        tensors = {
            group: {name: array.astype(np.float32) for name, array in arrays.items()}
            for group, arrays in tensors.items()
        }
    return Checkpoint(
        path,
        metadata.step,
        metadata.config,
        trained,
        classes,
        metadata.words,
        metadata.base,
        metadata.data,
        metadata.digest,
        tensors,
        model,
        None if metadata.denoiser is None else metadata.autoencoder,
        metadata.latents,
    )


def _trained(path: Path, metadata: Metadata) -> DenoiserConfig | AutoencoderConfig:
    """Return the configuration of what was trained.  Raises MinidiffError unless there is one, with fitting labels."""
    if metadata.network is not None and metadata.dit is not None:
        raise MinidiffError(f"{path} is damaged: it describes a U-Net and a transformer")
    if metadata.denoiser is not None:
        _check_labels(path, metadata, metadata.denoiser)
        return metadata.denoiser
    if metadata.autoencoder is None:
        raise MinidiffError(f"{path} is damaged: it describes neither a denoiser nor an autoencoder")
    return metadata.autoencoder


def _check_labels(path: Path, metadata: Metadata, network: DenoiserConfig) -> None:
    """Raise MinidiffError unless there are as many names of classes and words as the network has."""
    classes, words = len(metadata.classes), len(metadata.words)
    if classes != network.classes:
        raise MinidiffError(f"{path} is damaged: {classes} class names for {network.classes} classes")
    if words + 1 != (network.vocab_size or 1):
        raise MinidiffError(f"{path} is damaged: {words} words for {network.vocab_size} numbers of words")


def _has_latents(path: Path, metadata: Metadata) -> bool:
    """Return whether the file has an autoencoder beside a denoiser.  Raises MinidiffError if the two do not fit."""
    network, autoencoder, latents = metadata.denoiser, metadata.autoencoder, metadata.latents
    if network is None or autoencoder is None:
        if latents is not None:
            raise MinidiffError(f"{path} is damaged: it describes latents without a denoiser and an autoencoder")
        return False
    shape = network.height, network.width, network.channels
    if shape != autoencoder.latent_shape:
        raise MinidiffError(f"{path} is damaged: a denoiser for {shape}, and latents of {autoencoder.latent_shape}")
    if (latents is None) != (metadata.config.addition.adapter != "none"):
        raise MinidiffError(
            f"{path} is damaged: the mean and the variance of latents belong to a model, and to no adapter"
        )
    if latents is None:
        return False
    found = [len(values) for values in (latents.mean, latents.std, latents.colour)]
    c = autoencoder.latent_channels
    if (
        found != [c, c, (c + 1) * autoencoder.channels]
        or not np.isfinite(latents.mean + latents.colour).all()
        or not all(0 < std < np.inf for std in latents.std)
    ):
        raise MinidiffError(f"{path} is damaged: the mean and the variance of its latents make no sense")
    return True


def _blocks(metadata: Metadata, adapter: str, latent: bool) -> int:
    """Return a number of blocks that the networks in a file would have at least."""
    network, autoencoder, blocks = metadata.denoiser, metadata.autoencoder, 0
    if isinstance(network, DiTConfig):
        blocks = network.num_layers
    elif network is not None:
        levels = 1 if adapter == "reference" else len(network.channel_mult)  # its adapter has no blocks itself
        blocks = network.num_res_blocks * levels
    if autoencoder is not None and (network is None or latent):
        blocks += sum(autoencoder.encoder_blocks) + sum(autoencoder.decoder_blocks)
    return blocks


def _renamed(tensor: str) -> str:
    """Return today's name of a tensor of an earlier version."""
    group, slash, parameter = tensor.partition("/")
    return f"{group}{slash}{renamed.parameter(parameter)}"
