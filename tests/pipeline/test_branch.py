"""A run whose settings change on the way: the same settings give the same bits, whatever the sampler remembers."""

import numpy as np
import pytest
import tiny_model

from minidiff.backend import to_numpy
from minidiff.diffusion.edit import Edit
from minidiff.diffusion.solvers import SAMPLERS
from minidiff.errors import MinidiffError
from minidiff.pipeline import loading
from minidiff.pipeline.branch import Branch, branch
from minidiff.pipeline.plan import Replay
from minidiff.pipeline.settings import SAMPLER_SETTINGS, Inputs, SamplingSettings

STEPS = 5
RNG = np.random.default_rng(0)
IMAGE = RNG.uniform(-1, 1, (8, 8, 3)).astype(np.float32)
MASK = (RNG.uniform(0, 1, (8, 8, 1)) > 0.5).astype(np.float32)
EDITS = {
    "none": None,
    "img2img": Edit(IMAGE, strength=0.7),
    "inpaint": Edit(IMAGE, mask=MASK),
    "resample": Edit(IMAGE, mask=MASK, resample=2),
    "denoise": Edit(IMAGE, sigma=0.5),
    "vary": Edit(IMAGE, vary=0.3),
    "to": Edit(IMAGE, to=-IMAGE),
}
# Every sampler without an edit; every edit with the one that remembers most.
CASES = [(name, "none") for name in SAMPLERS] + [("unipc", edit) for edit in EDITS if edit != "none"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return loading.load(tiny_model.write(tmp_path_factory.mktemp("run"), words=tiny_model.WORDS))


def settings(sampler="ddim", **other):
    own = {"eta": 0.5} if sampler == "ddim" else {"churn": 2.0} if "churn" in SAMPLER_SETTINGS.get(sampler, ()) else {}
    return SamplingSettings(**{"sampler": sampler, "steps": STEPS, "seed": 5, **own, **other})


def draw(plan, replay=None):
    return [to_numpy(step.x_prev) for step in plan.steps(0, 2, replay=replay)]


def inputs(prompt="a dog", edit="none"):
    return Inputs(prompt=prompt, edit=EDITS[edit])


@pytest.mark.parametrize(("sampler", "edit"), CASES)
def test_a_branch_that_changes_nothing_changes_no_bit(model, sampler, edit):
    plan = model.prepare(settings(sampler), inputs(edit=edit))
    whole = draw(plan)
    for at in {1, len(whole) // 2}:
        assert np.array_equal(draw(branch(plan, at, settings(sampler), inputs())), whole)


@pytest.mark.parametrize(("sampler", "edit"), CASES)
def test_a_replay_goes_on_from_any_step_without_the_network_before_it(model, sampler, edit):
    """What was evaluated before the branch is not evaluated again, and the bits are those of the whole branch."""
    plan = model.prepare(settings(sampler), inputs(edit=edit))
    kept, marks = Replay(), [0]
    steps = plan.steps(0, 2, replay=kept)
    for _ in steps:
        marks.append(len(kept.outputs))
    at = len(marks) // 2
    other = branch(plan, at, settings(sampler, guidance_scale=5.0), inputs("a big cat"))
    replay = Replay(kept.outputs[: marks[at]])
    assert np.array_equal(draw(other, replay), draw(other))
    assert all(np.array_equal(a, b) for a, b in zip(replay.outputs, kept.outputs[: marks[at]]))


@pytest.mark.parametrize("edit", [name for name in EDITS if name != "resample"])
def test_another_sampler_takes_over_at_the_level_and_the_numbers_of_the_noise(model, edit):
    """Ancestral sampling from a step on is the same whoever drew the steps before, given the images there."""
    plan = model.prepare(settings("euler", churn=0.0), inputs(edit=edit))
    before = list(plan.steps(0, 2))
    at = len(before) // 2
    over = list(branch(plan, at, settings("ddpm"), inputs()).steps(0, 2))
    assert [step.index for step in over] == list(range(len(before)))
    assert {step.steps for step in over} == {len(before)}
    assert [(step.level, step.prev) for step in over] == [(step.level, step.prev) for step in before]
    assert np.array_equal(to_numpy(over[at].x_t), to_numpy(before[at].x_t))
    assert [step.evaluations for step in over] == [step.evaluations for step in before]
    again = branch(branch(plan, at, settings("ddpm"), inputs()), at + 1, settings("ddpm"), inputs())
    assert np.array_equal(draw(again), [to_numpy(step.x_prev) for step in over])


def test_a_default_that_is_given_by_name_is_no_change(model):
    """Another unipc would have forgotten the steps before."""
    plan = model.prepare(settings("unipc"), inputs())
    assert np.array_equal(draw(branch(plan, 3, settings("unipc", clip="clip"), inputs())), draw(plan))
    assert not np.array_equal(draw(branch(plan, 3, settings("unipc", clip="dynamic"), inputs())), draw(plan))


def test_branches_follow_each_other_and_an_earlier_one_replaces_later_ones(model):
    plan = model.prepare(settings(), inputs())
    first = branch(plan, 3, settings(), inputs("a cat"))
    second = branch(first, 2, settings(), inputs("a small cat"))
    assert [at for at, _ in second.stages()] == [0, 2]
    assert np.array_equal(draw(second), draw(branch(plan, 2, settings(), inputs("a small cat"))))
    third = branch(first, 4, settings(guidance_scale=1.0), inputs("a small cat"))
    assert [at for at, _ in third.stages()] == [0, 3, 4]
    assert np.array_equal(draw(third)[:4], draw(first)[:4])
    assert not np.array_equal(draw(third)[4], draw(first)[4])


def test_what_does_not_fit_is_one_line(model):
    plan = model.prepare(settings(), inputs())
    for wrong, said in (
        ({"seed": 1}, "keeps the seed"),
        ({"steps": 4}, "keeps the steps"),
        ({"spacing": "karras"}, "keeps"),
    ):
        with pytest.raises(MinidiffError, match=said):
            branch(plan, 2, settings(**wrong), inputs())
    with pytest.raises(MinidiffError, match="after 0 to 5 steps, got 7"):
        draw(branch(plan, 7, settings(), inputs()))
    with pytest.raises(MinidiffError, match="after 0 or more steps, got -1"):
        branch(plan, -1, settings(), inputs())
    masked = branch(model.prepare(settings(), inputs(edit="resample")), 2, settings("ddpm"), inputs())
    with pytest.raises(MinidiffError, match="give resample 1"):
        draw(masked)
    assert isinstance(masked, Branch)
