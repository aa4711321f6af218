"""Tiny networks of diffusers' and of ours; their weights follow from the tensors' names, so that no file holds them."""

import json
import zlib
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from minidiff import backend
from minidiff.nn import UNet, UNetConfig

GOLDEN = Path(__file__).with_name("golden.npz")
# Both sides sum float32 in other orders, through about twenty layers: 1e-6 on the reference, 4e-6 with Winograd's
# convolutions.  A wrong formula, such as an eps of 1e-5 for 1e-6 here, is off by 1e-3 or more.
BOUND = 1e-4

PLAIN = {
    "sample_size": 16,
    "block_out_channels": [16, 32],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "norm_eps": 1e-3,  # large enough to be seen in the output
}
THEIRS = {
    "plain": PLAIN,
    # the choices of google/ddpm-cifar10-32, with fewer features
    "ddpm": PLAIN
    | {
        "block_out_channels": [16, 24, 24],
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
        "layers_per_block": 2,
        "downsample_padding": 0,
        "freq_shift": 1,
        "flip_sin_to_cos": False,
        "attention_head_dim": None,
    },
    "oblong, uneven sizes": PLAIN | {"sample_size": [10, 22], "downsample_padding": 0, "norm_num_groups": 4},
    "grey, centred, no attention in the middle": PLAIN
    | {"in_channels": 1, "out_channels": 1, "center_input_sample": True, "add_attention": False, "sample_size": 14},
    "scale and shift, nothing normalised in the middle": PLAIN
    | {"resnet_time_scale_shift": "scale_shift", "attention_head_dim": 4, "time_embedding_dim": 24},
    "scale and shift, other groups in the middle": PLAIN
    | {
        "resnet_time_scale_shift": "scale_shift",
        "attn_norm_num_groups": 2,
        "mid_block_scale_factor": 1.5,
        "attention_head_dim": 16,
        "freq_shift": 0.5,
        "act_fn": "swish",
    },
    "attention on one way only, six channels out": PLAIN
    | {
        "block_out_channels": [12, 18, 30],
        "norm_num_groups": 3,
        "attention_head_dim": 6,
        "down_block_types": ["AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D"],
        "out_channels": 6,
        "sample_size": 12,
    },
    "one level, no middle": PLAIN
    | {
        "block_out_channels": [8],
        "down_block_types": ["AttnDownBlock2D"],
        "up_block_types": ["UpBlock2D"],
        "mid_block_type": None,
        "sample_size": [5, 7],
    },
}
OURS = {
    "added time": UNetConfig(
        16, 12, 3, model_channels=16, channel_mult=(1, 2, 2), attention_at=(4,), heads=2, groups=8, time="add"
    ),
    "scale and shift": UNetConfig(
        8, 8, 1, model_channels=12, channel_mult=(1, 2), num_res_blocks=2, attention_at=(8, 4), heads=1, groups=4
    ),
    "no attention": UNetConfig(16, 16, 3, model_channels=8, channel_mult=(1, 3, 2), attention_at=(), groups=8),
}


def weights(name: str, shape: tuple[int, ...], fan_in: int) -> np.ndarray:
    """Float32 numbers that the name alone decides: of variance 1 / fan-in, and around 1 for a normalisation's gain.

    RandomState draws the same in every version of NumPy.
    """
    u = np.random.RandomState(zlib.crc32(name.encode())).uniform(-1, 1, shape)
    if len(shape) > 1:
        return (u * np.sqrt(3 / fan_in)).astype(np.float32)
    gain = name.endswith(("gain", "weight"))
    return (gain + 0.3 * u).astype(np.float32)


def their_weights(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Weights by diffusers' names; there a matrix is (out, in, …)."""
    return {name: weights(name, tuple(shape), int(np.prod(shape[1:]))) for name, shape in shapes.items()}


def our_network(config: UNetConfig) -> UNet:
    """minidiff's own network, on the backend in use."""
    model = UNet(config)
    for name, parameter in model.named_parameters().items():
        shape = parameter.planned_shape
        for new, old in _SEEDS.items():
            name = name.replace(new, old)
        parameter.data = backend.to_device(weights(name, shape, int(np.prod(shape[:-1]))))
    return model


# Weights follow from a parameter's name; those of the golden files from the names of an earlier version.
_SEEDS = {"conv_in.": "enter.", "conv_out.": "leave.", "embedding.linear1": "embedding.first"}
_SEEDS |= {"embedding.linear2": "embedding.second"}


def inputs(height: int, width: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Two noisy images (2, H, W, C) and their times, float32."""
    x = np.random.RandomState(7).uniform(-1.5, 1.5, (2, height, width, channels))
    return x.astype(np.float32), np.array([2.0, 871.0], np.float32)


def size_of(options: dict) -> tuple[int, int]:
    """The height and width in a config.json."""
    size = options["sample_size"]
    return (size, size) if isinstance(size, int) else tuple(size)


def golden(kind: str, name: str) -> tuple[dict, dict[str, list[int]], np.ndarray]:
    """What diffusers said of a network: its config.json, the shapes of its tensors by name, its output (2, H, W, C)."""
    with np.load(GOLDEN) as file:
        about = json.loads(str(file[f"{kind}/{name}/about"]))
        return about["config"], about["shapes"], file[f"{kind}/{name}/output"]


def write_folder(folder: Path, options: dict, tensors: dict[str, np.ndarray]) -> Path:
    """Write what diffusers' save_pretrained writes, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(options))
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    return folder


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, of the largest number; NaN stays NaN, which is below no bound."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())
