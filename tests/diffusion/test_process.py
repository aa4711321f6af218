"""The line x_t = a x0 + s eps, the five targets on it, what the network is told, the loss, and hidden labels."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff import backend
from minidiff.autograd import Tensor, no_grad
from minidiff.diffusion.process import DRAWS, TARGETS, Process, eps_from_x0, loss_of
from minidiff.diffusion.schedule import KINDS
from minidiff.errors import MinidiffError
from minidiff.random import Key, Stream
from tests.diffusion.known import SCHEDULES, process_of
from tests.diffusion.toy_network import Scaled, images

# -- conversions --------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    target=st.sampled_from(TARGETS),
    t=st.lists(st.integers(0, 999), min_size=1, max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_perfect_output_gives_back_image_and_noise(kind, target, t, seed):
    """target_of, then to_x0_eps: the identity, for every target and time."""
    process = process_of(kind, target)
    rng = np.random.default_rng(seed)
    x0, eps = rng.uniform(-1, 1, (len(t), 2, 3, 1)), rng.standard_normal((len(t), 2, 3, 1))
    level = process.schedule.level(np.array(t))
    a, s = level.a.reshape(-1, 1, 1, 1), level.s.reshape(-1, 1, 1, 1)
    x_t = a * x0 + s * eps
    with backend.using("numpy"):
        x0_hat, eps_hat = process.to_x0_eps(process.target_of(x0, eps, level), x_t, level)
        again = eps_from_x0(x_t, x0, level)
    # x0 = (x_t - s eps) / a at late t and eps = (x_t - a x0) / s at early t enlarge rounding errors of 1e-16 by at
    # most 1 / a = 2e4 ("cosine") and 1 / s = 1e3 (the flow).
    assert np.abs(x0_hat - x0).max() < 1e-10
    assert np.abs(eps_hat - eps).max() < 1e-10
    assert np.abs(again - eps).max() < 1e-10


@pytest.mark.parametrize("target", TARGETS)
def test_conversions_keep_float32_and_take_one_level_or_many(every_backend, target):
    process = Process(SCHEDULES["linear"], target)
    x_t, output = map(backend.to_device, (images(3), images(3, seed=1)))
    one = process.to_x0_eps(output, x_t, process.schedule.level(500))
    many = process.to_x0_eps(output, x_t, process.schedule.level(np.full(3, 500)))
    for a, b in zip(one, many):
        assert a.dtype == b.dtype == np.float32
        # the factor of many is rounded to float32 first: two roundings of 6e-8 at values of up to 3 / a = 11
        assert np.abs(backend.to_numpy(a) - backend.to_numpy(b)).max() < 4e-6


def test_v_is_what_its_paper_says():
    """v = a eps - s x0 is the velocity d x / d phi on the circle a = cos phi, s = sin phi."""
    process = Process(SCHEDULES["cosine"], "v")
    x0, eps, level = np.float64(0.3), np.float64(-1.2), process.schedule.level(700)
    phi = np.arccos(level.a)
    x = lambda phi: np.cos(phi) * x0 + np.sin(phi) * eps
    velocity = (x(phi + 1e-5) - x(phi - 1e-5)) / 2e-5
    v = process.target_of(np.full((1, 1), x0), np.full((1, 1), eps), level)
    assert v.item() == pytest.approx(velocity, rel=1e-8)  # central differences: 1e-10


def test_flow_is_the_velocity_along_the_straight_line():
    """d x / d sigma_flow for x = (1 - sigma_flow) x0 + sigma_flow eps: Lipman et al. eq. 23, whose t runs backwards."""
    process = Process(SCHEDULES["flow"], "flow")
    here, there = process.schedule.level(400), process.schedule.level(650)
    x0, eps = np.full((1, 1), 0.3), np.full((1, 1), -1.2)
    velocity = ((there.a - here.a) * x0 + (there.s - here.s) * eps) / (there.s - here.s)
    assert process.target_of(x0, eps, here) == pytest.approx(velocity, rel=1e-12)


@pytest.mark.parametrize("sigma", [0.002, 0.1, 0.5, 3.0, 80.0])
def test_edm_is_karras_et_als_table_1(sigma):
    """D(x; sigma) = c_skip x + c_out F(c_in x; c_noise), and F's target and input have variance one."""
    process = Process(SCHEDULES["karras"], "edm")
    level = process.schedule.at_sigma(sigma)
    c_skip, c_out = 0.25 / (sigma**2 + 0.25), sigma * 0.5 / math.sqrt(sigma**2 + 0.25)
    c_in, c_noise = 1 / math.sqrt(sigma**2 + 0.25), math.log(sigma) / 4
    rng = np.random.default_rng(0)
    x, F = rng.standard_normal((2, 1, 2, 2, 1))  # x = x0 + sigma n: the image's scale is one
    x0_hat, _ = process.to_x0_eps(F, level.a * x, level)
    assert x0_hat == pytest.approx(c_skip * x + c_out * F, rel=1e-10, abs=1e-12)
    asked = []
    process.predict(lambda x, t: asked.append((x, t)), level.a * x, level)
    assert asked[0][0] == pytest.approx(c_in * x, rel=1e-12)
    assert asked[0][1] == pytest.approx(1000 * c_noise, rel=1e-9)  # a thousand times as an embedding of t wants it
    g, h = process.mixture(level)
    assert (g * 0.5) ** 2 + h**2 == pytest.approx(1)  # of x0 with spread 0.5 and eps


@pytest.mark.parametrize("target", [target for target in TARGETS if target != "edm"])
def test_all_others_are_told_x_t_and_t(target):
    x_t, level = np.ones((1, 2, 2, 1)), SCHEDULES["linear"].level(7)
    assert Process(SCHEDULES["linear"], target).predict(lambda x, t: (x, t), x_t, level) == (x_t, 7)


# -- the loss -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("weighting", ["plain", "min_snr", "edm"])
def test_loss_and_its_gradient_by_hand(every_backend, target, weighting):
    process = Process(SCHEDULES["cosine"], target, weighting)
    x0, t, samples, model = images(3), np.array([5, 400, 990]), np.arange(3), Scaled(0.5)
    level = process.schedule.level(t)
    loss, each = process.loss(model, backend.to_device(x0), None, level, Key(1, Stream.NOISE, 2, samples))
    loss.backward()

    a, s = level.a.reshape(3, 1, 1, 1), level.s.reshape(3, 1, 1, 1)
    eps = backend.to_numpy(every_backend.normal((1, int(Stream.NOISE), 2), samples, 16))
    eps = eps.reshape(x0.shape).astype(np.float64)
    x_t, spread = a * x0 + s * eps, np.sqrt(s**2 + a**2 / 4)
    wanted = {"eps": eps, "x0": x0, "v": a * eps - s * x0, "flow": eps - x0}
    wanted["edm"] = (x0 - 0.25 * a / spread**2 * x_t) * spread / (s / 2)  # (x0 - c_skip x) / c_out, times a / a
    seen = x_t / spread if target == "edm" else x_t
    weight = process.loss_weight(level).reshape(3, 1, 1, 1)
    # float32 with values up to 4: a few 1e-7 each, averaged
    by_hand = weight * (0.5 * seen - wanted[target]) ** 2
    assert backend.to_numpy(each) == pytest.approx(by_hand.mean((1, 2, 3)), rel=1e-5)
    assert loss.item() == pytest.approx(by_hand.mean(), rel=1e-5)
    gradient = (weight * 2 * (0.5 * seen - wanted[target]) * seen).mean()
    assert backend.to_numpy(model.w.grad) == pytest.approx(gradient, rel=1e-4)
    assert model.x.dtype == np.float32
    assert model.t.dtype == np.float32
    told = 250 * np.log(level.sigma) if target == "edm" else t
    assert model.t == pytest.approx(told, rel=1e-6)  # rounded to float32
    assert model.x == pytest.approx(seen, abs=1e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_a_perfect_network_has_no_loss(every_backend, target):
    """All images 0: x_t = s eps, so that the target is known from x_t; the loss is 0 up to float32's rounding."""
    process = Process(SCHEDULES["linear"], target)
    level = process.schedule.level(np.array([3, 500]))
    _, h = process.mixture(level)
    shown = 1 / np.hypot(level.s, level.a / 2) if target == "edm" else 1.0
    factor = backend.to_device((h / level.s / shown).reshape(2, 1, 1, 1).astype(np.float32))
    loss, _ = process.loss(
        lambda x, t, cond: Tensor(x * factor),
        backend.to_device(np.zeros((2, 4, 4, 1), np.float32)),
        None,
        level,
        Key(0, 4, 0, np.arange(2)),
    )
    assert loss.item() < 1e-12


def training_loss(process, model, *batch):
    return loss_of(model, process.training_examples(model, *batch))


def test_every_target_can_be_told_a_time_between_the_times(every_backend):
    """As "lognormal" draws them: t reaches the network unrounded."""
    process = Process(SCHEDULES["linear"], "v", timestep_sampling="lognormal")
    model = Scaled()
    training_loss(process, model, backend.to_device(images(16)), None, 0, 0, np.arange(16), 16)
    assert np.any(model.t != np.round(model.t))


# -- what is drawn by key -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("timestep_sampling", DRAWS)
def test_a_batch_in_parts_is_the_same_batch(every_backend, timestep_sampling):
    """t, noise and hidden labels of an image depend on (seed, step, sample), not on its neighbours."""
    process = Process(SCHEDULES["cosine"], "v", cond_dropout=0.5, timestep_sampling=timestep_sampling)
    x0, labels = images(8), np.arange(8)
    whole, parts = Scaled(), Scaled()
    with no_grad():
        _, each = training_loss(process, whole, backend.to_device(x0), labels, 3, 7, np.arange(8), 8)
        seen = []
        for part in (slice(0, 3), slice(3, 8)):
            some = training_loss(
                process, parts, backend.to_device(x0[part]), labels[part], 3, 7, np.arange(8)[part], 8
            )[1]
            seen.append((parts.x, parts.t, parts.labels, backend.to_numpy(some)))
    for one, many in zip((whole.x, whole.t, whole.labels, backend.to_numpy(each)), zip(*seen)):
        assert np.array_equal(one, np.concatenate(many))


def test_steps_and_seeds_draw_anew(every_backend):
    process, x0, model = Process(SCHEDULES["cosine"]), backend.to_device(images(8)), Scaled()
    drawn = []
    for seed, step in ((0, 0), (0, 1), (1, 0)):
        training_loss(process, model, x0, None, seed, step, np.arange(8), 8)
        drawn.append((model.t, model.x))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert not np.array_equal(drawn[i][0], drawn[j][0])
        assert not np.array_equal(drawn[i][1], drawn[j][1])


@pytest.mark.parametrize("p", [0.0, 0.1, 1.0])
def test_labels_are_hidden_at_the_given_rate(every_backend, p):
    n = 10_000
    process = Process(SCHEDULES["linear"], cond_dropout=p)
    labels = np.arange(n) % 10
    dropped = process.drop_labels(labels, Scaled(), 0, 0, np.arange(n))
    hidden = dropped == 10
    assert np.array_equal(dropped[~hidden], labels[~hidden])
    assert abs(hidden.mean() - p) <= 5 * np.sqrt(p * (1 - p) / n)  # five standard deviations; exact at 0 and 1
    assert dropped.dtype == np.int64


def test_captions_are_hidden_whole(every_backend):
    """All words of a caption or none, and of the same images as labels would be."""
    n = 2000
    process = Process(SCHEDULES["linear"], cond_dropout=0.3)
    captions = 1 + np.arange(n * 5).reshape(n, 5) % 7
    dropped = process.drop_labels(captions, Scaled(), 0, 0, np.arange(n))
    hidden = (dropped == 10).all(axis=1)
    assert np.array_equal(dropped[~hidden], captions[~hidden])
    assert dropped.shape == (n, 5) and dropped.dtype == np.int64
    assert np.array_equal(hidden, process.drop_labels(captions[:, 0], Scaled(), 0, 0, np.arange(n)) == 10)
    assert abs(hidden.mean() - 0.3) <= 5 * np.sqrt(0.21 / n)


def test_no_labels_stay_none():
    assert Process(SCHEDULES["linear"]).drop_labels(None, Scaled(), 0, 0, np.arange(2)) is None


# -- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "score"}, "target must be one of eps, x0, v, flow, edm, got 'score'"),
        ({"weighting": "p2"}, "weighting must be one of plain, min_snr, edm, got 'p2'"),
        (
            {"timestep_sampling": "halton"},
            "timestep_sampling must be one of uniform, stratified, lognormal, got 'halton'",
        ),
        ({"gamma": 0.0}, "gamma must be above 0, got 0.0"),
        ({"gamma": float("nan")}, "gamma must be above 0, got nan"),
        ({"cond_dropout": 1.5}, "cond_dropout must be in [0, 1], got 1.5"),
        ({"sigma_std": 0.0}, "sigma_std must be above 0, got 0.0"),
        ({"sigma_std": float("inf")}, "sigma_std must be above 0, got inf"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(MinidiffError) as caught:
        Process(SCHEDULES["linear"], **settings)
    assert str(caught.value) == message
