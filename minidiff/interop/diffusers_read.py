"""Reading a U-Net that the diffusers library has saved, from files that may be wrong or malicious.

Idea: a folder has config.json with the settings of the network, and diffusion_pytorch_model.safetensors with its
weights.  The network is built from the settings, and the second file must then contain exactly its tensors.  Shapes are
compared before memory is allocated.  Nothing is unpickled, so that no file can run code.

    model = load_diffusers("google/ddpm-cifar10-32")            a folder on this machine; nothing is downloaded

Files of 16-bit weights have fp16 or bf16 in their names.  Large weights are split into several files, which
diffusion_pytorch_model.safetensors.index.json lists.
Leaves out the other networks of diffusers.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize, safe_open

from minidiff import backend
from minidiff.errors import MinidiffError, one_line, printable
from minidiff.files import open_regular, read_bytes, read_json
from minidiff.interop.tensor_names import correspondence, modern, their_shape, to_ours
from minidiff.interop.unet2d import UNet2D
from minidiff.interop.unet2d_config import from_json

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
VARIANTS = ("", ".fp16", ".bf16")  # the first one that exists is read
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
MAX_FILES = 100  # into which weights may be split
MAX_HEADER = 100_000_008  # bytes of the header of a file, as safetensors allows
GIT_LFS = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class _Tensor:
    """A tensor in an opened file; name: its name there.  Its values are read only on request."""

    path: Path
    file: Any
    name: str


def load_diffusers(path: str | Path, size: tuple[int, int] | None = None) -> UNet2D:
    """Return the network in a folder that diffusers has saved, with float32 weights on the backend in use.

    path: a folder with config.json and diffusion_pytorch_model.safetensors, a pipeline's folder with such a folder
    `unet` in it, or a .safetensors file with config.json beside it.
    size: height and width of the images, if they are to differ from those of the training, or if config.json does not
    give them.
    Raises MinidiffError if a file is missing or damaged, or if the network is of an unsupported kind.
    """
    config, *_ = files = files_of(path)
    options = from_json(read_json(config), str(config), size)
    weights = [file for file in files if file.suffix != ".json"]
    there: dict[str, _Tensor] = {}  # by present name
    with ExitStack() as opened:
        for tensor in _tensors(weights, opened):
            if (name := modern(tensor.name)) in there:
                raise _twice(there[name], tensor)
            there[name] = tensor
        return _read(there, options, files[1])


def files_of(path: str | Path) -> tuple[Path, ...]:
    """Return the files of a network: config.json, the index of the weights if they are split, and the weights.

    path: as in `load_diffusers`.
    """
    path = Path(path)
    folder = locate(path)
    if path.is_file():
        return folder / CONFIG, path
    for variant in VARIANTS:
        whole, listed = (folder / name for name in _names(variant))
        if whole.exists():
            return folder / CONFIG, whole
        if listed.exists():
            return folder / CONFIG, listed, *_parts(listed)
    pickled = sorted(file for file in folder.iterdir() if file.suffix in PICKLED)
    raise MinidiffError(_pickled(pickled[0]) if pickled else f"no {WEIGHTS} in {folder}")


def locate(path: Path) -> Path:
    """Return the folder of a network; path: as in `load_diffusers`."""
    if not path.exists():
        raise MinidiffError(f"no such file or folder: {path}")
    if path.is_file():
        if path.suffix in PICKLED:
            raise MinidiffError(_pickled(path))
        if path.suffix != ".safetensors":
            raise MinidiffError(f"expected a .safetensors file or a folder with one, got {path}")
        return path.parent
    folder = next((place for place in (path, path / "unet") if (place / CONFIG).exists()), None)
    if folder is None:
        raise MinidiffError(f"no {CONFIG} in {path} or {path / 'unet'}")
    return folder


def _names(variant: str) -> tuple[str, str]:
    """Return the names of the file of weights and of the index of split weights.  variant: one of VARIANTS."""
    stem, suffix = WEIGHTS.split(".")
    return f"{stem}{variant}.{suffix}", f"{WEIGHTS}.index{variant}.json"


def _parts(listed: Path) -> list[Path]:
    """Return the files that an index of split weights lists; all must be in the same folder."""
    _refuse_pointer(listed)
    table = read_json(listed)
    table = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(table, dict) or not table or not all(isinstance(name, str) for name in table.values()):
        raise MinidiffError(f"{listed} must have weight_map, a table of tensors and the files they are in")
    names = sorted(set(table.values()))
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors") or "\\" in name:
            raise MinidiffError(
                f"{listed} must list .safetensors files that lie beside it, got {printable(repr(name), 100)}"
            )
    if len(names) > MAX_FILES:
        raise MinidiffError(f"{listed} must list at most {MAX_FILES} files, got {len(names)}")
    return [listed.parent / name for name in names]


def _tensors(paths: list[Path], opened: ExitStack) -> Iterator[_Tensor]:
    """Open files of weights and yield their tensors, without reading the values."""
    for path in paths:
        try:
            _refuse_pointer(path)  # opens the file, because the errors of Python are clearer than those of safetensors
            file = opened.enter_context(safe_open(path, framework="numpy"))
        except OSError as error:
            raise MinidiffError(f"cannot read weights: {one_line(error)}") from error
        except SafetensorError as error:
            raise MinidiffError(f"{path} is damaged or not a safetensors file: {error}") from error
        yield from (_Tensor(path, file, name) for name in file.keys())  # noqa: SIM118  # no mapping


def _refuse_pointer(path: Path) -> None:
    """Raise MinidiffError for a Git LFS pointer, the small text that stands for a large file that was not fetched."""
    with open_regular(path) as file:
        if file.read(len(GIT_LFS)) == GIT_LFS:
            raise MinidiffError(
                f"{path} is a Git LFS pointer, which only says where the file is; fetch it: git lfs pull, in its folder"
            )


def _twice(one: _Tensor, other: _Tensor) -> MinidiffError:
    if one.path == other.path:
        return MinidiffError(f"{one.path} has both {one.name} and {other.name}, two names of one tensor")
    return MinidiffError(f"{one.path} and {other.path} both have {other.name}")


def _pickled(path: Path) -> str:
    return (
        f"{path} is a pickle, which could run any code when it is read; convert it, with diffusers, by "
        "UNet2DModel.from_pretrained(folder).save_pretrained(folder, safe_serialization=True)"
    )


def _read(there: dict[str, _Tensor], config: Any, where: Path) -> UNet2D:
    """Compare names, shapes and dtypes from the file headers, then read the weights.  where: the file, for messages."""
    # The config may contain any numbers, and a network of a million blocks must not be built just to be compared.
    if config.layers_per_block * len(config.block_out_channels) > len(there):
        raise MinidiffError(f"{where} does not fit its {CONFIG}, which asks for more blocks than the file has tensors")
    model = UNet2D(config)
    table, parameters = correspondence(model), model.named_parameters()
    if missing := [name for name in table if name not in there]:
        raise MinidiffError(f"{where} does not fit its {CONFIG}: missing tensors: {len(missing)}, first {missing[0]}")
    if more := sorted(there.keys() - table.keys()):
        name = printable(there[more[0]].name, 100)
        raise MinidiffError(f"{where} does not fit its {CONFIG}: tensors too many: {len(more)}, first {name}")
    dtypes = {}
    for name, ours in table.items():
        tensor, expected = there[name], their_shape([parameters[own].planned_shape for own in ours])
        found = tensor.file.get_slice(tensor.name)
        shape, dtypes[name] = tuple(found.get_shape()), found.get_dtype()
        if shape != expected and not (".attentions." in name and shape == (*expected, 1, 1)):  # an old 1×1 convolution
            raise MinidiffError(f"{tensor.path} does not fit its {CONFIG}: expected {name} as {expected}, got {shape}")
        if dtypes[name] not in ("F32", "F16", "BF16"):
            raise MinidiffError(f"{tensor.path}: {name} must be F32, F16 or BF16, got {dtypes[name]}")

    # NumPy has no bfloat16, so a file with bfloat16 is read as bytes, at most as many as these tensors can have.
    most = 4 * sum(math.prod(parameter.planned_shape) for parameter in parameters.values()) + MAX_HEADER
    half = {there[name].path for name, dtype in dtypes.items() if dtype == "BF16"}
    raw = {path: dict(deserialize(read_bytes(path, most))) for path in half}
    for name, ours in table.items():
        tensor = there[name]
        if dtypes[name] == "BF16":
            array = _bfloat16(raw[tensor.path][tensor.name]["data"])
        else:
            array = tensor.file.get_tensor(tensor.name)
        if not np.isfinite(array).all():
            raise MinidiffError(f"{tensor.path}: {name} holds numbers that are not finite")
        array = array.astype(np.float32).reshape(their_shape([parameters[own].planned_shape for own in ours]))
        for own, part in zip(ours, to_ours(array, len(ours))):
            parameters[own].data = backend.to_device(part)
    return model


def _bfloat16(data: bytes) -> np.ndarray:
    """Convert bfloat16, the upper halves of little-endian float32, to flat float32."""
    return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
