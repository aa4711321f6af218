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
from minidiff.nn import Module, UNetConfig
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
    """Return the U-Net or the adapter of a checkpoint, by default with its averaged weights, which draw best.

    weights: the group of weights.  A checkpoint has only one network object: each call overwrites its weights.
    """
    _fill(checkpoint.model, checkpoint.tensors[weights])
    return checkpoint.model


def restore(checkpoint: Checkpoint, network: UNetConfig) -> tuple[Any, FlatParameters]:
    """Return the network of a checkpoint as training left it, with the state of the optimizer.

    network: the shape that it must have.
    Raises MinidiffError if the checkpoint is of another network, naming the first tensor or setting that differs.
    """
    if "model" not in checkpoint.tensors:
        raise MinidiffError(f"{checkpoint.path} holds weights for sampling only; a training cannot go on from it")
    if network != checkpoint.network:
        _refuse(checkpoint, network)
    _fill(checkpoint.model, checkpoint.tensors["model"])
    parameters = FlatParameters(checkpoint.model)
    for group, flat in {"ema": parameters.ema, "adam_m": parameters.m, "adam_v": parameters.v}.items():
        for name, view in parameters.split(flat).items():
            view[:] = backend.to_device(checkpoint.tensors[group][name])
    return checkpoint.model, parameters


def _refuse(checkpoint: Checkpoint, network: UNetConfig) -> NoReturn:
    """Raise MinidiffError for the first tensor or, where all shapes agree, the first setting that differs."""
    expected = make_model(network, checkpoint.adapter).named_parameters()
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
    name = next(name for name in names if getattr(checkpoint.network, name) != getattr(network, name))
    there, here = getattr(checkpoint.network, name), getattr(network, name)
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
    network, classes = metadata.network, metadata.classes
    if len(classes) != network.classes:
        raise MinidiffError(f"{path} is damaged: {len(classes)} class names for {network.classes} classes")
    if len(metadata.words) + 1 != (network.vocab_size or 1):
        raise MinidiffError(f"{path} is damaged: {len(metadata.words)} words for {network.vocab_size} numbers of words")

    check_names(classes + metadata.words, f"{path} is damaged: ")

    groups, kind = (SAMPLING_GROUPS, "F16") if metadata.drawing else (GROUPS, "F32")
    # Sizes in the metadata may be anything: a network that the file cannot hold must not be built to be compared.
    adapter = metadata.config.addition.adapter
    levels = 1 if adapter == "reference" else len(network.channel_mult)  # a reference's adapter has no blocks itself
    if network.num_res_blocks * levels > len(names):
        raise MinidiffError(f"{path} is damaged: its network would have more blocks than the file has tensors")
    model = make_model(network, adapter)
    parameters = model.named_parameters().items()
    expected = {f"{group}/{name}": parameter.planned_shape for name, parameter in parameters for group in groups}
    if missing := sorted(expected.keys() - names.keys()):
        raise MinidiffError(f"{path} is damaged: {len(missing)} tensors are missing, the first is {missing[0]}")
    tensors: dict[str, dict[str, np.ndarray]] = {group: {} for group in groups}
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
        tensors = {"ema": {name: array.astype(np.float32) for name, array in tensors["ema"].items()}}
    return Checkpoint(
        path,
        metadata.step,
        metadata.config,
        network,
        classes,
        metadata.words,
        metadata.base,
        metadata.data,
        metadata.digest,
        tensors,
        model,
    )


def _renamed(tensor: str) -> str:
    """Return today's name of a tensor of an earlier version."""
    group, slash, parameter = tensor.partition("/")
    return f"{group}{slash}{renamed.parameter(parameter)}"
