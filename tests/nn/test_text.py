"""The reader of captions: what padding may not do, how it starts, and the U-Net that listens to it."""

import numpy as np
import pytest

from minidiff import backend, gradcheck, ops
from minidiff.autograd import no_grad
from minidiff.errors import MinidiffError
from minidiff.nn import Conditioning, CrossAttention, TextEncoder, UNet, UNetConfig
from minidiff.nn.text import LayerNorm, TransformerBlock
from minidiff.nn.tokenizer import PADDING
from tests.backends import RUN_HERE

READING = UNetConfig(
    8, 8, 3, model_channels=8, channel_mult=(1, 2), attention_at=(4,), heads=2, groups=4, vocab_size=7, max_tokens=4,
    text_width=8, text_layers=1, cross_attention_at=(8, 4),
)  # fmt: skip
CAPTIONS = np.array([[3, 1, 0, 0], [2, 6, 5, 1], [0, 0, 0, 0]])


def encoder(length=4, layers=1):
    return moved(TextEncoder(7, length, 8, layers, 2))


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


def images(n=3):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, 8, 8, 3)).astype(np.float32), np.linspace(1, 900, n, dtype=np.float32)


def test_shapes_and_an_empty_caption(every_backend):
    words, sentence = put(encoder())(CAPTIONS)
    assert words.shape == (3, 4, 8) and sentence.shape == (3, 8)
    assert words.dtype == sentence.dtype == np.float32
    sentence = backend.to_numpy(sentence.data)
    assert not sentence[2].any()
    assert np.abs(sentence[:2]).max() > 0.1
    assert np.isfinite(backend.to_numpy(words.data)).all()


def test_a_sentence_is_the_mean_of_its_words(every_backend):
    words, sentence = (backend.to_numpy(each.data) for each in put(encoder())(CAPTIONS))
    np.testing.assert_allclose(sentence[0], words[0, :2].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(sentence[1], words[1].mean(axis=0), atol=1e-6)


def test_padding_is_not_part_of_the_mean():
    """Change what stands where no word is: without layers, in which words look at it, the sentence does not notice."""
    it = encoder(layers=0)
    before = it(CAPTIONS)[1].data.copy()
    it.token_embedding.table.data[PADDING] *= -5
    it.position_embedding.data[2:] *= -5  # where only the second caption has words
    after = it(CAPTIONS)[1].data
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert np.abs(after[1] - before[1]).max() > 0.1


@pytest.mark.parametrize("layers", [0, 1])
def test_words_look_at_each_other_in_layers_alone(layers):
    it = encoder(layers=layers)
    (one, other) = it(np.array([[3, 1, 0, 0], [3, 6, 0, 0]]))[0].data
    assert np.array_equal(one[0], other[0]) == (layers == 0)
    assert np.abs(one[1] - other[1]).max() > 0.1


def test_a_caption_does_not_see_the_others():
    it = encoder(layers=2)
    words, sentence = it(CAPTIONS)
    for n in range(3):
        alone = it(CAPTIONS[n : n + 1])
        np.testing.assert_allclose(alone[0].data[0], words.data[n], atol=1e-5)  # float32 through two layers
        np.testing.assert_allclose(alone[1].data[0], sentence.data[n], atol=1e-5)


def test_words_and_their_order_matter():
    it = encoder(layers=1)
    first, swapped, other = it(np.array([[3, 1, 0, 0], [1, 3, 0, 0], [3, 2, 0, 0]]))[1].data
    assert np.abs(first - other).max() > 1e-2
    assert np.abs(first - swapped).max() > 1e-3


def test_a_layer_starts_as_the_identity(every_backend):
    layer = TransformerBlock(8, 2).initialize(0)
    x = ops.as_tensor(backend.to_device(np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32)))
    np.testing.assert_array_equal(backend.to_numpy(layer(x).data), backend.to_numpy(x.data))


def test_layer_norm_normalises_each_vector_by_itself(every_backend):
    x = np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32) * 4 + 7
    y = backend.to_numpy(LayerNorm(8).initialize(0)(ops.as_tensor(backend.to_device(x))).data)
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, expected, atol=2e-6)  # float32 at values of two


def test_cross_attention_starts_as_the_identity_and_then_looks(every_backend):
    it = CrossAttention(8, 6, 2, 4).initialize(0)
    rng = np.random.default_rng(0)
    draw = lambda *shape: ops.as_tensor(backend.to_device(rng.standard_normal(shape).astype(np.float32)))
    x, words = draw(2, 4, 4, 8), draw(2, 3, 6)
    np.testing.assert_array_equal(backend.to_numpy(it(x, Conditioning(None, words)).data), backend.to_numpy(x.data))
    put(moved(it))
    one, other = (backend.to_numpy(it(x, Conditioning(None, each)).data) for each in (words, words * 2.0))
    assert one.shape == (2, 4, 4, 8)
    assert np.abs(one - other).max() > 1e-3
    added = backend.to_numpy(it(x, Conditioning(None, words, {it: lambda q: q * 0.0 + 1.0})).data) - one
    w = backend.to_numpy(it.out.w.data)
    np.testing.assert_allclose(added, np.broadcast_to(w.sum(0), added.shape), atol=1e-4)  # out(mixed + 1) - out(mixed)
    with pytest.raises(ValueError, match="CrossAttention: 3 heads do not divide 8 channels"):
        CrossAttention(8, 6, 3, 4)


def test_the_unet_listens_and_none_is_no_words(network_backend):
    net = put(moved(UNet(READING)))
    x, t = images()
    x = backend.to_device(x)
    with no_grad():
        said, other, empty, none = (
            backend.to_numpy(net(x, t, net.condition(len(t), labels)).data)
            for labels in (CAPTIONS, CAPTIONS[[1, 1, 2]], np.zeros_like(CAPTIONS), None)
        )
    np.testing.assert_array_equal(empty, none)
    np.testing.assert_allclose(said[1:], other[1:], atol=1e-5)
    assert np.abs(said[0] - other[0]).max() > 1e-3
    np.testing.assert_allclose(said[2], none[2], atol=1e-5)  # its caption is empty
    assert net.config.null_cond == PADDING


def test_words_reach_the_image_by_both_ways():
    """Through cross-attention at each of its levels, and as a sentence through the embedding of time."""
    x, t = images()
    net = moved(UNet(READING))
    crosses = [module for module in dict(net.named_modules()).values() if isinstance(module, CrossAttention)]
    assert len(crosses) == 2 * (1 + 2) + 2  # down, up and the middle
    for silent in (crosses, [net.text_projection]):
        net = moved(UNet(READING))
        for module in dict(net.named_modules()).values():
            mute = isinstance(module, CrossAttention) if silent is crosses else module is net.text_projection
            if mute:
                for p in (module.out if silent is crosses else module).named_parameters().values():
                    p.data[:] = 0
        with no_grad():
            assert np.abs(net(x, t, net.condition(len(t), CAPTIONS)).data - net(x, t).data)[:2].max() > 1e-4


def test_backends_agree_there_and_back():
    """A whole U-Net with words: its answer and all gradients, on every backend, the emulated GPU's too."""
    x, t = images()
    net, results = moved(UNet(READING)), []
    weights = {name: p.data.copy() for name, p in net.named_parameters().items()}
    for name in RUN_HERE:
        with backend.using(name):
            for key, p in net.named_parameters().items():
                p.data, p.grad = backend.to_device(weights[key]), None
            y = net(backend.to_device(x), t, net.condition(len(t), CAPTIONS))
            ops.mean(ops.square(y - backend.to_device(x))).backward()
            grads = {key: backend.to_numpy(p.grad) for key, p in net.named_parameters().items()}
            results.append({"output": backend.to_numpy(y.data), **grads})
    reference = results[0]
    assert np.abs(reference["text.token_embedding.table"]).max() > 0
    for other in results[1:]:
        assert gradcheck.largest_error(other, reference) < gradcheck.BOUND_FLOAT32


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (dict(max_tokens=0), "captions must be 1 word long or more, got max_tokens 0"),
        (dict(classes=2), "vocab_size or classes must be 0, got 7 and 2"),
        (dict(vocab_size=-1), "vocab_size must be from 0 to 65536, got -1"),
        (dict(text_layers=-1), "text_layers must be from 0 to 64, got -1"),
        (dict(text_width=0), "text_width must be from 1 to 16384, got 0"),
        (dict(text_width=9), "2 heads do not divide the 9 channels of the text"),
        (dict(cross_attention_at=(5,)), r"no level has height 5; the heights are \[8, 4\]"),
    ],
)
def test_bad_shapes_are_one_line(wrong, line):
    with pytest.raises(MinidiffError, match=line) as error:
        UNetConfig(**{**vars(READING), **wrong})
    assert "\n" not in str(error.value)
