"""Classifier-free guidance: the algebra, one batch for both questions, none when none is needed."""

from types import SimpleNamespace

import numpy as np
import pytest

from minidiff import ops
from minidiff.autograd import Tensor
from minidiff.diffusion.guidance import denoiser
from minidiff.diffusion.process import TARGETS, Process
from minidiff.diffusion.schedule import make_schedule
from minidiff.errors import MinidiffError


class Labelled:
    """A network whose answer tells what it was asked: x + 10 label + t / 1000; counts its calls."""

    config = SimpleNamespace(classes=3)

    def __init__(self):
        self.calls = []

    def __call__(self, x, t, labels):
        self.calls.append((len(x), labels))
        bias = np.zeros(len(x)) if labels is None else 10.0 * labels
        y = Tensor(x + (bias + t / 1000).reshape(-1, 1, 1, 1).astype(np.float32), requires_grad=True)
        return y * 1.0


X = np.random.default_rng(0).standard_normal((2, 2, 2, 1)).astype(np.float32)
LABELS = np.array([0, 2])


class Convolving:
    """A network of one convolution, large enough for its filter to be kept as Winograd's way uses it."""

    config = SimpleNamespace(classes=3)

    def __init__(self, seed):
        self.w = Tensor(np.random.default_rng(seed).standard_normal((3, 3, 8, 8)).astype(np.float32))

    def __call__(self, x, t, labels):
        return ops.conv2d(Tensor(x), self.w)


def test_denoisers_do_not_mix_their_filters(each_backend):
    """What the first keeps of its filter is its own, however often the two take turns; nothing stays outside."""
    x = np.random.default_rng(0).standard_normal((4, 8, 8, 8)).astype(np.float32)
    models = [Convolving(1), Convolving(2)]
    plain = [model(x, None, None).data for model in models]
    denoisers = [denoiser(models[0]), denoiser(models[1], np.zeros(4, np.int64), 1.0)]
    for _ in range(3):
        for denoise, y in zip(denoisers, plain):
            assert np.array_equal(denoise(x, 5), y)
    models[0].w.data *= 2  # training goes on: a new denoiser sees it
    assert np.abs(denoiser(models[0])(x, 5) - 2 * plain[0]).max() < 1e-4
    assert np.array_equal(denoisers[1](x, 5), plain[1])


def answer(labels, t=500):
    return X + (10.0 * np.asarray(labels) + t / 1000).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0, 7.5])
def test_guided_is_uncond_plus_scale_times_difference(scale):
    model = Labelled()
    y = denoiser(model, LABELS, scale)(X, 500)
    uncond, cond = answer([3, 3]), answer(LABELS)
    assert np.abs(y - (uncond + scale * (cond - uncond))).max() < 1e-4  # float32 at about 200
    assert y.dtype == np.float32
    assert [n for n, _ in model.calls] == [4]  # both questions in one batch


def test_scale_one_asks_only_with_the_label():
    model = Labelled()
    assert np.abs(denoiser(model, LABELS, 1.0)(X, 500) - answer(LABELS)).max() < 1e-5
    assert [n for n, _ in model.calls] == [2]


def test_without_labels_none_are_asked():
    model = Labelled()
    denoiser(model)(X, 0)
    assert model.calls == [(2, None)]


def test_nothing_is_recorded():
    """The answer is an array, and no tape holds the network's intermediate results."""
    assert isinstance(denoiser(Labelled(), LABELS, 3.0)(X, 1), np.ndarray)


def test_guidance_without_labels_is_a_mistake():
    with pytest.raises(
        MinidiffError, match=r"^guidance_scale 3 needs labels to guide towards; without labels it is 1$"
    ):
        denoiser(Labelled(), None, 3.0)


@pytest.mark.parametrize("target", TARGETS)
def test_guiding_any_target_is_guiding_eps(target):
    process = Process(make_schedule("cosine"), target)
    rng = np.random.default_rng(1)
    x_t, cond, uncond = rng.standard_normal((3, 2, 4, 4, 1))
    alpha_bar, scale = process.schedule.alpha_bar[300], 3.0
    _, eps_cond = process.to_x0_eps(cond, x_t, alpha_bar)
    _, eps_uncond = process.to_x0_eps(uncond, x_t, alpha_bar)
    _, eps = process.to_x0_eps(uncond + scale * (cond - uncond), x_t, alpha_bar)
    assert np.abs(eps - (eps_uncond + scale * (eps_cond - eps_uncond))).max() < 1e-12
