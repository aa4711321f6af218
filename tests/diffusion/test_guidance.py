"""Classifier-free guidance: the algebra, one batch for both questions, none when none is needed."""

from types import SimpleNamespace

import numpy as np
import pytest

from minidiff import backend, ops
from minidiff.autograd import Tensor
from minidiff.diffusion.guidance import denoiser
from minidiff.diffusion.process import TARGETS
from minidiff.errors import MinidiffError
from tests.diffusion.known import process_of


class Labelled:
    """A network whose answer tells what it was asked: x + 10 label + t / 1000; remembers its calls."""

    config = SimpleNamespace(null_cond=3)

    def __init__(self):
        self.calls = []

    def condition(self, n, labels=None, with_cond=None):
        return labels

    def __call__(self, x, t, labels):
        t = backend.to_numpy(t)
        self.calls.append((len(x), t, labels))
        bias = np.zeros(len(x)) if labels is None else 10.0 * labels
        added = backend.to_device((bias + t / 1000).reshape(-1, 1, 1, 1).astype(np.float32))
        return Tensor(x + added, requires_grad=True) * 1.0


class Convolving:
    """A network of one convolution, large enough for its filter to be kept as Winograd's way uses it."""

    config = SimpleNamespace(null_cond=3)

    def __init__(self, seed):
        w = np.random.default_rng(seed).standard_normal((3, 3, 8, 8)).astype(np.float32)
        self.w = Tensor(backend.to_device(w))

    def condition(self, n, labels=None, with_cond=None):
        return labels

    def __call__(self, x, t, labels):
        return ops.conv2d(Tensor(x), self.w)


X = np.random.default_rng(0).standard_normal((2, 2, 2, 1)).astype(np.float32)
LABELS = np.array([0, 2])


def answer(labels, t=500.25):
    return X + (10.0 * np.asarray(labels) + t / 1000).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0, 7.5])
def test_guided_is_uncond_plus_scale_times_difference(every_backend, scale):
    model = Labelled()
    y = denoiser(model, LABELS, scale)(backend.to_device(X), 500.25)
    uncond, cond = answer([3, 3]), answer(LABELS)
    assert np.abs(backend.to_numpy(y) - (uncond + scale * (cond - uncond))).max() < 1e-4  # float32 at about 200
    assert y.dtype == np.float32
    assert [n for n, _, _ in model.calls] == [4]  # both questions in one batch
    assert model.calls[0][1].dtype == np.float32
    assert np.array_equal(model.calls[0][1], np.full(4, 500.25))  # one t for each, maybe between the times


def test_scale_one_asks_only_with_the_label(every_backend):
    model = Labelled()
    y = denoiser(model, LABELS, 1.0)(backend.to_device(X), 500.25)
    assert np.abs(backend.to_numpy(y) - answer(LABELS)).max() < 1e-5
    assert [n for n, _, _ in model.calls] == [2]


def test_without_labels_none_are_asked(every_backend):
    model = Labelled()
    denoiser(model)(backend.to_device(X), 0)
    assert [(n, labels) for n, _, labels in model.calls] == [(2, None)]


def test_nothing_is_recorded(every_backend):
    """The answer is an array, and no tape holds the network's intermediate results."""
    assert not isinstance(denoiser(Labelled(), LABELS, 3.0)(backend.to_device(X), 1), Tensor)


def test_guidance_without_labels_is_a_mistake():
    with pytest.raises(
        MinidiffError, match=r"^guidance_scale 3 needs labels to guide towards; without labels it is 1$"
    ):
        denoiser(Labelled(), None, 3.0)


class Reading(Labelled):
    """The same for captions (N, L): a caption counts as much as its words' numbers together; 0 is no word."""

    config = SimpleNamespace(null_cond=0)

    def condition(self, n, labels=None, with_cond=None):
        return labels

    def __call__(self, x, t, labels):
        assert labels.ndim == 2
        return super().__call__(x, t, labels.sum(axis=1))


CAPTIONS, AWAY = np.array([[1, 0], [2, 3]]), np.array([[4, 0], [0, 5]])


@pytest.mark.parametrize(("negative", "away"), [(None, [0, 0]), (AWAY, [4, 5])])
def test_captions_are_led_away_from_nothing_or_from_others(every_backend, negative, away):
    model = Reading()
    y = denoiser(model, CAPTIONS, 3.0, negative)(backend.to_device(X), 500.25)
    uncond, cond = answer(away), answer([1, 5])
    assert np.abs(backend.to_numpy(y) - (uncond + 3 * (cond - uncond))).max() < 1e-4  # float32 at about 100
    assert [n for n, _, _ in model.calls] == [4]
    assert model.calls[0][2].tolist() == [1, 5, *away]


def test_a_negative_class_is_one_too(every_backend):
    y = denoiser(Labelled(), LABELS, 2.0, np.array([1, 1]))(backend.to_device(X), 500.25)
    expected = answer([1, 1]) + 2 * (answer(LABELS) - answer([1, 1]))
    assert np.abs(backend.to_numpy(y) - expected).max() < 1e-4


@pytest.mark.parametrize(("t", "guides"), [(99.9, False), (100, True), (250.5, True), (400, True), (400.1, False)])
def test_outside_an_interval_the_label_is_followed_as_learnt(every_backend, t, guides):
    model = Labelled()
    y = denoiser(model, LABELS, 3.0, between=(100, 400))(backend.to_device(X), t)
    uncond, cond = answer([3, 3], np.float32(t)), answer(LABELS, np.float32(t))
    expected = uncond + 3 * (cond - uncond) if guides else cond
    assert np.abs(backend.to_numpy(y) - expected).max() < 1e-4
    assert [n for n, _, _ in model.calls] == [4 if guides else 2]  # and costs half


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", ["cosine", "karras", "flow"])
def test_guiding_any_target_is_guiding_eps(kind, target):
    process = process_of(kind, target)
    rng = np.random.default_rng(1)
    x_t, cond, uncond = rng.standard_normal((3, 2, 4, 4, 1))
    level, scale = process.schedule.level(300), 3.0
    _, eps_cond = process.to_x0_eps(cond, x_t, level)
    _, eps_uncond = process.to_x0_eps(uncond, x_t, level)
    _, eps = process.to_x0_eps(uncond + scale * (cond - uncond), x_t, level)
    size = np.abs(eps_cond).max() + np.abs(eps_uncond).max()  # up to 1 / s = 50 for x0; seven such terms' rounding
    assert np.abs(eps - (eps_uncond + scale * (eps_cond - eps_uncond))).max() < 1e-14 * size


def test_denoisers_do_not_mix_their_filters(every_backend):
    """What the first keeps of its filter is its own, however often the two take turns; nothing stays outside."""
    x = backend.to_device(np.random.default_rng(0).standard_normal((4, 8, 8, 8)).astype(np.float32))
    models = [Convolving(1), Convolving(2)]
    plain = [backend.to_numpy(model(x, None, None).data) for model in models]
    denoisers = [denoiser(models[0]), denoiser(models[1], np.zeros(4, np.int64), 1.0)]
    for _ in range(3):
        for denoise, y in zip(denoisers, plain):
            assert np.array_equal(backend.to_numpy(denoise(x, 5)), y)
    models[0].w.data *= 2  # training goes on: a new denoiser sees it
    assert np.abs(backend.to_numpy(denoiser(models[0])(x, 5)) - 2 * plain[0]).max() < 1e-4
    assert np.array_equal(backend.to_numpy(denoisers[1](x, 5)), plain[1])
