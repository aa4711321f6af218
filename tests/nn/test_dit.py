"""The transformer: how it starts, what its patches know of each other, and the lines that bad shapes get."""

import numpy as np
import pytest

from minidiff import backend, gradcheck, ops
from minidiff.autograd import no_grad
from minidiff.errors import MinidiffError
from minidiff.graphed import Graphed
from minidiff.nn import Conditioning, CrossAttention, DiT, DiTBlock, DiTConfig, on_attention, sinusoidal
from minidiff.nn import dit as dit_module
from minidiff.nn.dit import positions, vectors
from minidiff.nn.tokenizer import PADDING
from minidiff.nn.unet import depth_to_space, space_to_depth
from tests.backends import RUN_HERE

TINY = DiTConfig(8, 12, 3, patch=4, hidden_size=16, num_layers=2, heads=2, classes=3)
READING = DiTConfig(
    8, 8, 3, patch=2, hidden_size=16, num_layers=2, heads=2, vocab_size=7, max_tokens=4, text_width=8, text_layers=1
)
CAPTIONS = np.array([[3, 1, 0, 0], [2, 6, 5, 1], [0, 0, 0, 0]])


def images(config, n=3):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, config.height, config.width, config.channels)).astype(np.float32)
    return x, np.linspace(1, 900, n, dtype=np.float32)


def moved(module):
    """A module away from its zeros, on the host."""
    with backend.using("numpy"):
        module.initialize(0)
    rng = np.random.default_rng(1)
    for p in module.named_parameters().values():
        p.data += (0.1 * rng.standard_normal(p.shape)).astype(np.float32)
    return module


def put(module):
    """The same module on the backend in use."""
    for p in module.named_parameters().values():
        p.data = backend.to_device(backend.to_numpy(p.data))
    return module


def answer(net, x, t, labels=None):
    with no_grad():
        return backend.to_numpy(net(backend.to_device(x), t, net.condition(len(t), labels)).data)


# ---- how it starts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "channels", "patch"), [(8, 8, 1, 4), (8, 12, 3, 4), (3, 2, 1, 1), (28, 28, 1, 4)]
)
def test_it_begins_with_zeros_at_any_size_that_its_patches_divide(network_backend, height, width, channels, patch):
    config = DiTConfig(height, width, channels, patch, hidden_size=16, num_layers=1, heads=2)
    net = DiT(config).initialize(0)
    x, t = images(config, 2)
    x = backend.to_device(x)
    y = net(x, t)
    assert y.shape == x.shape and y.dtype == np.float32
    assert not backend.to_numpy(y.data).any()
    ops.mean(ops.square(y - x)).backward()
    assert np.abs(backend.to_numpy(net.linear_out.w.grad)).max() > 0


@pytest.mark.parametrize("text_width", [0, 6])
def test_a_block_begins_as_the_identity(every_backend, text_width):
    block = DiTBlock(16, 2, text_width).initialize(0)
    rng = np.random.default_rng(0)
    draw = lambda *shape: ops.as_tensor(backend.to_device(rng.standard_normal(shape).astype(np.float32)))
    x, emb, cond = draw(2, 3, 2, 16), draw(2, 16), Conditioning(None, draw(2, 5, 6))
    np.testing.assert_array_equal(backend.to_numpy(block(x, emb, cond).data), backend.to_numpy(x.data))
    put(moved(block))
    assert np.abs(backend.to_numpy((block(x, emb, cond) - x).data)).max() > 0.1


def test_gates_learn_first_and_then_what_they_let_through():
    """Each step of plain gradient descent reaches one layer of zeros more; none is stuck."""
    with backend.using("numpy"):
        net = DiT(TINY).initialize(0, np.float64)
        x, t = images(TINY)
        learns = []
        for _ in range(3):
            for p in net.named_parameters().values():
                p.grad = None
            y = net(x.astype(np.float64), t, net.condition(3, np.array([0, 1, 2])))
            ops.mean(ops.square(y - x.astype(np.float64))).backward()
            parameters = net.named_parameters().items()
            learns.append({name for name, p in parameters if p.grad is not None and p.grad.any()})
            for _, p in parameters:
                p.data = p.data if p.grad is None else p.data - 0.1 * p.grad
    everything = set(net.named_parameters())
    assert learns[0] == {"linear_out.w", "linear_out.b"}
    second = {name for name in everything if name.startswith(("linear_", "norm.", "modulation."))}
    assert learns[1] == second | {f"blocks.{i}.modulation.{p}" for i in range(2) for p in "wb"}
    assert learns[2] == everything


def test_in_the_second_step_only_gates_of_a_block_learn():
    with backend.using("numpy"):
        net = DiT(TINY).initialize(0)
        net.linear_out.w.data = np.random.default_rng(0).standard_normal(net.linear_out.w.shape).astype(np.float32)
        x, t = images(TINY)
        ops.mean(ops.square(net(x, t) - x)).backward()
    shift1, scale1, gate1, shift2, scale2, gate2 = np.split(net.blocks[0].modulation.b.grad, 6)
    assert np.abs(gate1).min() > 0 and np.abs(gate2).min() > 0
    assert not any(part.any() for part in (shift1, scale1, shift2, scale2))


def test_same_seed_same_network_other_seed_another():
    a, b, c = (DiT(TINY).initialize(seed).named_parameters() for seed in (0, 0, 1))
    for name in a:
        np.testing.assert_array_equal(a[name].data, b[name].data)
    assert any((a[name].data != c[name].data).any() for name in a)
    assert DiT(TINY).count_parameters() == sum(p.data.size for p in a.values())


# ---- gradients and backends -----------------------------------------------------------------------------------------

CASES = [case for case in gradcheck.cases() if case.name.startswith("Transformer")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_all_gradients_are_those_of_central_differences(case):
    """In float64, for each parameter and the image by itself; the bound and its reason are gradcheck's."""
    error, right = gradcheck.check(case, "numpy")
    assert right, error
    names = {name.split(".")[0] for name in case.inputs}
    assert {"input 0", "embedding", "linear_in", "blocks", "norm", "modulation", "linear_out"} <= names


def test_there_are_two_cases():
    assert len(CASES) == 2


@pytest.mark.parametrize("config", [TINY, READING], ids=["labels", "captions"])
def test_backends_agree_there_and_back(config):
    """The output and all gradients on every backend, the emulated GPU's too; the bound is gradcheck's for float32."""
    x, t = images(config)
    net, results = moved(DiT(config)), []
    labels = CAPTIONS if config.vocab_size else np.array([0, 2, 3])
    weights = {name: p.data.copy() for name, p in net.named_parameters().items()}
    for name in RUN_HERE:
        with backend.using(name):
            for key, p in net.named_parameters().items():
                p.data, p.grad = backend.to_device(weights[key]), None
            y = net(backend.to_device(x), t, net.condition(len(t), labels))
            ops.mean(ops.square(y - backend.to_device(x))).backward()
            gradients = {key: backend.to_numpy(p.grad) for key, p in net.named_parameters().items()}
            results.append({"output": backend.to_numpy(y.data), **gradients})
    for other in results[1:]:
        assert gradcheck.largest_error(other, results[0]) < gradcheck.BOUND_FLOAT32


@pytest.mark.parametrize("config", [TINY, READING], ids=["labels", "captions"])
def test_it_is_replayed(config, capsys):
    x, t = images(config)
    with backend.using("numba"):
        net = put(moved(DiT(config)))
        with no_grad():
            cond = net.condition(len(t), CAPTIONS if config.vocab_size else np.array([0, 2, 3]))
            replayed = Graphed(lambda x, t: (net(x, t, cond).data,))
            for i in range(6):
                np.testing.assert_array_equal(replayed(x + i, t)[0], net(x + i, t, cond).data)
    assert all(state.graph is not None for state in replayed.states.values()) and replayed.states
    assert capsys.readouterr().err == ""


# ---- patches and their places ---------------------------------------------------------------------------------------


def exchanged(x, order, patch):
    """Put the patches of images (N, H, W, C) into another order."""
    parts = space_to_depth(ops.as_tensor(x), patch).data
    n, h, w, c = parts.shape
    return depth_to_space(ops.as_tensor(parts.reshape(n, h * w, c)[:, order].reshape(parts.shape)), patch).data


@pytest.mark.parametrize("config", [TINY, READING], ids=["labels", "captions"])
def test_without_places_exchanged_patches_give_exchanged_results(config, monkeypatch):
    x, t = images(config)
    net, labels = moved(DiT(config)), CAPTIONS if config.vocab_size else np.array([0, 2, 3])
    order = np.random.default_rng(3).permutation(config.tokens)
    with backend.using("numpy"):
        before, after = answer(net, x, t, labels), answer(net, exchanged(x, order, config.patch), t, labels)
        assert np.abs(after - exchanged(before, order, config.patch)).max() > 0.01  # a place matters
        monkeypatch.setattr(dit_module, "positions", lambda h, w, size, dtype: np.zeros((h, w, size), dtype))
        before, after = answer(net, x, t, labels), answer(net, exchanged(x, order, config.patch), t, labels)
    # sums over patches in another order: float32's rounding through two blocks
    np.testing.assert_allclose(after, exchanged(before, order, config.patch), atol=2e-5 * np.abs(before).max())


def test_a_patch_sees_all_others():
    config = DiTConfig(8, 12, 1, patch=4, hidden_size=16, num_layers=1, heads=2)
    net = moved(DiT(config))
    x, t = images(config, 1)
    with backend.using("numpy"):
        before = answer(net, x, t)
        x[0, 0, 0] += 5
        changed = space_to_depth(ops.as_tensor(answer(net, x, t) - before), 4).data
    assert np.abs(changed).max(axis=(0, 3)).min() > 1e-4


def test_positions_are_waves_of_row_and_column(every_backend):
    places = backend.to_numpy(positions(3, 5, 16, np.float32))
    assert places.shape == (3, 5, 16) and places.dtype == np.float32
    waves = sinusoidal(backend.to_device(np.arange(5, dtype=np.float32)), 8)
    waves = backend.to_numpy(waves)
    for row in range(3):
        for column in range(5):
            expected = np.concatenate([waves[row], waves[column]])
            np.testing.assert_allclose(places[row, column], expected, atol=1e-6)  # float32, of numbers up to 1


def test_a_row_is_cut_into_vectors():
    parts = vectors(ops.as_tensor(np.arange(12.0).reshape(2, 6)), 3)
    assert [part.shape for part in parts] == [(2, 1, 1, 2)] * 3
    np.testing.assert_array_equal(parts[1].data.reshape(2, 2), [[2, 3], [8, 9]])


def test_images_do_not_see_each_other():
    net = moved(DiT(TINY))
    x, t = images(TINY)
    together, alone = answer(net, x, t), answer(net, x[1:2], t[1:2])
    # the same arithmetic in another order of summation: float32 rounding through two blocks
    np.testing.assert_allclose(together[1:2], alone, atol=2e-5 * np.abs(together).max())


# ---- what the images are to show ------------------------------------------------------------------------------------


def test_labels_and_times_matter_and_no_label_is_the_last_row():
    net = moved(DiT(TINY))
    x, t = images(TINY, 2)
    y = answer(net, x, t, np.array([0, 1]))
    other = answer(net, x, t, np.array([0, 2]))
    assert np.abs(other[1] - y[1]).max() > 1e-3
    np.testing.assert_allclose(other[0], y[0], atol=1e-6)
    assert np.abs(answer(net, x, t + 100, np.array([0, 1])) - y).max() > 1e-3
    np.testing.assert_array_equal(answer(net, x, t), answer(net, x, t, np.array([3, 3])))


def test_it_reads_captions_and_none_is_no_words(network_backend):
    net = put(moved(DiT(READING)))
    x, t = images(READING)
    said, other, empty, none = (
        answer(net, x, t, labels) for labels in (CAPTIONS, CAPTIONS[[1, 1, 2]], np.zeros_like(CAPTIONS), None)
    )
    np.testing.assert_array_equal(empty, none)
    np.testing.assert_allclose(said[1:], other[1:], atol=1e-5)
    assert np.abs(said[0] - other[0]).max() > 1e-3
    np.testing.assert_allclose(said[2], none[2], atol=1e-5)  # its caption is empty
    assert net.config.null_cond == PADDING


@pytest.mark.parametrize("way", ["words", "the whole caption"])
def test_words_reach_the_image_by_both_ways(way):
    x, t = images(READING)
    net = moved(DiT(READING))
    layers = [module for _, module in net.named_modules() if isinstance(module, CrossAttention)]
    assert len(layers) == READING.num_layers
    for silent in [layer.out for layer in layers] if way == "the whole caption" else [net.text_projection]:
        for p in silent.named_parameters().values():
            p.data[:] = 0
    assert np.abs(answer(net, x, t, CAPTIONS) - answer(net, x, t))[:2].max() > 1e-4


def test_attention_to_words_can_be_watched():
    x, t = images(READING)
    net, seen = moved(DiT(READING)), []
    with on_attention(net, seen.append):
        answer(net, x, t, CAPTIONS)
    assert [weights.shape for weights in seen] == [(3, 2, 4, 4, 4)] * 2
    np.testing.assert_allclose(seen[0].sum(axis=-1), 1, atol=1e-6)


# ---- lines ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (dict(height=30), r"patches of 4×4 need a height and a width that 4 divides \(4, 8, 12, …\), got 30×32"),
        (dict(width=34, patch=3), r"patches of 3×3 need .* that 3 divides \(3, 6, 9, …\), got 32×34"),
        (dict(hidden_size=12), "hidden_size must be a number that 8 divides, 16 or more, got 12"),
        (dict(hidden_size=8), "hidden_size must be a number that 8 divides, 16 or more, got 8"),
        (dict(heads=3), "3 heads do not divide a hidden_size of 160"),
        (dict(num_layers=0), "num_layers must be from 1 to 256, got 0"),
        (dict(num_layers=10**9), "num_layers must be from 1 to 256, got 1000000000"),
        (dict(patch=0), "patch must be from 1 to 64, got 0"),
        (dict(classes=-1), "classes must be from 0 to 65536, got -1"),
        (dict(vocab_size=5), "captions must be 1 word long or more, got max_tokens 0"),
        (dict(vocab_size=5, max_tokens=3, classes=2), "vocab_size or classes must be 0, got 5 and 2"),
        (dict(vocab_size=5, max_tokens=3, text_width=9), "4 heads do not divide the 9 channels of the text"),
    ],
)
def test_bad_shapes_are_one_line(wrong, line):
    with pytest.raises(MinidiffError, match=f"^transformer: {line}") as error:
        DiTConfig(**wrong)
    assert "\n" not in str(error.value)


def test_wrong_images_are_refused():
    net = DiT(TINY).initialize(0)
    with pytest.raises(ValueError, match=r"transformer: expected images of \(8, 12, 3\) .* got \(12, 8, 3\)"):
        net(np.zeros((1, 12, 8, 3), np.float32), np.zeros(1, np.float32))
