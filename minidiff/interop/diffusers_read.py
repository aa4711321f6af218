"""Read a U-Net that the diffusers library has saved, believing nothing in its files.

Idea: a folder has config.json, which says what the network is, and diffusion_pytorch_model.safetensors, its weights.
The network is built from the first, and the second must then hold exactly its tensors.  Sizes are compared before
anything is allocated for them, and nothing is unpickled: a file from a stranger can be wrong, but it runs no code.

    model = load_diffusers("google/ddpm-cifar10-32", …)         a folder on this machine; nothing is fetched

After tensor_names.py.  Leaves out diffusers' other networks, and weights that are spread over several files.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize, safe_open

from minidiff import backend
from minidiff.errors import MinidiffError, one_line
from minidiff.interop.tensor_names import correspondence, modern, their_shape, to_ours
from minidiff.interop.unet2d import UNet2D
from minidiff.interop.unet2d_config import from_json

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
MOST_BYTES = 1 << 20  # of a JSON file


def load_diffusers(path: str | Path, size: tuple[int, int] | None = None) -> UNet2D:
    """Return the network in a folder of diffusers', its weights as float32 on the backend in use.

    path: a folder with config.json and diffusion_pytorch_model.safetensors, a pipeline's folder with such a folder
    `unet` in it, or a .safetensors file with config.json beside it.
    size: height and width of the pictures, where the network is to draw others than it was trained with, or its file
    does not say.
    Raises MinidiffError in one line if a file is missing, broken or foreign, or the network is none that we know.
    """
    folder, weights = locate(Path(path))
    config = from_json(read_json(folder / CONFIG), str(folder / CONFIG), size)
    try:
        weights.open("rb").close()  # what keeps it from being read is said better by Python than by safetensors
        with safe_open(weights, framework="numpy") as file:
            return _read(weights, file, config)
    except OSError as error:
        raise MinidiffError(f"cannot read weights: {one_line(error)}") from error
    except SafetensorError as error:
        raise MinidiffError(f"{weights} is damaged or not a safetensors file: {error}") from error


def weights_of(path: str | Path) -> Path:
    """Return the file of weights that `load_diffusers` reads."""
    return locate(Path(path))[1]


def locate(path: Path) -> tuple[Path, Path]:
    """Return the network's folder and its file of weights."""
    if not path.exists():
        raise MinidiffError(f"no such file or folder: {path}")
    if path.is_file():
        if path.suffix in PICKLED:
            raise MinidiffError(_pickled(path))
        if path.suffix != ".safetensors":
            raise MinidiffError(f"expected a .safetensors file or a folder with one, got {path}")
        return path.parent, path
    folder = next((place for place in (path, path / "unet") if (place / CONFIG).exists()), None)
    if folder is None:
        raise MinidiffError(f"no {CONFIG} in {path} or {path / 'unet'}")
    if not (folder / WEIGHTS).exists():
        pickled = sorted(file for file in folder.iterdir() if file.suffix in PICKLED)
        raise MinidiffError(_pickled(pickled[0]) if pickled else f"no {WEIGHTS} in {folder}")
    return folder, folder / WEIGHTS


def read_json(path: Path) -> Any:
    """Return what a JSON file says; raises MinidiffError in one line if it cannot be read, or is not JSON."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise MinidiffError(f"{path} is not a settings file: it is larger than {MOST_BYTES} bytes")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise MinidiffError(f"cannot read settings: {one_line(error)}") from error
    except RecursionError as error:
        raise MinidiffError(f"{path} is not JSON that can be read: it is nested too deeply") from error
    except ValueError as error:
        if isinstance(error, MinidiffError):
            raise
        raise MinidiffError(f"{path} is not JSON: {one_line(error)}") from error


def _pickled(path: Path) -> str:
    return (
        f"{path} is a pickle, which could run any code when it is read; convert it, with diffusers, by "
        "UNet2DModel.from_pretrained(folder).save_pretrained(folder, safe_serialization=True)"
    )


def _read(path: Path, file: Any, config: Any) -> UNet2D:
    """Compare names, shapes and dtypes, from the header alone; then fill the network."""
    there: dict[str, str] = {}
    for name in file.keys():  # noqa: SIM118  # no mapping
        if modern(name) in there:
            raise MinidiffError(f"{path} has both {there[modern(name)]} and {name}, two names of one tensor")
        there[modern(name)] = name
    # Numbers in the config may be anything: a network of a million blocks must not be built to be compared.
    if config.layers_per_block * len(config.block_out_channels) > len(there):
        raise MinidiffError(f"{path} does not fit its {CONFIG}, which asks for more blocks than the file has tensors")
    model = UNet2D(config)
    table, parameters = correspondence(model), model.named_parameters()
    if missing := [name for name in table if name not in there]:
        raise MinidiffError(f"{path} does not fit its {CONFIG}: missing tensors: {len(missing)}, first {missing[0]}")
    if more := sorted(there.keys() - table.keys()):
        name = there[more[0]][:100]
        raise MinidiffError(f"{path} does not fit its {CONFIG}: tensors too many: {len(more)}, first {name}")
    dtypes = {}
    for name, ours in table.items():
        found, expected = file.get_slice(there[name]), their_shape([parameters[own].planned_shape for own in ours])
        shape, dtypes[name] = tuple(found.get_shape()), found.get_dtype()
        if shape != expected and not (".attentions." in name and shape == (*expected, 1, 1)):  # an old 1×1 convolution
            raise MinidiffError(f"{path} does not fit its {CONFIG}: expected {name} as {expected}, got {shape}")
        if dtypes[name] not in ("F32", "F16", "BF16"):
            raise MinidiffError(f"{path}: {name} must be F32, F16 or BF16, got {dtypes[name]}")

    # NumPy has no bfloat16: such a file is read as bytes.
    raw = dict(deserialize(path.read_bytes())) if "BF16" in dtypes.values() else {}
    for name, ours in table.items():
        array = _bfloat16(raw[there[name]]["data"]) if dtypes[name] == "BF16" else file.get_tensor(there[name])
        array = array.astype(np.float32).reshape(their_shape([parameters[own].planned_shape for own in ours]))
        for own, part in zip(ours, to_ours(array, len(ours))):
            parameters[own].data = backend.to_device(part)
    return model


def _bfloat16(data: bytes) -> np.ndarray:
    """The upper half of a float32 each, little-endian: flat float32."""
    return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
