"""What every sampler promises: steps that fit together, images that do not depend on their batch, named mistakes."""

import math
from itertools import pairwise

import numpy as np
import pytest

from minidiff import backend
from minidiff.diffusion import CLEAN, SAMPLERS, Noise, Process, Run, levels, make_schedule
from minidiff.diffusion.process import TARGETS
from minidiff.diffusion.run import EPS_HAT, X0_HAT, X0_HAT_LAST, X_T, Z, on_eps_hat
from minidiff.diffusion.schedule import Level
from minidiff.diffusion.timesteps import trailing
from minidiff.errors import MinidiffError
from tests.diffusion.known import NOISY, STEADY, TWO_HILLS, WAYS, end, ideal, process_of, sample

SHAPE = (4, 4, 1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("clip", ["none", "clip", "dynamic"])
def test_steps_fit_together(every_backend, way, clip):
    process = process_of("linear", "eps")
    path = sample(way, process, TWO_HILLS, 7, 3, clip=clip)
    times = trailing(1000, 7)
    assert [step.index for step in path] == list(range(7))
    assert [step.prev.t for step in path] == [step.t_prev for step in path] == [*times[1:], -1]
    assert path[-1].prev is CLEAN
    if "churn" not in way:
        assert [step.t for step in path] == times
    if "churn" not in way and way != "unipc":  # these two change x_t before they go on
        for step, following in pairwise(path):
            assert step.x_prev is following.x_t
    for step in path:
        assert step.steps == 7
        x_t, x0_hat, eps_hat = (backend.to_numpy(array) for array in (step.x_t, step.x0_hat, step.eps_hat))
        # float32 at values of a few; where s = 0.1 and eps_hat are made from clipped x0_hat, too
        assert np.abs(step.level.a * x0_hat + step.level.s * eps_hat - x_t).max() < 1e-5
        for array in (step.x_t, step.x0_hat, step.eps_hat, step.x_prev):
            assert array.dtype == np.float32
            assert array.shape == (3, *SHAPE)
        if clip != "none":
            assert np.abs(x0_hat).max() <= 1
    assert np.array_equal(backend.to_numpy(path[-1].x_prev), x0_hat)  # the last guess is the image


@pytest.mark.parametrize("way", ["euler churn", "heun churn"])
@pytest.mark.parametrize("kind", ["cosine", "flow"])
def test_churn_shows_the_level_it_went_up_to(kind, way):
    """And goes no higher than the network knows: not at all from the noisiest time."""
    process = process_of(kind, "v")
    first, *rest = sample(way, process, TWO_HILLS, 6)
    assert first.level == levels(process.schedule, 6)[0]
    for step, asked in zip(rest, levels(process.schedule, 6)[1:]):
        assert step.level.sigma == pytest.approx(math.sqrt(2) * asked.sigma, rel=1e-6)  # 5 / 6 is above sqrt(2) - 1
        assert process.schedule.T - 1 > step.level.t > asked.t


@pytest.mark.parametrize("way", WAYS)
def test_a_image_does_not_depend_on_its_batch(every_backend, way):
    process = process_of("cosine", "v")
    whole = end(way, process, TWO_HILLS, 6, 5)
    parts = [end(way, process, TWO_HILLS, 6, n, first=first) for first, n in ((0, 2), (2, 3))]
    assert np.array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize("way", WAYS)
def test_seeds_differ_and_repeat(every_backend, way):
    process = process_of("cosine", "v")
    one, again, other = (end(way, process, TWO_HILLS, 5, 1, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("way", WAYS)
def test_fresh_noise_is_drawn_by_those_that_say_so(every_backend, way):
    """Same start, other seed, or other number of the first step, for the noise on the way."""
    name, settings = WAYS[way]
    process = process_of("cosine", "v")
    x_T = Noise(0, np.arange(1)).start(SHAPE)
    ends = []
    for noise in (Noise(0, np.arange(1)), Noise(1, np.arange(1)), Noise(0, np.arange(1), first=5)):
        run = SAMPLERS[name](Run(ideal(process, TWO_HILLS), process, 5, noise), x_T, **settings)
        ends.append(backend.to_numpy(list(run)[-1].x_prev))
    assert np.array_equal(ends[0], ends[1]) == (way in STEADY)
    assert np.array_equal(ends[0], ends[2]) == (way in STEADY)


@pytest.mark.parametrize("way", NOISY)
def test_no_two_steps_draw_the_same_noise(way):
    """Two steps of a sampler whose network always says 0: what they add is all noise."""
    name, settings = WAYS[way]
    process = Process(make_schedule("cosine"), "x0")
    noise = Noise(0, np.arange(1))
    with backend.using("numpy"):
        visited = levels(process.schedule, [800, 600, 400])
        run = SAMPLERS[name](Run(lambda x, t: 0 * x, process, visited, noise), np.zeros((1, 4, 4, 1)), **settings)
        first, second, _ = (step.x_t if "churn" in way else step.x_prev for step in run)
    assert np.abs(first).max() > 0
    like = np.sum(first * second) / np.sum(first**2)  # the same again, but for its scale?
    assert np.abs(second - like * first).max() > 1e-2


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_takes_the_place_of_x_prev(every_backend, way):
    """Who sends something gets a sampler that goes on from there; who sends None is not noticed."""
    name, settings = WAYS[way]
    process, noise = process_of("cosine", "v"), Noise(0, np.arange(2))

    def run(answer):
        steps = SAMPLERS[name](Run(ideal(process, TWO_HILLS), process, 4, noise), noise.start(SHAPE), **settings)
        path = [next(steps), steps.send(None)]
        path.append(steps.send(None if answer is None else answer(path[-1])))
        return [*path, *steps]

    silent, answered = run(None), run(lambda step: step.x_prev * 0)
    assert np.array_equal(backend.to_numpy(silent[-1].x_prev), end(way, process, TWO_HILLS, 4, 2, clip="clip"))
    x_t = backend.to_numpy(answered[2].x_t)
    if "churn" in way:  # 0 and the noise that is put on it
        assert np.abs(x_t).max() < 5 * answered[2].level.s
        assert not np.array_equal(x_t, backend.to_numpy(silent[2].x_t))
    else:
        assert np.array_equal(x_t, 0 * x_t)
    assert len(answered) == 4


@pytest.mark.parametrize("way", WAYS)
def test_evaluations_are_counted(way):
    asked = []
    for kind, steps in (("cosine", 5), ("flow", 5), ("cosine", 1)):
        process, noise = process_of(kind, "v"), Noise(0, np.arange(1))
        denoise = ideal(process, TWO_HILLS)
        counts = [0]

        def count(x, t, denoise=denoise, counts=counts):
            counts[0] += 1
            return denoise(x, t)

        name, settings = WAYS[way]
        for step in SAMPLERS[name](Run(count, process, steps, noise), noise.start(SHAPE), **settings):
            assert step.evaluations == counts[0]
        asked.append(counts[0])
    # Heun asks twice but for the last step, and for a first one from infinite sigma
    assert asked == ([9, 8, 1] if way.startswith("heun") else [5, 5, 1])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["cosine", "karras", "flow"])
def test_targets_draw_the_same_image(kind, way):
    """What the network predicts is a matter of form. "eps" and "edm" divide by a = 5e-5 or 0.01 at first."""
    with backend.using("numpy"):
        ends = [
            end(way, Process(make_schedule(kind), target), TWO_HILLS, 12, 2, dtype=np.float64)
            for target in TARGETS
            if kind != "flow" or target not in ("eps", "edm")
        ]
    assert len(ends) == (3 if kind == "flow" else 5)
    for other in ends[1:]:
        assert np.abs(other - ends[0]).max() < 1e-9


# -- mistakes -----------------------------------------------------------------------------------------------------


def call(name, **settings):
    process = process_of("linear", "eps")
    steps, clip = settings.pop("steps", 10), settings.pop("clip", "clip")
    run = Run(ideal(process, TWO_HILLS), process, steps, Noise(0, np.arange(1)), clip)
    return SAMPLERS[name](run, np.zeros((1, *SHAPE), np.float32), **settings)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be from 1 to 1000, the schedule's length, got 0"),
        ({"steps": 1001}, "steps must be from 1 to 1000, the schedule's length, got 1001"),
        (
            {"steps": []},
            "a sampler needs two or more levels, each less noisy than the one before, got sigma none",
        ),
        (
            {"steps": [CLEAN]},
            "a sampler needs two or more levels, each less noisy than the one before, got sigma 0",
        ),
        (
            {"steps": [CLEAN, make_schedule("flow").level(499)]},
            "a sampler needs two or more levels, each less noisy than the one before, got sigma 0, 1",
        ),
        (
            {"steps": [make_schedule("flow").level(499)] * 2},
            "a sampler needs two or more levels, each less noisy than the one before, got sigma 1, 1",
        ),
        ({"clip": "soft"}, "clip must be one of none, clip, dynamic, got 'soft'"),
    ],
)
def test_mistakes_are_named_at_once(name, settings, message):
    """By the call itself, before anybody asks for the first step."""
    with pytest.raises(MinidiffError) as caught:
        call(name, **settings)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ddim", {"eta": 1.5}, "eta must be in [0, 1], got 1.5"),
        ("ddim", {"eta": math.nan}, "eta must be in [0, 1], got nan"),
        ("ddpm", {"variance": "learned"}, "variance must be one of small, large, got 'learned'"),
        ("euler", {"churn": -1.0}, "churn must be 0 or more, got -1"),
        ("heun", {"churn": math.nan}, "churn must be 0 or more, got nan"),
        ("heun", {"churn": math.inf}, "churn must be 0 or more, got inf"),
    ],
)
def test_mistakes_of_one_sampler(name, settings, message):
    with pytest.raises(MinidiffError) as caught:
        call(name, **settings)
    assert str(caught.value) == message


def test_an_update_is_turned_into_the_numbers_of_the_kernel():
    """A formula of five arrays, computed as it stands and by the kernel's four numbers."""
    level, rng = Level(0, 0.8, 0.6), np.random.default_rng(0)
    x0_hat, eps_hat, last, z = rng.standard_normal((4, 5))
    x_t = level.a * x0_hat + level.s * eps_hat
    update = np.float64(0.3) * X_T + 0.5 * X0_HAT - 0.2 * (X0_HAT_LAST - EPS_HAT) + 0.7 * Z
    expected = 0.3 * x_t + 0.5 * x0_hat - 0.2 * (last - eps_hat) + 0.7 * z
    c = update.coefficients(level)
    assert np.dot(c, [x_t, x0_hat, last, z]) == pytest.approx(expected, abs=1e-14)  # float64's rounding
    assert np.dot(on_eps_hat(c, level), [eps_hat, x0_hat, last, z]) == pytest.approx(expected, abs=1e-14)
