"""Saving a U-Net of minidiff in the format of the diffusers library.

    save_as_diffusers(model, "for-diffusers", scheduler_options("cosine", 1000, "v"))

    >>> UNet2DModel.from_pretrained("for-diffusers")           # in diffusers
    >>> DDIMScheduler.from_pretrained("for-diffusers")

Idea: diffusers has fewer options: one number of groups for all levels, one head width for all levels unless each level
has a single head, a sinusoidal time embedding as wide as level 0, and no patches.  A network of minidiff that satisfies
this is the same network in diffusers; only the names and the layouts of its tensors differ.  Any other network is
refused, and the error names the option to train with instead.
Leaves out networks with class labels or captions.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.numpy import save as to_safetensors

from minidiff import backend
from minidiff.errors import MinidiffError
from minidiff.files import write_atomically
from minidiff.interop.diffusers_read import CONFIG, WEIGHTS
from minidiff.interop.scheduler import SCHEDULER
from minidiff.interop.tensor_names import correspondence, to_theirs
from minidiff.interop.unet2d_config import CLASS, DOWN, UP
from minidiff.nn import GroupNorm, SelfAttention, UNet


def save_as_diffusers(model: UNet, folder: str | Path, scheduler: Mapping[str, Any] | None = None) -> None:
    """Write config.json and the weights of a network to a folder, and scheduler_config.json if `scheduler` is given.

    scheduler: from `scheduler_options`.  Each file is written atomically, config.json last.
    Raises MinidiffError if diffusers cannot represent the network, OSError if a file cannot be written.
    """
    options, folder = unet_options(model), Path(folder)
    parameters = model.named_parameters()
    tensors = {
        name: to_theirs([backend.to_numpy(parameters[own].data) for own in ours])
        for name, ours in correspondence(model).items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / WEIGHTS, to_safetensors(tensors, {"format": "pt"}))
    if scheduler is not None:
        write_atomically(folder / SCHEDULER, _json(scheduler))
    write_atomically(folder / CONFIG, _json(options))


def unet_options(model: UNet) -> dict[str, Any]:
    """Return the content of config.json for a network; see `save_as_diffusers`."""
    config = model.config
    if config.patch > 1:
        raise MinidiffError(
            f"diffusers has no network that sees patches of {config.patch}×{config.patch}; train with --patch 1"
        )
    if config.classes:
        raise MinidiffError(
            f"only networks without labels are written for diffusers, this one knows {config.classes}; "
            "train with --data folder and without --folder-labels"
        )
    if config.vocab_size:
        raise MinidiffError(
            "only networks without captions are written for diffusers, this one reads prompts; "
            "train with --captions none"
        )
    if config.channel_mult[0] != 1:
        raise MinidiffError(
            "the sinusoidal time embedding of diffusers is as wide as level 0, that of minidiff as model_channels, "
            f"{config.model_channels}; train with a --channel-mult that begins with 1, not {config.channel_mult[0]}"
        )
    modules = [module for _, module in model.named_modules()]
    groups = {module.groups for module in modules if isinstance(module, GroupNorm)}
    if len(groups) > 1:
        raise MinidiffError(
            f"diffusers has one number of groups for all levels, this network has {_listed(groups)}; "
            f"train with --groups {math.gcd(*groups)}"
        )
    attending = [module for module in modules if isinstance(module, SelfAttention)]
    head_widths = {module.q.w.planned_shape[0] // module.heads for module in attending}
    if len(head_widths) > 1 and config.heads > 1:
        raise MinidiffError(
            f"diffusers has one head width for all levels, this network has {_listed(head_widths)}; "
            "train with --heads 1, or with --attention-at at one level"
        )
    attends = [height in config.attention_at for height in config.level_heights]
    return {
        "_class_name": CLASS,
        "sample_size": config.height if config.height == config.width else [config.height, config.width],
        "in_channels": config.channels,
        "out_channels": config.channels,
        "time_embedding_type": "positional",
        "freq_shift": 1,
        "flip_sin_to_cos": False,
        "down_block_types": [_name(DOWN, attending_here) for attending_here in attends],
        "up_block_types": [_name(UP, attending_here) for attending_here in reversed(attends)],
        "block_out_channels": [config.model_channels * multiplier for multiplier in config.channel_mult],
        "layers_per_block": config.num_res_blocks,
        "downsample_padding": 1,
        "act_fn": "silu",
        "attention_head_dim": None if config.heads == 1 or not attending else head_widths.pop(),
        "norm_num_groups": model.norm.groups,
        "attn_norm_num_groups": model.norm.groups,
        "norm_eps": model.norm.eps,
        "resnet_time_scale_shift": "scale_shift" if config.time == "scale_shift" else "default",
        "add_attention": attends[-1],
    }


def _name(types: Mapping[str, bool], attends: bool) -> str:
    """Return the name of the block type with self-attention, or without."""
    return next(name for name, does in types.items() if does == attends)


def _listed(numbers: set[int]) -> str:
    return " or ".join(str(number) for number in sorted(numbers))


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2) + "\n").encode()
