"""A training on the disk: written so that it is whole or not there, read so that nothing in it is believed.

Idea: one safetensors file holds everything that the next step depends on,

    model/<parameter>, ema/<parameter>, adam_m/<parameter>, adam_v/<parameter>     float32
    metadata "minidiff": JSON of version, step, config, network, classes, words, base, data, digest

so a training that goes on from it computes the same bits as one that never stopped.  What is given away to draw with
holds only ema/<parameter>, in float16: an eighth of the size.  The digest is the SHA-256 of all the rest: a bit that
flipped on the disk is found, not drawn.  Nothing is pickled: reading a checkpoint runs no code.
Leaves out when to write one: training/loop.py.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from minidiff import backend, renamed
from minidiff.checkpoint.build import make_model
from minidiff.checkpoint.config import Adapter, Config
from minidiff.checkpoint.settings import from_dict, to_dict
from minidiff.errors import MAX_PRINTED, MinidiffError, one_line, printable
from minidiff.files import check_regular, parse_json, write_atomically
from minidiff.nn import Module, UNetConfig
from minidiff.nn.flat_parameters import FlatParameters
from minidiff.nn.tokenizer import Tokenizer

KEY = "minidiff"  # of the metadata; a file without it is somebody else's
# 1 knew no captions, 2 no digest of the data; up to 3, settings and parameters had other names (see renamed.py).  It
# goes up when an older minidiff could not read the file, or would read it wrongly.
VERSION = 4
RENAMED = 4
CHECKPOINTS = "checkpoints"  # the folder for them in a run's folder
GROUPS = ("model", "ema", "adam_m", "adam_v")
DRAWING = ("ema",)  # the only group of a file that is for drawing
LONGEST_NAME = 255  # bytes of a class's name: folders have no longer ones

_NAME = re.compile(r"step_(\d+)\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file says, checked.

    step: updates made so far.  classes: the names of the labels, words: those of captions, () for none.
    base: of an adapter, the digest of the model that it is added to; network is that model's.
    data: the digest of the images that it learns from, "" where that is not known.
    tensors: group (model, ema, adam_m, adam_v; or only ema) to parameter's name to float32 array.
    """

    path: Path
    step: int
    config: Config
    network: UNetConfig
    classes: tuple[str, ...]
    words: tuple[str, ...]
    base: str
    data: str
    digest: str
    tensors: dict[str, dict[str, np.ndarray]]

    @property
    def adapter(self) -> Adapter:
        """What it adds to another network, "none" if it is a network itself."""
        return self.config.addition.adapter

    @property
    def identity(self) -> str:
        """What adapters know a network by: the digest of its checkpoint, also where that was reduced for drawing."""
        return self.base if self.base and self.adapter == "none" else self.digest

    @property
    def tokenizer(self) -> Tokenizer | None:
        """What captions of the network are written in."""
        return Tokenizer(self.words, self.network.max_tokens) if self.words else None


@dataclass(frozen=True)
class About:
    """The metadata: everything but the tensors.

    drawing: whether the file only serves drawing.  made: for people, how it came about.
    """

    version: int
    step: int
    config: Config
    network: UNetConfig
    classes: tuple[str, ...]
    words: tuple[str, ...] = ()
    base: str = ""
    data: str = ""
    drawing: bool = False
    made: str = ""
    digest: str = ""


def save(
    path: Path,
    step: int,
    config: Config,
    network: UNetConfig,
    classes: tuple[str, ...],
    parameters: FlatParameters,
    words: tuple[str, ...] = (),
    base: str = "",
    data: str = "",
) -> None:
    """Write a checkpoint; afterwards `path` is the whole new file or, with an OSError, what it was before."""
    flats = zip(GROUPS, map(backend.to_numpy, (parameters.w, parameters.ema, parameters.m, parameters.v)))
    tensors = {f"{group}/{name}": array for group, flat in flats for name, array in parameters.split(flat).items()}
    values = to_dict(About(VERSION, step, config, network, classes, words, base, data))
    values["digest"] = _digest(values, tensors.items())
    # One entry: safetensors writes several in any order, and the same state would not make the same file.
    write_atomically(path, to_safetensors(tensors, {KEY: json.dumps(values)}))


def save_for_drawing(path: Path, checkpoint: Checkpoint, made: str) -> None:
    """Write the averaged weights of a checkpoint alone, in float16, with a line on how they were made.

    Weights lie far from the ends of what float16 can hold; it keeps eleven of their bits.  The file is to be given
    away, so of the places on its maker's disk it keeps the last name alone.
    Raises MinidiffError if one does not, as float16 ends at 65504, or if there is a file of that name.
    """
    c = checkpoint
    with np.errstate(over="ignore"):  # and said below
        halves = {f"ema/{name}": array.astype(np.float16) for name, array in c.tensors["ema"].items()}
    if not all(np.isfinite(array).all() for array in halves.values()):
        raise MinidiffError(f"{c.path} has weights beyond 65504, which float16 cannot hold")
    base = c.base if c.adapter != "none" else c.identity
    last = lambda path: path and Path(path.name)
    config = replace(
        c.config,
        data=replace(c.config.data, data_dir=last(c.config.data.data_dir)),
        addition=replace(c.config.addition, onto=last(c.config.addition.onto)),
    )
    about = About(VERSION, c.step, config, c.network, c.classes, c.words, base, drawing=True, made=made)
    values = to_dict(about)
    values["digest"] = _digest(values, halves.items())
    write_atomically(path, to_safetensors(halves, {KEY: json.dumps(values)}), new=True)


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


def find(path: Path, say: Callable[[str], object] = print) -> Checkpoint:
    """Read a checkpoint file, or the newest good one of a folder: a run's, or that of its checkpoints.

    say: is told of each that is skipped.
    """
    path = Path(path)
    return newest(path, say) if path.is_dir() else load(path)


def newest(folder: Path, say: Callable[[str], object] = print) -> Checkpoint:
    """Read the newest checkpoint of a run's folder; if it is damaged, the one before it, and so on.

    Raises MinidiffError if there is none, or none that is good.
    """
    paths = listed(folder)
    if not paths:
        raise MinidiffError(f"no checkpoint in {folder}: expected {where(folder, 1).parent}/step_….safetensors")
    first_error = None
    for path in reversed(paths):
        try:
            return load(path)
        except MinidiffError as error:
            first_error = first_error or error
            say(printable(f"skipped: {error}", MAX_PRINTED))
    raise MinidiffError(f"none of the {len(paths)} checkpoints in {folder} can be used; the newest: {first_error}")


def where(folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies in a run's folder."""
    return Path(folder) / CHECKPOINTS / f"step_{step:08d}.safetensors"


def step_of(path: Path) -> int:
    """Return the step that a checkpoint's name tells, -1 if it is not such a name."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def listed(folder: Path) -> list[Path]:
    """Return the checkpoints of a run's folder, or of the one in it that holds them, oldest first, unread."""
    inside = where(folder, 0).parent
    paths = inside.glob("*") if inside.is_dir() else Path(folder).glob("*")
    return sorted((path for path in paths if step_of(path) >= 0), key=step_of)


def prune(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints of a run's folder.

    Links, folders, and names that no training writes, such as step_2 without zeros, stay and do not count.
    """
    own = [path for path in listed(folder) if path.name == where(folder, step_of(path)).name]
    files = [path for path in own if path.is_file() and not path.is_symlink()]
    for path in files[:-keep]:
        path.unlink()


def make_network(checkpoint: Checkpoint, weights: str = "ema") -> Any:
    """Return what a checkpoint holds, a U-Net or an adapter, with its averaged weights, which draw best.

    weights: the group, where others are wanted.
    """
    model = make_model(checkpoint.network, checkpoint.adapter)
    _fill(model, checkpoint.tensors[weights])
    return model


def restore(checkpoint: Checkpoint, network: UNetConfig) -> tuple[Any, FlatParameters]:
    """Return the network `network` as the checkpoint left it, with the optimiser's state.

    Raises MinidiffError if the checkpoint is of another network, naming the first tensor or number that tells.
    """
    if "model" not in checkpoint.tensors:
        raise MinidiffError(f"{checkpoint.path} holds weights for drawing only; a training cannot go on from it")
    model = make_model(network, checkpoint.adapter)
    theirs = checkpoint.tensors["model"]
    for name, parameter in model.named_parameters().items():
        shape = theirs[name].shape if name in theirs else None
        if shape != parameter.planned_shape:
            there = f"has none called {name}" if shape is None else f"has {name} {shape}"
            raise MinidiffError(
                f"{checkpoint.path} is of another network: expected {name} {parameter.planned_shape}, it {there}"
            )
    if more := theirs.keys() - model.named_parameters().keys():
        raise MinidiffError(f"{checkpoint.path} is of another network: it has {min(more)}, this one has not")
    for field in fields(network):  # what shapes do not show: heads, groups, heights
        there, here = (getattr(each, field.name) for each in (checkpoint.network, network))
        if there != here:
            raise MinidiffError(
                f"{checkpoint.path} is of another network: its {field.name} is {there}, expected {here}"
            )
    _fill(model, theirs)
    parameters = FlatParameters(model)
    for group, flat in {"ema": parameters.ema, "adam_m": parameters.m, "adam_v": parameters.v}.items():
        for name, view in parameters.split(flat).items():
            view[:] = backend.to_device(checkpoint.tensors[group][name])
    return model, parameters


def _fill(model: Module, tensors: dict[str, np.ndarray]) -> None:
    for name, parameter in model.named_parameters().items():
        parameter.data = backend.to_device(tensors[name]).copy()


def _read(path: Path, file: Any) -> Checkpoint:
    """Check from the outside in: whose file, which version, a network of believable size, its tensors, every bit."""
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
    if values["version"] < RENAMED:
        values = renamed.settings(values) | {"config": renamed.settings(values.get("config"))}
        names = {_renamed(name): name for name in names}
    try:
        about = from_dict(About, values, "metadata")
    except MinidiffError as error:
        raise MinidiffError(f"{path} is damaged: {error}") from error
    network, classes = about.network, about.classes
    if len(classes) != network.classes:
        raise MinidiffError(f"{path} is damaged: {len(classes)} class names for {network.classes} classes")
    if len(about.words) + 1 != (network.vocab_size or 1):
        raise MinidiffError(f"{path} is damaged: {len(about.words)} words for {network.vocab_size} numbers of words")

    check_names(classes + about.words, f"{path} is damaged: ")

    groups, kind = (DRAWING, "F16") if about.drawing else (GROUPS, "F32")
    # Sizes in the metadata may be anything: a network that the file cannot hold must not be built to be compared.
    adapter = about.config.addition.adapter
    blocks = network.num_res_blocks * (
        1 if adapter == "reference" else len(network.channel_mult)
    )  # which has no blocks itself
    if blocks > len(names):
        raise MinidiffError(f"{path} is damaged: its network would have more blocks than the file has tensors")
    expected = {
        f"{group}/{name}": parameter.planned_shape
        for name, parameter in make_model(network, adapter).named_parameters().items()
        for group in groups
    }
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
    if about.digest != _digest(digested, flat):
        raise MinidiffError(f"{path} is damaged: its content does not match its digest")
    if about.drawing:
        tensors = {"ema": {name: array.astype(np.float32) for name, array in tensors["ema"].items()}}
    return Checkpoint(
        path, about.step, about.config, network, classes, about.words, about.base, about.data, about.digest, tensors
    )


def _renamed(tensor: str) -> str:
    """Return today's name of a tensor of an earlier version."""
    group, slash, parameter = tensor.partition("/")
    return f"{group}{slash}{renamed.parameter(parameter)}"


def check_names(names: Iterable[str], where: str) -> None:
    """Raise MinidiffError for a class or a word that is no printable text of at most 255 bytes; where: begins the line.

    Names are printed in lists, tables and titles: what could move a cursor or forge a line stays outside.
    """
    for name in names:
        if not name or printable(name, LONGEST_NAME) != name or len(name.encode()) > LONGEST_NAME:
            raise MinidiffError(
                f"{where}expected printable names of up to {LONGEST_NAME} bytes for classes and words, "
                f"got '{printable(name, 60)}'"
            )


def _digest(values: dict[str, Any], tensors: Iterable[tuple[str, np.ndarray]]) -> str:
    """Return the SHA-256 over the metadata but for itself, and the tensors in the order of their names.

    The metadata as it stands in the file: settings that came to minidiff after the file do not change it.
    """
    sha256 = hashlib.sha256(json.dumps({**values, "digest": ""}, sort_keys=True).encode())
    for name, array in sorted(tensors, key=lambda item: item[0]):
        sha256.update(f"{name}{array.shape}\0".encode())
        sha256.update(array.tobytes())
    return sha256.hexdigest()
