"""Networks of diffusers' and of ours, against the outputs that diffusers gave for the same weights."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from minidiff import backend
from minidiff.autograd import Tensor, no_grad
from minidiff.errors import MinidiffError
from minidiff.gradcheck import Case, check
from minidiff.interop import load_diffusers, save_as_diffusers
from minidiff.interop.unet2d import HalveAfter
from minidiff.nn import UNetConfig
from tests.interop.foreign import (
    BOUND,
    OURS,
    PLAIN,
    THEIRS,
    golden,
    inputs,
    our_network,
    relative,
    size_of,
    their_weights,
    write_folder,
)

WEIGHTS = "diffusion_pytorch_model.safetensors"


def output(model):
    c = model.config
    x, t = inputs(c.height, c.width, c.channels)
    with no_grad():
        return backend.to_numpy(model(backend.to_device(x), t).data)


@pytest.fixture
def folder(tmp_path):
    """A small network as diffusers saves it."""
    options, shapes, _ = golden("theirs", "plain")
    return write_folder(tmp_path / "net", options, their_weights(shapes))


@pytest.mark.parametrize("name", THEIRS)
def test_their_networks(name, tmp_path, native_backend):
    options, shapes, expected = golden("theirs", name)
    model = load_diffusers(write_folder(tmp_path, options, their_weights(shapes)))
    assert (model.config.height, model.config.width, model.config.null_cond) == (*size_of(options), 0)
    assert model.count_parameters() == sum(int(np.prod(shape)) for shape in shapes.values())
    assert relative(output(model), expected) < BOUND


@pytest.mark.parametrize("name", OURS)
def test_our_networks(name, tmp_path, native_backend):
    """What was written when diffusers gave this output is what is written now, and ours computes the same."""
    options, shapes, expected = golden("ours", name)
    model = our_network(OURS[name])
    assert relative(output(model), expected) < BOUND
    save_as_diffusers(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == options
    assert {key: list(array.shape) for key, array in load_file(tmp_path / WEIGHTS).items()} == shapes
    np.testing.assert_array_equal(output(load_diffusers(tmp_path)), output(model))


def test_a_pipeline_and_a_single_file(folder):
    expected = output(load_diffusers(folder))
    np.testing.assert_array_equal(output(load_diffusers(folder / WEIGHTS)), expected)
    folder.rename(folder.with_name("unet"))
    np.testing.assert_array_equal(output(load_diffusers(folder.parent)), expected)


def test_a_precision_variant_by_its_name(folder):
    expected = output(load_diffusers(folder))
    (folder / WEIGHTS).rename(folder / "diffusion_pytorch_model.fp16.safetensors")
    np.testing.assert_array_equal(output(load_diffusers(folder / "diffusion_pytorch_model.fp16.safetensors")), expected)


@pytest.mark.parametrize("convolutions", [False, True], ids=["linear", "1×1 convolutions"])
def test_early_names_of_attention(folder, convolutions):
    expected, tensors = output(load_diffusers(folder)), load_file(folder / WEIGHTS)
    for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
        for name in [name for name in tensors if f".{new}." in name]:
            array = tensors.pop(name)
            tensors[name.replace(new, old)] = array[:, :, None, None] if convolutions and array.ndim == 2 else array
    assert any("proj_attn" in name for name in tensors)
    save_file(tensors, folder / WEIGHTS)
    options = json.loads((folder / "config.json").read_text())
    for name in ("down_block_types", "up_block_types"):  # as early files write them
        options[name] = [f"UNetRes{kind}" for kind in options[name]]
    (folder / "config.json").write_text(json.dumps(options))
    np.testing.assert_array_equal(output(load_diffusers(folder)), expected)


def test_half_precision(folder):
    tensors = load_file(folder / WEIGHTS)
    halves = {name: array.astype(np.float16) for name, array in tensors.items()}
    save_file({name: array.astype(np.float32) for name, array in halves.items()}, folder / WEIGHTS)
    expected = output(load_diffusers(folder))
    save_file(halves, folder / WEIGHTS)
    np.testing.assert_array_equal(output(load_diffusers(folder)), expected)


def test_bfloat16(folder):
    tensors = load_file(folder / WEIGHTS)
    upper = {name: array.view(np.uint32) >> 16 for name, array in tensors.items()}
    save_file({name: (bits << 16).view(np.float32) for name, bits in upper.items()}, folder / WEIGHTS)
    expected = output(load_diffusers(folder))
    save_file({name: bits.astype(np.uint16) for name, bits in upper.items()}, folder / WEIGHTS)
    content = (folder / WEIGHTS).read_bytes()
    length = 8 + int.from_bytes(content[:8], "little")
    header = content[8:length].replace(b'"U16"', b'"BF16"')
    (folder / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + content[length:])
    np.testing.assert_array_equal(output(load_diffusers(folder)), expected)


def test_images_of_another_size(folder):
    assert load_diffusers(folder, size=(8, 12))(np.zeros((1, 8, 12, 3), np.float32), np.ones(1)).shape == (1, 8, 12, 3)
    with pytest.raises(MinidiffError, match=r"sample_size: 2 levels need .* that 2 divides, got 8×13$"):
        load_diffusers(folder, size=(8, 13))
    model = load_diffusers(folder)
    with pytest.raises(
        ValueError, match=r"expected images of \(16, 16, 3\) \(height, width, channels\), got \(8, 8, 3\)"
    ):
        model(np.zeros((1, 8, 8, 3), np.float32), np.ones(1))
    with pytest.raises(ValueError, match="knows no labels"):
        model.condition(1, np.zeros(1, int))


def test_where_no_size_is_said(tmp_path):
    _, shapes, _ = golden("theirs", "plain")
    write_folder(tmp_path, PLAIN | {"sample_size": None}, their_weights(shapes))
    with pytest.raises(MinidiffError, match=r"sample_size is null, so how large its images are is not known; write"):
        load_diffusers(tmp_path)
    assert load_diffusers(tmp_path, size=(4, 6)).config.width == 6


def test_halving_has_the_right_gradient():
    """Rows and columns of zeros come in and go out again: central differences in float64 see each."""
    rng = np.random.default_rng(0)
    with backend.using("numpy"):
        layer = HalveAfter(3)
        parameters = layer.named_parameters()
        for parameter in parameters.values():
            parameter.data = rng.standard_normal(parameter.planned_shape)
        x = Tensor(rng.standard_normal((2, 6, 4, 3)), requires_grad=True)
        case = Case("HalveAfter", lambda: layer(x), {"x": x, **parameters})
        assert check(case, "numpy")[1]
        padded = np.pad(x.data, ((0, 0), (0, 1), (0, 1), (0, 0)))
        w, b = (parameters[name].data for name in ("w", "b"))
        expected = sum(padded[:, i : i + 5 : 2, j : j + 3 : 2] @ w[i, j] for i in range(3) for j in range(3)) + b
        assert np.abs(layer(x).data - expected).max() < 1e-12  # float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch": 2}, "diffusers has no network that sees patches of 2×2; train with --patch 1"),
        ({"classes": 3}, "only networks without labels are written for diffusers, this one knows 3; train with "
                         "--data folder and without --folder-labels"),
        ({"channel_mult": (2, 4)}, "the sinusoidal time embedding of diffusers is as wide as level 0, that of "
                                   "minidiff as model_channels, 8; train with a --channel-mult that begins with 1, "
                                   "not 2"),
        ({"groups": 16}, "diffusers has one number of groups for all levels, this network has 8 or 16; "
                         "train with --groups 8"),
        ({"attention_at": (16, 8), "heads": 2}, "diffusers has one head width for all levels, this network has 4 "
                                                "or 8; train with --heads 1, or with --attention-at at one level"),
    ],
    ids=["patch", "classes", "channel_mult", "groups", "heads"],
)  # fmt: skip
def test_what_diffusers_cannot_say(change, message, tmp_path):
    options = {
        "height": 16,
        "width": 16,
        "model_channels": 8,
        "channel_mult": (1, 2),
        "attention_at": (8,),
        "heads": 1,
    } | change
    with pytest.raises(MinidiffError) as error:
        save_as_diffusers(our_network(UNetConfig(**options)), tmp_path / "new")
    assert str(error.value) == message
    assert not (tmp_path / "new").exists()
