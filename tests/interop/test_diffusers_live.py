"""Beside diffusers itself, where it is installed: networks of random shape and random weights, both ways."""

import numpy as np
import pytest

from minidiff import backend
from minidiff.autograd import no_grad
from minidiff.errors import MinidiffError
from minidiff.interop import load_diffusers, save_as_diffusers
from minidiff.interop.diffusers_write import unet_options
from minidiff.nn import UNet, UNetConfig
from tests.interop.foreign import BOUND, relative

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")


def their_output(network, x, t):
    with torch.no_grad():
        y = network(torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(t)).sample
    return y.permute(0, 2, 3, 1).numpy()


def our_output(model, x, t):
    with no_grad():
        return backend.to_numpy(model(backend.to_device(x), t).data)


def inputs(rng, height, width, channels):
    x = rng.standard_normal((2, height, width, channels)).astype(np.float32)
    return x, rng.integers(0, 1000, 2).astype(np.float32)


def their_options(rng):
    """A network of diffusers', drawn."""
    levels, groups = int(rng.integers(1, 4)), int(rng.choice([1, 2, 4, 5]))
    attends = rng.integers(0, 2, (2, levels))
    size = [int(n) << (levels - 1) for n in rng.integers(2, 6, 2)]
    channels = int(rng.choice([1, 3, 4]))
    return {
        "sample_size": size,
        "in_channels": channels,
        "out_channels": int(rng.choice([channels, 2 * channels])),
        "center_input_sample": bool(rng.integers(2)),
        "time_embedding_dim": [None, 20][rng.integers(2)],
        "freq_shift": int(rng.integers(2)),
        "flip_sin_to_cos": bool(rng.integers(2)),
        "down_block_types": [("DownBlock2D", "AttnDownBlock2D")[a] for a in attends[0]],
        "mid_block_type": ["UNetMidBlock2D", "UNetMidBlock2D", None][rng.integers(3)],
        "up_block_types": [("UpBlock2D", "AttnUpBlock2D")[a] for a in attends[1]],
        "block_out_channels": [20 * int(n) for n in rng.integers(1, 4, levels)],
        "layers_per_block": int(rng.integers(1, 4)),
        "mid_block_scale_factor": float(rng.choice([1, 0.7])),
        "downsample_padding": int(rng.integers(2)),
        "dropout": 0.1,
        "attention_head_dim": [None, 4, 10, 20][rng.integers(4)],
        "norm_num_groups": groups,
        "attn_norm_num_groups": [None, 10][rng.integers(2)],
        "norm_eps": float(rng.choice([1e-6, 1e-5, 1e-2])),
        "resnet_time_scale_shift": ["default", "scale_shift"][rng.integers(2)],
        "add_attention": bool(rng.integers(2)),
    }


@pytest.mark.parametrize("seed", range(12))
def test_theirs(seed, tmp_path, native_backend):
    rng = np.random.default_rng(seed)
    options = their_options(rng)
    torch.manual_seed(seed)
    network = diffusers.UNet2DModel(**options).eval()
    with torch.no_grad():
        for parameter in network.parameters():  # a normalisation that is all ones would hide a mistake
            parameter.add_(0.2 * torch.randn_like(parameter) * (parameter.dim() == 1))
    network.save_pretrained(tmp_path)
    x, t = inputs(rng, *options["sample_size"], options["in_channels"])
    assert relative(our_output(load_diffusers(tmp_path), x, t), their_output(network, x, t)) < BOUND


@pytest.mark.parametrize("seed", range(12))
def test_ours(seed, tmp_path, native_backend):
    rng = np.random.default_rng(seed)
    while True:  # until one is drawn that diffusers can have
        levels = int(rng.integers(1, 4))
        height, width = (int(n) << (levels - 1) for n in rng.integers(2, 6, 2))
        config = UNetConfig(
            height,
            width,
            int(rng.choice([1, 3])),
            model_channels=int(rng.choice([8, 12, 20])),
            channel_mult=(1, *(int(n) for n in rng.integers(1, 4, levels - 1))),
            num_res_blocks=int(rng.integers(1, 3)),
            attention_at=tuple(height >> level for level in range(levels) if rng.integers(2)),
            heads=int(rng.choice([1, 2, 4])),
            groups=int(rng.choice([1, 2, 4, 8])),
            time=("add", "scale_shift")[rng.integers(2)],
        )
        try:
            unet_options(UNet(config))
            break
        except MinidiffError:
            continue
    model = UNet(config)
    model.initialize(seed)
    for parameter in model.named_parameters().values():  # the last layers of a new network are zero
        noise = rng.standard_normal(parameter.planned_shape).astype(np.float32)
        parameter.data = parameter.data + backend.to_device(np.float32(0.1) * noise)
    save_as_diffusers(model, tmp_path)
    network = diffusers.UNet2DModel.from_pretrained(tmp_path).eval()
    x, t = inputs(rng, height, width, config.channels)
    assert relative(our_output(model, x, t), their_output(network, x, t)) < BOUND


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("size", ["10GB", "100KB"], ids=["whole", "several files"])
def test_weights_under_the_names_that_diffusers_gives_them(size, variant, tmp_path):
    rng = np.random.default_rng(3)
    options = their_options(rng)
    network = diffusers.UNet2DModel(**options).eval()
    if variant:
        network = network.half()
    network.save_pretrained(tmp_path, variant=variant, max_shard_size=size)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (size == "100KB")
    x, t = inputs(rng, *options["sample_size"], options["in_channels"])
    assert relative(our_output(load_diffusers(tmp_path), x, t), their_output(network.float(), x, t)) < BOUND


def test_what_diffusers_pickles_is_refused(tmp_path):
    network = diffusers.UNet2DModel(
        sample_size=8,
        block_out_channels=[8],
        norm_num_groups=4,
        down_block_types=["DownBlock2D"],
        up_block_types=["UpBlock2D"],
    )
    network.save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(MinidiffError, match="is a pickle, which could run any code"):
        load_diffusers(tmp_path)
