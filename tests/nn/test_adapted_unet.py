"""What drawings and references add: nothing at first, and afterwards what was learnt; the denoiser itself stays."""

import numpy as np
import pytest

from minidiff import backend, ops
from minidiff.nn import UNet, UNetConfig
from minidiff.nn.adapted_unet import AdaptedUNet, ControlInput, ReferenceInput
from minidiff.nn.controlnet import ControlNet
from minidiff.nn.ip_adapter import IPAdapter, cross_attention_layers

SHAPE = UNetConfig(
    8, 8, 3, patch=2, model_channels=8, channel_mult=(1, 2), attention_at=(2,), heads=2, groups=4,
    vocab_size=7, max_tokens=5, text_width=8, text_layers=1, cross_attention_at=(4, 2),
)  # fmt: skip
N = 3


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def stirred(module, seed):
    """Initialise, then leave no weight at zero: an untrained network's last layers are."""
    module.initialize(seed)
    for i, parameter in enumerate(module.named_parameters().values()):
        parameter.data += backend.to_device(0.1 * random(*parameter.shape, seed=100 * seed + i))
    return module


@pytest.fixture
def unet(network_backend):
    return stirred(UNet(SHAPE), 1)


@pytest.fixture
def question():
    """x_t, t and captions."""
    return backend.to_device(random(N, 8, 8, 3)), np.array([1, 400, 999], np.float32), np.array([[1, 2, 0, 0, 0]] * N)


def drawn(unet, seed=None, scale=1.0):
    net = ControlNet(unet, 1)
    net.initialize(2)
    net.copy_weights(unet)
    if seed is not None:
        stirred(net, seed)
    return ControlInput(net, np.abs(random(N, 8, 8, 1, seed=5)).clip(0, 1), scale)


def referred(unet, seed=None, scale=1.0):
    net = IPAdapter(unet)
    net.initialize(3)
    if seed is not None:
        stirred(net, seed)
    return ReferenceInput(net, random(N, 8, 8, 3, seed=6).clip(-1, 1), scale)


def ask(model, question):
    x, t, captions = question
    return model(x, t, model.condition(len(t), captions))


def answer(model, question):
    return backend.to_numpy(ask(model, question).data)


def test_untrained_adapters_add_nothing_to_the_bit(unet, question):
    plain = answer(unet, question)
    assert np.abs(plain).max() > 0.1
    for steered in (AdaptedUNet(unet), AdaptedUNet(unet, drawn(unet)), AdaptedUNet(unet, None, referred(unet))):
        assert np.array_equal(answer(steered, question), plain)
    assert np.array_equal(answer(AdaptedUNet(unet, drawn(unet), referred(unet)), question), plain)


@pytest.mark.parametrize("make", [drawn, referred])
def test_trained_ones_add_what_the_scale_says(unet, question, make):
    place = 1 if make is drawn else 2

    def steered(scale):
        return AdaptedUNet(unet, **{("control", "reference")[place - 1]: make(unet, 4, scale)})

    plain, none, some, much = (answer(model, question) for model in (unet, steered(0.0), steered(0.5), steered(1.0)))
    assert np.array_equal(none, plain)
    few, many = np.abs(some - plain).mean(), np.abs(much - plain).mean()
    assert 1e-3 < few < many


def test_a_image_is_shown_its_own_drawing_and_reference(unet, question):
    """Another drawing beside the second image changes the second answer, and no other."""
    a, b = drawn(unet, 4), referred(unet, 4)
    before = answer(AdaptedUNet(unet, a, b), question)
    for changed in (a.drawing, b.image):
        changed[1] = -changed[1] * 0.5
        after = answer(AdaptedUNet(unet, a, b), question)
        assert [np.abs(after[n] - before[n]).max() > 1e-4 for n in range(N)] == [False, True, False]
        before = after


def test_fewer_questions_than_images_take_the_first_ones(unet, question):
    x, t, words = question
    model = AdaptedUNet(unet, drawn(unet, 4), referred(unet, 4))
    one = answer(model, (x[:1], t[:1], words[:1]))
    np.testing.assert_allclose(one, answer(model, question)[:1], atol=2e-5)


def test_unconditional_rows_see_the_drawing_and_no_reference(unet, question):
    """As guidance asks: all rows twice, of which the second N are without the reference."""
    x, t, words = question
    xp = backend.current().xp
    model = AdaptedUNet(unet, drawn(unet, 4), referred(unet, 4))
    cond = model.condition(2 * N, np.concatenate([words, words]), np.arange(2 * N) < N)
    both = backend.to_numpy(model(xp.concatenate([x, x]), np.concatenate([t, t]), cond).data)
    np.testing.assert_allclose(both[:N], answer(model, question), atol=2e-5)
    np.testing.assert_allclose(both[N:], answer(AdaptedUNet(unet, drawn(unet, 4)), question), atol=2e-5)


@pytest.mark.parametrize("make", [drawn, referred])
def test_gradients_reach_all_of_the_adapter_and_nothing_of_the_denoiser(unet, question, make):
    for parameter in unet.named_parameters().values():
        parameter.requires_grad = False
    what = make(unet, 4)
    steered = AdaptedUNet(unet, control=what) if make is drawn else AdaptedUNet(unet, reference=what)
    ops.mean(ops.square(ask(steered, question))).backward()
    assert all(parameter.grad is None for parameter in unet.named_parameters().values())
    for name, parameter in what.net.named_parameters().items():
        assert parameter.grad is not None, name
        if "embedding" not in name and ".k.b" not in name:  # one number added to all scores changes no softmax
            assert float(abs(parameter.grad).max()) > 0, name


def test_a_controlnet_begins_as_the_encoder(unet):
    net = drawn(unet).net
    theirs = unet.named_parameters()
    same = [name for name in net.named_parameters() if name in theirs]
    assert {name.split(".")[0] for name in same} == {"conv_in", "down", "middle"}
    for name in same:
        ours = net.named_parameters()[name].data
        assert bool((ours == theirs[name].data).all()) and ours is not theirs[name].data


def test_a_look_for_every_cross_attention(unet):
    assert len(referred(unet).net.cross_attentions) == len(cross_attention_layers(unet)) == 8
    names = [name for name, module in unet.named_modules() if module in cross_attention_layers(unet)]
    assert all(name.endswith(".cross_attention") for name in names)


def test_all_backends_agree(every_backend, question):
    unet = stirred(UNet(SHAPE), 1)
    found = answer(AdaptedUNet(unet, drawn(unet, 4), referred(unet, 4)), question)
    with backend.using("numpy"):
        unet = stirred(UNet(SHAPE), 1)
        x, t, words = question
        steered = AdaptedUNet(unet, drawn(unet, 4), referred(unet, 4))
        expected = answer(steered, (backend.to_numpy(x), t, words))
    np.testing.assert_allclose(found, expected, atol=1e-4)
