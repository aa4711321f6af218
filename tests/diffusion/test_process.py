"""The line x_t = a x0 + s eps, the three targets on it, the loss, and what is drawn for it by key."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff.autograd import Tensor, no_grad
from minidiff.diffusion.process import TARGETS, Process, eps_from_x0
from minidiff.diffusion.schedule import KINDS, make_schedule
from minidiff.errors import MinidiffError
from minidiff.random import Key, Stream

SCHEDULES = {kind: make_schedule(kind) for kind in KINDS}


class Scaled:
    """A network of one weight, w x_t, that remembers what it was asked."""

    config = SimpleNamespace(classes=10)

    def __init__(self, w=0.5):
        self.w = Tensor(np.array(w, dtype=np.float32), requires_grad=True)

    def __call__(self, x, t, labels):
        self.x, self.t, self.labels = x, t, labels
        return self.w * Tensor(x)


def pictures(n, seed=0, shape=(4, 4, 1)):
    return np.random.default_rng(seed).uniform(-1, 1, (n, *shape)).astype(np.float32)


# -- conversions --------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    target=st.sampled_from(TARGETS),
    t=st.lists(st.integers(0, 999), min_size=1, max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_perfect_output_gives_back_picture_and_noise(kind, target, t, seed):
    """target_of, then to_x0_eps: the identity, for every target and time."""
    process = Process(SCHEDULES[kind], target)
    rng = np.random.default_rng(seed)
    x0, eps = rng.uniform(-1, 1, (len(t), 2, 3, 1)), rng.standard_normal((len(t), 2, 3, 1))
    t = np.array(t)
    alpha_bar = process.schedule.alpha_bar[t]
    each = alpha_bar.reshape(-1, 1, 1, 1)
    x_t = np.sqrt(each) * x0 + np.sqrt(1 - each) * eps
    x0_hat, eps_hat = process.to_x0_eps(process.target_of(x0, eps, t), x_t, alpha_bar)
    # Only two conversions divide: x0 = (x_t - s eps) / a at late t, eps = (x_t - a x0) / s at early t. They enlarge
    # rounding errors of 1e-16 by at most 1 / a = 2e4 and 1 / s = 1e2.
    assert np.abs(x0_hat - x0).max() < 1e-10
    assert np.abs(eps_hat - eps).max() < 1e-10
    assert np.abs(eps_from_x0(x_t, x0, alpha_bar) - eps).max() < 1e-10


@pytest.mark.parametrize("target", TARGETS)
def test_conversions_keep_float32_and_take_one_alpha_bar(target):
    process = Process(SCHEDULES["linear"], target)
    x_t, output = pictures(3), pictures(3, seed=1)
    one = process.to_x0_eps(output, x_t, process.schedule.alpha_bar[500])  # np.float64, which would promote
    many = process.to_x0_eps(output, x_t, process.schedule.alpha_bar[np.full(3, 500)])
    for a, b in zip(one, many):
        assert a.dtype == np.float32
        assert np.array_equal(a, b)


def test_v_is_what_its_paper_says():
    """v = a eps - s x0 is the velocity d x / d phi on the circle a = cos phi, s = sin phi."""
    process = Process(SCHEDULES["cosine"], "v")
    x0, eps, t = np.float64(0.3), np.float64(-1.2), 700
    phi = np.arccos(np.sqrt(process.schedule.alpha_bar[t]))
    x = lambda phi: np.cos(phi) * x0 + np.sin(phi) * eps
    velocity = (x(phi + 1e-5) - x(phi - 1e-5)) / 2e-5
    v = process.target_of(np.full((1, 1), x0), np.full((1, 1), eps), np.array([t]))
    assert v.item() == pytest.approx(velocity, rel=1e-8)  # central differences: 1e-10


# -- weights ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "times_x0"), [("eps", lambda snr: snr), ("x0", lambda _: 1), ("v", lambda s: s + 1)]
)
def test_min_snr_weighs_the_error_of_x0_alike_for_every_target(target, times_x0):
    """weight x (target's squared error per squared error of x0) = min(snr, gamma): arXiv:2303.09556, section 3.4."""
    process = Process(SCHEDULES["cosine"], target, "min_snr", gamma=5.0)
    t = np.array([0, 100, 400, 600, 999])
    snr = process.schedule.snr[t]
    assert process.loss_weight(t) * times_x0(snr) == pytest.approx(np.minimum(snr, 5.0))
    # and that ratio is the true one: move x0 by d along x_t = const and see how far the target moves
    x0, x_t, d = np.full((5, 1), 0.2), np.full((5, 1), 0.7), 1e-3
    alpha_bar = process.schedule.alpha_bar[t]
    of = lambda x0: process.target_of(x0, eps_from_x0(x_t, x0, alpha_bar), t)
    assert ((of(x0 + d) - of(x0)) / d).ravel() ** 2 == pytest.approx(times_x0(snr) * np.ones(5), rel=1e-6)


def test_plain_weights_are_one():
    assert np.array_equal(Process(SCHEDULES["linear"]).loss_weight(np.array([0, 999])), [1, 1])


# -- the loss -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("weighting", ["plain", "min_snr"])
def test_loss_and_its_gradient_by_hand(each_backend, target, weighting):
    process = Process(SCHEDULES["cosine"], target, weighting)
    x0, t, samples, model = pictures(3), np.array([5, 400, 990]), np.arange(3), Scaled(0.5)
    key = Key(1, Stream.NOISE, 2, samples)
    loss, each = process.loss(model, x0, None, t, key)
    loss.backward()

    a = np.sqrt(process.schedule.alpha_bar[t]).reshape(3, 1, 1, 1)
    s = np.sqrt(1 - a**2)
    eps = each_backend.normal((1, int(Stream.NOISE), 2), samples, 16).reshape(x0.shape).astype(np.float64)
    x_t = a * x0 + s * eps
    wanted = {"eps": eps, "x0": x0, "v": a * eps - s * x0}[target]
    weight = process.loss_weight(t).reshape(3, 1, 1, 1)
    # float32 with values up to 4: a few 1e-7 each, averaged
    assert each == pytest.approx((weight * (0.5 * x_t - wanted) ** 2).mean((1, 2, 3)), rel=1e-5)
    assert loss.item() == pytest.approx(each.mean(), rel=1e-6)
    assert model.w.grad == pytest.approx((weight * 2 * (0.5 * x_t - wanted) * x_t).mean(), rel=1e-4)
    assert model.x.dtype == np.float32
    assert model.t.dtype == np.float32
    assert np.array_equal(model.t, t)


def test_a_perfect_network_has_no_loss(each_backend):
    """All pictures 0: x_t = s eps, so that eps = x_t / s is known; its loss is 0 up to float32's rounding."""
    process = Process(SCHEDULES["linear"], "eps")
    t = np.array([3, 500])
    s = np.sqrt(1 - process.schedule.alpha_bar[t]).reshape(2, 1, 1, 1).astype(np.float32)
    loss, _ = process.loss(
        lambda x, t, labels: Tensor(x / s), np.zeros((2, 4, 4, 1), np.float32), None, t, Key(0, 4, 0, np.arange(2))
    )
    assert loss.item() < 1e-12


# -- what is drawn by key -----------------------------------------------------------------------------------------


def test_a_batch_in_parts_is_the_same_batch(each_backend):
    """t, noise and hidden labels of a picture depend on (seed, step, sample), not on its neighbours."""
    process, x0, labels = Process(SCHEDULES["cosine"], "v", label_drop=0.5), pictures(8), np.arange(8)
    whole, parts = Scaled(), Scaled()
    with no_grad():
        _, each = process.training_loss(whole, x0, labels, 3, 7, np.arange(8))
        seen = []
        for part in (slice(0, 3), slice(3, 8)):
            _, some = process.training_loss(parts, x0[part], labels[part], 3, 7, np.arange(8)[part])
            seen.append((parts.x, parts.t, parts.labels, some))
    for one, many in zip((whole.x, whole.t, whole.labels, each), zip(*seen)):
        assert np.array_equal(one, np.concatenate(many))


def test_steps_and_seeds_draw_anew(each_backend):
    process, x0, model = Process(SCHEDULES["cosine"]), pictures(8), Scaled()
    drawn = []
    for seed, step in ((0, 0), (0, 1), (1, 0)):
        process.training_loss(model, x0, None, seed, step, np.arange(8))
        drawn.append((model.t, model.x))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert not np.array_equal(drawn[i][0], drawn[j][0])
        assert not np.array_equal(drawn[i][1], drawn[j][1])


def test_times_are_uniform(each_backend):
    n = 20_000
    model = Scaled()
    Process(SCHEDULES["linear"]).training_loss(model, np.zeros((n, 1, 1, 1), np.float32), None, 0, 0, np.arange(n))
    counts = np.bincount(model.t.astype(int), minlength=1000).reshape(10, 100).sum(1)
    # ten bins of 2,000 expected, each with a standard deviation of sqrt(n 0.1 0.9) = 42; five of those
    assert np.abs(counts - n / 10).max() < 5 * 42
    assert model.t.min() >= 0
    assert model.t.max() <= 999


@pytest.mark.parametrize("p", [0.0, 0.1, 1.0])
def test_labels_are_hidden_at_the_given_rate(each_backend, p):
    n = 10_000
    process = Process(SCHEDULES["linear"], label_drop=p)
    labels = np.arange(n) % 10
    dropped = process.drop_labels(labels, Scaled(), 0, 0, np.arange(n))
    hidden = dropped == 10
    assert np.array_equal(dropped[~hidden], labels[~hidden])
    assert abs(hidden.mean() - p) <= 5 * np.sqrt(p * (1 - p) / n)  # five standard deviations; exact at 0 and 1
    assert dropped.dtype == np.int64


def test_no_labels_stay_none():
    assert Process(SCHEDULES["linear"]).drop_labels(None, Scaled(), 0, 0, np.arange(2)) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "score"}, "target must be one of eps, x0, v, got 'score'"),
        ({"weighting": "p2"}, "weighting must be one of plain, min_snr, got 'p2'"),
        ({"gamma": 0.0}, "gamma must be above 0, got 0.0"),
        ({"gamma": float("nan")}, "gamma must be above 0, got nan"),
        ({"label_drop": 1.5}, "label_drop must be in [0, 1], got 1.5"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(MinidiffError) as caught:
        Process(SCHEDULES["linear"], **settings)
    assert str(caught.value) == message
