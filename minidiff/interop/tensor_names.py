"""What each tensor is called in diffusers' files, and how it lies there.

Idea: both networks have the same parts in the same order, so one walk over ours says the name of every tensor of
theirs; it serves to read and to write.  PyTorch stores what a matrix maps *to* first: linear weights are (out, in),
convolutions (out, in, KH, KW); ours are (in, out) and (KH, KW, in, out).  Scale and shift of a block, two layers here,
are one there, of twice the width.
After unet2d.py.  Leaves out files: diffusers_read.py and diffusers_write.py.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from minidiff.interop.unet2d import UNet2D
from minidiff.nn import Stage, UNet

_LAYERS = {
    "shift": "time_emb_proj",
    "scale": "time_emb_proj",
    "shortcut": "conv_shortcut",
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "out": "to_out.0",
}
_LAST = {"w": "weight", "b": "bias", "gain": "weight", "bias": "bias"}

_OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # until diffusers 0.15
_OLD_NAME = re.compile(rf"(.*\battentions\.\d+)\.({'|'.join(_OLD)})\.(weight|bias)")


def correspondence(model: UNet | UNet2D) -> dict[str, tuple[str, ...]]:
    """Return the names of all tensors in diffusers' file, each with our parameters that it holds, in its order."""
    parts = dict(_parts(model))
    table: dict[str, tuple[str, ...]] = {}
    for name in model.named_parameters():
        part = next(part for part in parts if name.startswith(f"{part}."))
        layer, _, last = name.removeprefix(f"{part}.").rpartition(".")
        words = (parts[part], _LAYERS.get(layer, layer), _LAST[last])
        theirs = ".".join(word for word in words if word)
        table[theirs] = (name, *table.get(theirs, ()))  # ours has shift before scale, theirs scale before shift
    return table


def _parts(model: UNet | UNet2D) -> Iterator[tuple[str, str]]:
    """Our name and theirs of every part of the network."""
    yield from {
        "embedding.linear1": "time_embedding.linear_1",
        "embedding.linear2": "time_embedding.linear_2",
        "conv_in": "conv_in",
        "norm": "conv_norm_out",
        "conv_out": "conv_out",
    }.items()
    for ours, theirs, halving in (("down", "down_blocks", "downsamplers"), ("up", "up_blocks", "upsamplers")):
        level = number = 0
        for index, part in enumerate(getattr(model, ours)):
            if isinstance(part, Stage):
                yield f"{ours}.{index}.block", f"{theirs}.{level}.resnets.{number}"
                yield f"{ours}.{index}.attention", f"{theirs}.{level}.attentions.{number}"
                number += 1
            else:
                yield f"{ours}.{index}", f"{theirs}.{level}.{halving}.0.conv"
                level, number = level + 1, 0
    for index in range(len(model.middle)):
        yield f"middle.{index}.block", f"mid_block.resnets.{index}"
        yield f"middle.{index}.attention", f"mid_block.attentions.{index}"


def modern(name: str) -> str:
    """Return the present name of a tensor that an early file may call by another."""
    old = _OLD_NAME.fullmatch(name)
    return f"{old[1]}.{_OLD[old[2]]}.{old[3]}" if old else name


def their_shape(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape of the tensor that holds parameters of these shapes."""
    first, *rest = ((*shape[:-3:-1], *shape[:-2]) for shape in shapes)
    return (first[0] + sum(other[0] for other in rest), *first[1:])


def to_theirs(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Lay parameters as diffusers' tensor has them, one below another; convolution, linear weights or a vector each."""
    order = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}
    return np.ascontiguousarray(np.concatenate([array.transpose(order[array.ndim]) for array in arrays]))


def to_ours(array: np.ndarray, parts: int) -> list[np.ndarray]:
    """Undo `to_theirs`: the parameters, so many of them, that a tensor holds."""
    order = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}[array.ndim]
    return [np.ascontiguousarray(part.transpose(order)) for part in np.split(array, parts)]
