"""The names and the layouts of tensors in files of diffusers.

Idea: a network has the same layers in the same order in minidiff and in diffusers.  So one walk over minidiff's network
gives the names of all tensors in diffusers, for reading and for writing.  `modern` translates names of early versions.
In PyTorch, output channels come first: linear weights are (out, in), convolutions (out, in, KH, KW); in minidiff they
are (in, out) and (KH, KW, in, out).  The scale and the shift of a residual block are two layers in minidiff, and one
layer of twice the width in diffusers.
Leaves out files: diffusers_read.py and diffusers_write.py.
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
    """Return the names of all tensors in a file of diffusers, each with the minidiff parameters that it contains."""
    parts = dict(_parts(model))
    table: dict[str, tuple[str, ...]] = {}
    for name in model.named_parameters():
        part = next(part for part in parts if name.startswith(f"{part}."))
        layer, _, last = name.removeprefix(f"{part}.").rpartition(".")
        words = (parts[part], _LAYERS.get(layer, layer), _LAST[last])
        theirs = ".".join(word for word in words if word)
        table[theirs] = (
            name,
            *table.get(theirs, ()),
        )  # minidiff has shift before scale, diffusers has scale before shift
    return table


def _parts(model: UNet | UNet2D) -> Iterator[tuple[str, str]]:
    """Yield the name in minidiff and the name in diffusers of every part of the network."""
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
    """Return the present name of a tensor that has another name in files of early versions of diffusers."""
    old = _OLD_NAME.fullmatch(name)
    return f"{old[1]}.{_OLD[old[2]]}.{old[3]}" if old else name


def their_shape(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the shape of the diffusers tensor that contains parameters of these shapes."""
    first, *rest = ((*shape[:-3:-1], *shape[:-2]) for shape in shapes)
    return (first[0] + sum(other[0] for other in rest), *first[1:])


def to_theirs(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate parameters (convolution weights, linear weights or vectors) in the layout of diffusers."""
    order = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}
    return np.ascontiguousarray(np.concatenate([array.transpose(order[array.ndim]) for array in arrays]))


def to_ours(array: np.ndarray, parts: int) -> list[np.ndarray]:
    """Split a tensor of diffusers into `parts` parameters; the inverse of `to_theirs`."""
    order = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}[array.ndim]
    return [np.ascontiguousarray(part.transpose(order)) for part in np.split(array, parts)]
