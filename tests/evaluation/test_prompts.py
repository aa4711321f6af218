"""Prompts compared with images: which facts count, which are correct, and what floor and ceiling are."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from minidiff import backend
from minidiff.evaluation import report
from minidiff.evaluation.convnet import TrainConfig
from minidiff.evaluation.metrics.frechet import Frechet
from minidiff.evaluation.samples import EvaluationSampling, generate_samples
from minidiff.evaluation.scenes import attributes, prompts, steering
from minidiff.evaluation.scenes import report as scenes_report
from minidiff.evaluation.scenes.attributes import AttributeClassifier, targets, visible
from minidiff.evaluation.scenes.hue import hue, hue_error
from minidiff.nn.tokenizer import split
from minidiff.scenes import factors as f

FACTS = tuple(attributes.VALUES)


@pytest.fixture(autouse=True)
def fast():
    with backend.using("numba"):
        yield


@pytest.fixture
def knows(monkeypatch):
    """Classifiers that know what the images show, which are numbers here: image k shows what prompt k describes."""

    def make(asked, wrong=()):
        def classify(judge, images):
            right = targets(asked.factors)
            found = {fact: right[fact][images].copy() for fact in right}
            for fact in wrong if judge == "second" else ():
                found[fact] = (found[fact] + 1) % len(attributes.VALUES[fact])
            return found

        monkeypatch.setattr(prompts, "classify", classify)
        return ["first", "second"]

    return make


@pytest.mark.parametrize("unseen", [False, True])
def test_which_prompts(unseen):
    asked = prompts.make_prompts(60, 0, unseen)
    assert len(asked.factors) == len(asked.captions.texts) == 60
    assert prompts.names_held_out_pair(asked.factors, asked.captions).all() == unseen
    assert asked.factors.held_out().all() == unseen
    more = prompts.make_prompts(80, 0, unseen)
    assert more.captions.texts[:60] == asked.captions.texts
    for n, text in enumerate(asked.captions.texts):
        colour = f.COLOURS[asked.factors.colour[n]]
        assert (colour in split(text) or colour in ("grey", "purple")) or not asked.captions.mentions["colour"][n]


def test_all_right_all_wrong_and_half(knows):
    asked, images = prompts.make_prompts(200, 0, False), np.arange(200)
    found = prompts.prompt_accuracy(knows(asked), FACTS, asked, images)
    assert found.whole == (200, 200)
    assert found.mentioned[0] == found.mentioned[1] == sum(of for _, of in found.by_fact.values())
    assert all(right == of for right, of in found.by_fact.values())

    half = prompts.prompt_accuracy(knows(asked, wrong=("place",)), FACTS, asked, images)  # one of two is wrong
    places = half.by_fact["place"][1]
    assert half.by_fact["place"] == (places / 2, places) and half.by_fact["time"][0] == half.by_fact["time"][1]
    assert half.mentioned[0] == found.mentioned[0] - places / 2
    assert half.whole == (200 - places / 2, 200)


def test_the_floor_is_other_prompts(knows):
    asked = prompts.make_prompts(400, 0, False)
    floor = prompts.prompt_accuracy(knows(asked), FACTS, asked, np.arange(400), 200)
    right, of = floor.by_fact["subject"]
    assert 0.02 < right / of < 0.25  # one in eleven by chance
    assert floor.whole[0] < 40


def test_only_what_is_said_and_visible_is_asked(knows):
    asked = prompts.make_prompts(300, 0, False)
    found = prompts.prompt_accuracy(knows(asked), ("season", "colour"), asked, np.arange(300))
    told, seen = asked.captions.mentions, visible(asked.factors)
    for fact in ("season", "colour"):
        assert found.by_fact[fact][1] == int((told[fact] & seen[fact]).sum()) > 20
    assert not (seen["season"] & (asked.factors.place == f.SEA)).any()
    assert not (seen["colour"] & (asked.factors.subject == f.TREE)).any()


def test_a_classifier_learns_and_is_tested(monkeypatch):
    judge = attributes.train(16, TrainConfig(steps=40, batch_size=32, seed=1))
    test_set = attributes.count_correct(judge, 16, count=300)
    assert test_set["time"][0] / test_set["time"][1] > 0.8 and test_set["subject"][1] == 300
    blank = AttributeClassifier(16, 16)
    blank.initialize(0)
    assert attributes.count_correct(blank, 16, count=300)["time"][0] < test_set["time"][0]
    monkeypatch.setattr(prompts, "count_correct", partial(attributes.count_correct, count=300))
    accuracy, facts = prompts.measure_classifiers([judge, blank], 16)
    assert set(accuracy) == set(FACTS) and facts == ()  # both must be good enough


def test_samples_are_as_far_from_real_images_as_their_generator_is():
    """Renders of the prompts' own scenes are as near as real images, of half the size, and of one prompt, farther."""
    judge = AttributeClassifier(16, 16)
    judge.initialize(0)
    kinds = {kind: prompts.make_prompts(60, 0, kind == "unseen") for kind in ("seen", "unseen")}
    assert all(len(each.captions.texts) == 60 for each in kinds.values())

    def distances(change):
        real = iter([prompts.render_prompts(each, 16, 0) for each in kinds.values()])
        found = prompts.evaluate_prompts(lambda texts: change(next(real)), [judge], ("time",), 16, 0, 60)
        return [(each.frechet.samples[0], each.frechet.real[0]) for each in found.values()]

    for samples, real in distances(lambda images: images):
        assert samples == real > 0
    for samples, real in distances(lambda images: np.broadcast_to(images[:1], images.shape)):
        assert samples > 2 * real
    for samples, real in distances(lambda images: images[:, ::2, ::2].repeat(2, 1).repeat(2, 2)):
        assert samples > 1.1 * real


def test_skipped_prompts_come_before_the_others():
    both, second = (prompts.make_prompts(count, 0, True, skip) for count, skip in ((50, 0), (20, 30)))
    np.testing.assert_array_equal(both.sample[30:], second.sample)
    assert list(both.captions.texts[30:]) == list(second.captions.texts)


def test_drawings_and_references_that_are_followed_and_that_are_not():
    """A model that renders the described scenes follows everything; one that renders other scenes follows nothing."""
    sample = prompts.FIRST + np.arange(60)

    def perfect(texts, control=None, reference=None):
        asked = prompts.Prompts(sample, f.choose(0, "test", sample), None)
        return reference if reference is not None else prompts.render_prompts(asked, 32, 0)

    def unrelated(texts, control=None, reference=None):
        other = sample + 1000
        return prompts.render_prompts(prompts.Prompts(other, f.choose(0, "test", other), None), 32, 0)

    good, bad = (steering.judge_control(paint, 32, 16, 0, sample) for paint in (perfect, unrelated))
    assert good.edges.score == good.whole.score == pytest.approx(1)
    assert good.edges.real.f1 != good.whole.real.f1  # of images of 16 and of 32 pixels
    assert abs(bad.edges.score) < 0.3

    good, bad = (steering.judge_reference(paint, 32, 0, sample) for paint in (perfect, unrelated))
    assert np.median(good.error) == 0 and np.median(good.real) < 20
    assert np.median(bad.error) > 40 and 60 < np.median(good.shuffled) < 120
    assert not any({"tones", "duotone", "ink", "neon"} & set(split(text)) for text in good.prompts.captions.texts)
    assert (good.prompts.factors.subject != f.NOTHING).all() and good.prompts.captions.mentions["subject"].all()


def test_the_hue_of_two_tones_is_seen_whatever_the_scene():
    one, other = f.choose(0, "test", np.arange(200)), f.choose(0, "test", 5000 + np.arange(200))
    tones = np.full(200, f.STYLES.index("duotone"))
    other = f.sensible(replace(other, style=tones, hue=one.hue, time=one.time, season=one.season))
    one = f.sensible(replace(one, style=tones))
    a, b = (
        prompts.render_prompts(prompts.Prompts(k, each, None), 32, 0)
        for k, each in ((np.arange(200), one), (np.arange(200), other))
    )
    assert np.median(hue_error(hue(a), hue(b))) < 15


def test_the_table_says_what_the_json_says(knows):
    asked = prompts.make_prompts(100, 0, False)
    judges = knows(asked)
    sides = {"samples": 0, "floor": 50, "ceiling": 0}
    found = {
        kind: {
            side: prompts.prompt_accuracy(judges, FACTS, asked, np.arange(100), shift) for side, shift in sides.items()
        }
        for kind in ("seen", "unseen")
    }
    listed = {kind: {side: scenes_report.shares(each) for side, each in sets.items()} for kind, sets in found.items()}
    result = {
        "checkpoint": {"path": "runs/x", "step": 7},
        "settings": {
            "count": 100,
            "sampler": "ddim",
            "steps": 5,
            "eta": 0.0,
            "guidance_scale": 3.0,
            "seed": 0,
            "backend": "numba",
        },
        "judges": {
            "size": [32, 32],
            "accuracy": {"place": [0.99, 0.98], "size": [0.99, 0.9]},
            "asked": ["place"],
            "needed": 0.97,
        },
        "prompts": listed,
        "frechet": {kind: report.frechet(Frechet(100, (1.5, 0.25), (0.5, 0.125)), 128) for kind in found},
        "held_out_loss": {"mean": 0.1, "standard_error": 0.01, "count": 20},
    }
    text = scenes_report.table(result)
    assert "place     99.00% and 98.00%\n" in text and "size      99.00% and 90.00%   left out, below 97%" in text
    assert text.count("all mentioned") == 2 and "100.0%" in text
    assert text.count("1.5000 ± 0.2500 from the samples") == 2 and text.count("0.5000 ± 0.1250 from other real") == 2


@pytest.mark.parametrize("batch", [1, 4, 7, 10])
def test_every_image_has_its_own_prompt_whatever_the_batch(batch):
    """Also those of a last batch that is smaller than the others."""
    texts, maps = [f"prompt {k}" for k in range(10)], np.arange(10)

    class Model:
        def prepare(self, settings, inputs):
            def steps(first, count, total):
                assert total == len(inputs.prompt) == len(inputs.control)
                numbers = np.array([int(text.split()[1]) for text in inputs.prompt[first : first + count]])
                assert numbers.tolist() == inputs.control[first : first + count].tolist()
                yield SimpleNamespace(x_prev=numbers.astype(np.float32).reshape(-1, 1, 1, 1) / 10)

            return SimpleNamespace(steps=steps, images=lambda x: x)

    done = []
    drawn = generate_samples(
        Model(), EvaluationSampling(count=10, batch_size=batch), texts, {"control": maps}, done.append
    )
    assert sum(done) == len(drawn) == 10
    assert (np.diff(drawn.ravel().astype(int)) > 0).all()
