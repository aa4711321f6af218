"""Files of diffusers' that are missing, broken, foreign or hostile: one clear line each."""

import json
import re
import struct

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from minidiff import backend
from minidiff.errors import MinidiffError
from minidiff.interop import diffusers_read, files_of, load_diffusers
from minidiff.pipeline import loading as models
from tests.interop.foreign import PLAIN, golden, their_weights, write_folder

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path):
    _, shapes, _ = golden("theirs", "plain")
    return write_folder(tmp_path / "net", PLAIN, their_weights(shapes))


def refusal(path):
    """The one line."""
    with pytest.raises(MinidiffError) as error:
        load_diffusers(path)
    text = str(error.value)
    assert "\n" not in text
    assert len(text.replace(str(path), "")) < 560
    return text


def change(folder, **options):
    (folder / "config.json").write_text(json.dumps(PLAIN | options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour": 3}, "unknown setting 'colour'; known are "),
        ({"norm_num_group": 3}, "unknown setting 'norm_num_group'; did you mean 'norm_num_groups'?"),
        ({"layers_per_block": "two"}, "layers_per_block must be a whole number, got 'two'"),
        ({"layers_per_block": True}, "layers_per_block must be a whole number, got True"),
        ({"sample_size": 1 << 16}, "sample_size must be from 1 to 4096, got"),
        ({"layers_per_block": 0}, "layers_per_block must be from 1 to 1048576, got 0"),
        ({"layers_per_block": 10**300}, "layers_per_block must be from 1 to 1048576, got 1000"),
        ({"block_out_channels": [16, -8]}, "block_out_channels must be from 1 to 1048576, got (16, -8)"),
        ({"block_out_channels": []}, "block_out_channels is empty"),
        ({"block_out_channels": [16, 32, 32]}, "down_block_types must have 3 entries, as block_out_channels"),
        ({"block_out_channels": [16, 36]}, "norm_num_groups (8) must divide block_out_channels, got 36"),
        ({"block_out_channels": [8, 16], "freq_shift": 4}, "block_out_channels must begin with an even number above "
                                                           "twice freq_shift (4), as it is the width of the"),
        ({"freq_shift": float("nan")}, "begin with an even number above twice freq_shift (nan)"),
        ({"down_block_types": ["DownBlock2D", "SkipDownBlock2D"]}, "down_block_types must be of DownBlock2D, "
                                                                   "AttnDownBlock2D, got 'SkipDownBlock2D'"),
        ({"up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"]}, "up_block_types must be of UpBlock2D, "
                                                                  "AttnUpBlock2D, got 'CrossAttnUpBlock2D'"),
        ({"mid_block_type": "UNetMidBlock2DCrossAttn"}, "mid_block_type must be one of UNetMidBlock2D, got 'UNetMid"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type must be one of positional, got 'fourier'"),
        ({"downsample_type": "resnet"}, "downsample_type must be one of conv, got 'resnet'"),
        ({"upsample_type": "resnet"}, "upsample_type must be one of conv, got 'resnet'"),
        ({"downsample_padding": 2}, "downsample_padding must be 0 or 1, got 2"),
        ({"act_fn": "gelu"}, "act_fn must be one of silu, swish, got 'gelu'"),
        ({"resnet_time_scale_shift": "spatial"}, "resnet_time_scale_shift must be one of default, scale_shift, got"),
        ({"attention_head_dim": 12}, "attention_head_dim (12) must divide the 32 channels"),
        ({"attn_norm_num_groups": 5}, "attn_norm_num_groups (5) must divide the last of block_out_channels, got 32"),
        ({"norm_num_groups": None}, "norm_num_groups must be a whole number, got None"),
        ({"norm_eps": float("inf")}, "norm_eps must be a number above 0, got inf"),
        ({"mid_block_scale_factor": 0}, "mid_block_scale_factor must be a number other than 0, got 0.0"),
        ({"class_embed_type": "timestep"}, "class_embed_type must be null, as networks with labels are not read, got"),
        ({"num_class_embeds": 10}, "num_class_embeds must be null, as networks with labels are not read, got 10"),
        ({"sample_size": [16, 16, 16]}, "sample_size must be one number or two, height and width, got (16, 16, 16)"),
        ({"sample_size": 15}, "sample_size: 2 levels need a height and a width that 2 divides, got 15×15"),
        ({"sample_size": None}, "sample_size is null, so how large its images are is not known; write their height "
                                'and width there, such as "sample_size": [32, 32]'),
        ({"_class_name": "UNet2DConditionModel"}, "is of a 'UNet2DConditionModel'; of diffusers' networks minidiff "
                                                  "reads UNet2DModel"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_options_are_refused_by_name(folder, options, message):
    change(folder, **options)
    text = refusal(folder)
    assert text.startswith(str(folder / "config.json"))
    assert message in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON: Expecting value"),
        (b'{"sample_size": 16', "is not JSON"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"[1, 2]", "must be a table of options"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b" " * (1 << 20) + b"{}", "holds 1048578 bytes; expected at most 1048576"),
    ],
    ids=["empty", "cut", "bytes", "list", "deep", "digits", "large"],
)
def test_broken_settings(folder, content, message):
    (folder / "config.json").write_bytes(content)
    text = refusal(folder)
    assert str(folder / "config.json") in text
    assert message in text


def test_what_is_missing(folder, tmp_path):
    assert refusal(tmp_path / "nothing") == f"no such file or folder: {tmp_path / 'nothing'}"
    assert refusal(tmp_path) == f"no config.json in {tmp_path} or {tmp_path / 'unet'}"
    assert refusal(folder / "config.json") == (
        f"expected a .safetensors file or a folder with one, got {folder / 'config.json'}"
    )
    (folder / WEIGHTS).rename(tmp_path / "alone.safetensors")
    assert refusal(folder) == f"no {WEIGHTS} in {folder}"
    assert refusal(tmp_path / "alone.safetensors") == (
        f"cannot read settings: no such file or folder: {tmp_path / 'config.json'}"
    )


@pytest.mark.parametrize("named", [False, True], ids=["folder", "file"])
def test_pickles_are_not_opened(folder, named):
    (folder / WEIGHTS).unlink()
    pickle = folder / "diffusion_pytorch_model.bin"
    pickle.write_bytes(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00falseR.")
    assert refusal(pickle if named else folder) == (
        f"{pickle} is a pickle, which could run any code when it is read; convert it, with diffusers, by "
        "UNet2DModel.from_pretrained(folder).save_pretrained(folder, safe_serialization=True)"
    )


def rewrite(folder, edit):
    """Let `edit` change the tensors, by name."""
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)


def test_foreign_tensors(folder):
    name = "mid_block.attentions.0.to_q.weight"
    rewrite(folder, lambda tensors: tensors.update({name: np.zeros((32, 31), np.float32)}))
    assert refusal(folder).endswith(f"does not fit its config.json: expected {name} as (32, 32), got (32, 31)")
    rewrite(folder, lambda tensors: tensors.update({name: np.zeros((32, 32), np.float64)}))
    assert refusal(folder).endswith(f"{name} must be F32, F16 or BF16, got F64")
    rewrite(folder, lambda tensors: tensors.update({name: np.zeros((32, 32), np.int32)}))
    assert refusal(folder).endswith(f"{name} must be F32, F16 or BF16, got I32")
    rewrite(folder, lambda tensors: tensors.pop(name))
    assert refusal(folder).endswith(f"does not fit its config.json: missing tensors: 1, first {name}")
    rewrite(folder, lambda tensors: tensors.update({name: np.zeros((32, 32), np.float32), "ema.x": np.zeros(2)}))
    assert refusal(folder).endswith("does not fit its config.json: tensors too many: 1, first ema.x")
    old = name.replace("to_q", "query")
    rewrite(folder, lambda tensors: (tensors.pop("ema.x"), tensors.update({old: np.zeros((32, 32), np.float32)})))
    text = refusal(folder)
    assert text.endswith("two names of one tensor")
    assert name in text
    assert old in text


def test_the_first_missing_tensor_is_the_first_of_the_network(folder):
    rewrite(folder, lambda tensors: [tensors.pop(name) for name in ("conv_out.bias", "conv_in.weight")])
    assert "missing tensors: 2, first conv_in.weight" in refusal(folder)


def test_a_network_of_another_size(folder):
    change(folder, block_out_channels=[32, 64])
    assert "expected time_embedding.linear_1.weight as (128, 32), got (64, 16)" in refusal(folder)
    change(folder, layers_per_block=1 << 20)  # is not built to be compared: that would take minutes, and all memory
    assert "asks for more blocks than the file has tensors" in refusal(folder)


def test_a_cut_file(folder):
    content = (folder / WEIGHTS).read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    cuts = [0, 1, 7, 8, 9, header // 2, header - 1, header, header + 1, len(content) // 2, len(content) - 1]
    for cut in cuts:
        (folder / WEIGHTS).write_bytes(content[:cut])
        assert refusal(folder).startswith(f"{folder / WEIGHTS} is damaged or not a safetensors file: "), cut


@pytest.mark.parametrize("length", [0, 1 << 20, 1 << 40, (1 << 64) - 1])
def test_a_header_of_any_length(folder, length):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", length) + content[8:])
    assert refusal(folder).startswith(f"{folder / WEIGHTS} is damaged or not a safetensors file: ")


def test_headers_that_lie(folder):
    for shape, ends in (([1 << 40], [0, 1 << 42]), ([4], [0, 8]), ([2], [8, 16]), ([-1], [0, 4])):
        header = json.dumps({"conv_in.bias": {"dtype": "F32", "shape": shape, "data_offsets": ends}}).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
        assert refusal(folder).startswith(f"{folder / WEIGHTS} is damaged or not a safetensors file: "), shape


def test_weights_that_are_a_folder(folder):
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
    assert refusal(folder) == f"{folder / WEIGHTS} is a folder; expected a regular file"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_weights_that_are_not_finite_are_refused_by_name(folder, dtype, bad):
    name = "up_blocks.0.resnets.1.conv1.weight"
    tensors = load_file(folder / WEIGHTS)
    if dtype == "bfloat16":  # the upper halves of float32, which NumPy has no dtype for
        tensors[name].ravel()[-1] = bad
        write_bfloat16(folder / WEIGHTS, tensors)
    else:
        tensors[name] = tensors[name].astype(dtype)
        tensors[name].ravel()[-1] = bad
        save_file(tensors, folder / WEIGHTS)
    assert refusal(folder) == f"{folder / WEIGHTS}: {name} holds numbers that are not finite"


def write_bfloat16(path, tensors):
    """Write tensors as safetensors has it, cut to bfloat16."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        cut = np.ascontiguousarray(tensor).view("<u4").__rshift__(16).astype("<u2").tobytes()
        header[name] = {"dtype": "BF16", "shape": tensor.shape, "data_offsets": [len(data), len(data) + len(cut)]}
        data += cut
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_a_file_that_grows_while_it_is_read_is_refused(folder, monkeypatch):
    """One with bfloat16 is read as a whole, so no more than its tensors can take."""
    weights = folder / WEIGHTS
    write_bfloat16(weights, load_file(weights))
    load_diffusers(folder)
    honest = diffusers_read.read_bytes

    def grown(path, most):
        with path.open("r+b") as file:
            file.truncate(200_000_000)  # of nothing
        return honest(path, most)

    monkeypatch.setattr(diffusers_read, "read_bytes", grown)
    assert re.fullmatch(rf"{weights} holds 200000000 bytes; expected at most 100[0-9]{{6}}", refusal(folder))


@pytest.mark.parametrize("channels", [2, 4])
def test_images_that_nobody_can_look_at_are_refused_on_loading(tmp_path, channels):
    options = PLAIN | {"in_channels": channels, "out_channels": channels}
    shapes = golden("theirs", "plain")[1]
    shapes = shapes | {"conv_in.weight": [16, channels, 3, 3], "conv_out.weight": [channels, 16, 3, 3]}
    folder = write_folder(tmp_path / "net", options, their_weights(shapes | {"conv_out.bias": [channels]}))
    load_diffusers(folder)
    with pytest.raises(MinidiffError) as error:
        models.load_diffusers(folder)
    assert str(error.value) == (
        f"{folder / WEIGHTS} has images of {channels} channels; expected 1, grey, or 3, red, green and blue"
    )


# -- weights under other names, and in several files ------------------------------------------------------------------


def same_network(one, other):
    return one.named_parameters().keys() == other.named_parameters().keys() and all(
        np.array_equal(backend.to_numpy(parameter.data), backend.to_numpy(other.named_parameters()[name].data))
        for name, parameter in one.named_parameters().items()
    )


def shard(folder, variant="", cut=2):
    """Spread the weights over `cut` files, as diffusers names them; return the list of them."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    table = {}
    for part in range(cut):
        name = f"diffusion_pytorch_model{variant}-{part + 1:05d}-of-{cut:05d}.safetensors"
        some = {key: tensors[key] for key in sorted(tensors)[part::cut]}
        save_file(some, folder / name)
        table |= dict.fromkeys(some, name)
    listed = folder / f"{WEIGHTS}.index{variant}.json"
    listed.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": table}))
    return listed


@pytest.mark.parametrize("variant", ["fp16", "bf16"])
def test_weights_of_half_the_size_are_found(folder, variant):
    rewrite(folder, lambda tensors: tensors.update({name: t.astype(np.float16) for name, t in tensors.items()}))
    expected, half = load_diffusers(folder), folder / f"diffusion_pytorch_model.{variant}.safetensors"
    (folder / WEIGHTS).rename(half)
    assert files_of(folder) == (folder / "config.json", half)
    assert same_network(load_diffusers(folder), expected)


@pytest.mark.parametrize("variant", ["", ".fp16"])
def test_weights_in_several_files_are_one_network(folder, variant):
    expected, listed = load_diffusers(folder), shard(folder, variant, 3)
    assert same_network(load_diffusers(folder), expected)
    assert [file.name for file in files_of(folder)][:3] == [
        "config.json",
        listed.name,
        f"diffusion_pytorch_model{variant}-00001-of-00003.safetensors",
    ]
    assert models.load_diffusers(folder).path == listed


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([1, 2], " must have weight_map, a table of tensors and the files they are in"),
        ({"weight_map": {}}, " must have weight_map, a table of tensors and the files they are in"),
        ({"weight_map": {"conv_in.bias": 3}}, " must have weight_map, a table of tensors and the files they are in"),
        ({"weight_map": {"a": "../other.safetensors"}}, " must list .safetensors files that lie beside it, got '../o"),
        ({"weight_map": {"a": "/etc/passwd"}}, " must list .safetensors files that lie beside it, got '/etc/passwd'"),
        ({"weight_map": {"a": "a\u001b[2J.bin"}}, " must list .safetensors files that lie beside it, got 'a\\x1b[2J"),
        ({"weight_map": {"a": "..\\x.safetensors"}}, " must list .safetensors files that lie beside it, got '..\\\\x"),
        ({"weight_map": {str(n): f"{n}.safetensors" for n in range(101)}}, " must list at most 100 files, got 101"),
    ],
    ids=["list", "empty", "number", "above", "elsewhere", "escape", "backslash", "many"],
)  # fmt: skip
def test_a_list_of_files_that_cannot_be_believed(folder, table, message):
    listed = shard(folder)
    listed.write_text(json.dumps(table))
    assert refusal(folder).startswith(f"{listed}{message}")


def test_files_that_do_not_make_up_a_network(folder):
    listed = shard(folder)
    one, two = files_of(folder)[2:]
    content = two.read_bytes()
    two.write_bytes(one.read_bytes())
    name = sorted(load_file(one))[0]
    assert refusal(folder).startswith(f"{one} and {two} both have ")
    two.unlink()
    assert refusal(folder) == f"cannot read weights: no such file or folder: {two}"
    two.write_bytes(content)
    rest = load_file(one)
    del rest[name]
    save_file(rest, one)
    assert refusal(folder) == f"{listed} does not fit its config.json: missing tensors: 1, first {name}"


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 143\n"


@pytest.mark.parametrize("what", ["weights", "list", "part"])
def test_a_git_lfs_pointer_is_said_to_be_one(folder, what):
    path = folder / WEIGHTS
    if what != "weights":
        shard(folder)
        path = files_of(folder)[1 if what == "list" else 3]
    path.write_bytes(POINTER)
    assert refusal(folder) == (
        f"{path} is a Git LFS pointer, which only says where the file is; fetch it: git lfs pull, in its folder"
    )
