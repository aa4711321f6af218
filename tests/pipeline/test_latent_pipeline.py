"""Drawing with a latent model: the sampler sees latents, everybody else images of full size."""

import numpy as np
import pytest
import tiny_model

from minidiff import backend
from minidiff.backend import to_device, to_numpy
from minidiff.diffusion.edit import Edit
from minidiff.errors import MinidiffError
from minidiff.images.files import to_float, to_uint8
from minidiff.pipeline import loading
from minidiff.pipeline.branch import branch
from minidiff.pipeline.plan import Replay
from minidiff.pipeline.settings import Inputs, SamplingSettings
from tests.backends import BACKENDS

HOW = {"prompt": "a dog", "steps": 4, "seed": 3}
IMAGE = to_float(np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8))
MASK = np.zeros((16, 24, 1), np.float32)
MASK[3:9, 5:] = 1
EDITS = {
    "img2img": Edit(IMAGE, strength=0.7),
    "inpaint": Edit(IMAGE, mask=MASK),
    "resample": Edit(IMAGE, mask=MASK, resample=2),
    "denoise": Edit(IMAGE, sigma=0.5),
    "estimate": Edit(IMAGE, sigma="estimate"),
    "vary": Edit(IMAGE, vary=0.3),
    "to": Edit(IMAGE, to=-IMAGE, frames=3),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny_model.write_latent(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def model(run):
    return loading.load(run)


def plan_of(model, edit=None, sampler="ddim"):
    return model.prepare(
        SamplingSettings(sampler=sampler, steps=4, seed=3), Inputs(prompt=None if edit else "a dog", edit=edit)
    )


def draw(plan, replay=None):
    return [to_numpy(step.x_prev) for step in plan.steps(0, 2, replay=replay)]


def test_a_sample_is_the_decoded_end_of_the_last_step(native_backend, run):
    model = loading.load(run)
    *_, last = steps = list(model.generate(2, **HOW))
    assert {step.x_t.shape for step in steps} == {(2, 4, 6, 4)}
    images = model.sample(2, **HOW)
    assert images.shape == (2, 16, 24, 3) and images.dtype == np.uint8
    np.testing.assert_array_equal(images, to_uint8(model.space.decode(last.x_prev)))
    assert images.std() > 10  # something is on them
    assert np.abs(model.sample(2, **HOW, batch_size=1).astype(int) - images).max() <= 1  # sums in another order


def test_backends_draw_the_same_images(run):
    drawn = []
    for name in BACKENDS:
        with backend.using(name):
            drawn.append(loading.load(run).sample(2, **HOW).astype(int))
    assert np.abs(drawn[1] - drawn[0]).max() <= 1


def test_nothing_is_cut_to_the_range_of_pixels(model):
    """Latents have no range: those of this model go beyond 1, and so does what is predicted of them."""
    plan = plan_of(model)
    assert np.abs([to_numpy(step.x0_hat) for step in plan.steps(0, 2)]).max() > 1
    np.testing.assert_array_equal(model.sample(1, **HOW), model.sample(1, **HOW, clip="none"))
    for clip in ("clip", "dynamic"):
        with pytest.raises(MinidiffError) as caught:
            model.sample(1, **HOW, clip=clip)
        assert str(caught.value) == f"latents have no range that they could be cut to: clip must be none, got {clip}"


@pytest.mark.parametrize("edit", [None, *EDITS])
def test_steps_are_shown_as_images(model, edit):
    """Previews on the way, and at the end what is drawn."""
    plan = plan_of(model, EDITS.get(edit))
    steps = list(plan.steps(0, 2))
    shown = [plan.shown(step) for step in steps]
    for step, image in zip(steps, shown):
        assert image.x_t.shape == image.x0_hat.shape == image.x_prev.shape == (2, 16, 24, 3)
        assert (image.index, image.level, image.evaluations) == (step.index, step.level, step.evaluations)
        np.testing.assert_array_equal(image.x_t, model.space.preview(step.x_t))
    np.testing.assert_array_equal(shown[0].x_prev, model.space.preview(steps[0].x_prev))
    np.testing.assert_array_equal(shown[-1].x_prev, plan.images(steps[-1].x_prev))


@pytest.mark.parametrize("edit", ["inpaint", "resample"])
def test_inpainting_keeps_the_kept_pixels_to_the_bit(model, edit):
    """Also those in a place of the latents that is drawn anew because of other pixels in it."""
    plan = plan_of(model, EDITS[edit])
    *_, last = plan.steps(0, 2)
    images, kept = plan.images(last.x_prev), np.broadcast_to(MASK == 0, (2, 16, 24, 3))
    np.testing.assert_array_equal(images[kept], np.broadcast_to(IMAGE, images.shape)[kept])
    np.testing.assert_array_equal(
        model.sample(2, steps=4, seed=3, edit=EDITS[edit])[kept], np.stack([to_uint8(IMAGE)] * 2)[kept]
    )
    assert not np.array_equal(images[0][MASK[..., 0] == 1], images[1][MASK[..., 0] == 1])
    np.testing.assert_array_equal(images[~kept], model.space.decode(last.x_prev)[~kept])


def test_an_edit_that_changes_nothing_returns_what_the_autoencoder_makes_of_the_image(model):
    plan = plan_of(model, Edit(IMAGE, strength=0.0))
    *_, last = plan.steps(0, 1)
    expected = model.space.decode(model.space.encode(to_device(IMAGE[None])))
    np.testing.assert_allclose(plan.images(last.x_prev), expected, atol=1e-6)


def test_two_images_are_joined_by_those_between(model):
    images = model.sample(3, steps=8, edit=EDITS["to"]).astype(int)
    ends = [model.space.decode(model.space.encode(x[None])) for x in (IMAGE, -IMAGE)]
    for image, end, other in zip(images[[0, 2]], ends, reversed(ends)):
        error, far = (np.abs(image - to_uint8(x)[0].astype(int)).mean() for x in (end, other))
        assert error < far


def test_an_image_of_another_size_is_one_line(model):
    for shape in ((16, 16, 3), (4, 6, 4), (16, 24, 1)):
        with pytest.raises(MinidiffError) as caught:
            plan_of(model, Edit(np.zeros(shape, np.float32)))
        assert str(caught.value) == f"the image must be (16, 24, 3) as the model's are, got {shape}"


# -- branches and replays ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edit", [None, *EDITS])
def test_a_branch_that_changes_nothing_changes_no_bit(model, edit):
    plan = plan_of(model, EDITS.get(edit), "unipc")
    whole = draw(plan)
    other = branch(plan, len(whole) // 2, plan.settings, plan.inputs)
    again = draw(other)
    assert len(again) == len(whole) and all(np.array_equal(a, b) for a, b in zip(again, whole))
    np.testing.assert_array_equal(other.images(again[-1]), plan.images(whole[-1]))


@pytest.mark.parametrize("edit", [None, "inpaint"])
def test_a_replay_draws_the_same_without_the_network(model, edit):
    plan, kept = plan_of(model, EDITS.get(edit)), Replay()
    whole = draw(plan, kept)
    assert {output.shape[1:] for output in kept.outputs} == {(4, 6, 4)}
    again = Replay(kept.outputs)
    assert all(np.array_equal(a, b) for a, b in zip(draw(plan, again), whole))
    assert len(again.outputs) == len(kept.outputs)
    at = len(whole) // 2
    other = branch(plan, at, plan.settings, Inputs(prompt="a big cat"))
    drawn = draw(other, Replay(kept.outputs[:at]))
    assert all(np.array_equal(a, b) for a, b in zip(drawn, draw(other)))
    assert not np.array_equal(drawn[-1], whole[-1])
