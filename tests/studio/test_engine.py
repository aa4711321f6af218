"""The engine, a turn at a time: what is drawn, stopped, gone back to and branched is what the command would draw."""

import asyncio
import threading
import time

import numpy as np
import pytest
import tiny_model
from PIL import Image

from minidiff import backend
from minidiff import sample as command
from minidiff.errors import MinidiffError
from minidiff.files import sha256
from minidiff.studio import control, engine
from minidiff.studio.config import StudioConfig
from minidiff.studio.drawing import Node, picture_of
from minidiff.studio.engine import Conflict, Full
from minidiff.studio.ids import UnknownIdError
from minidiff.studio.service import Service
from minidiff.studio.settings import request_of, settings_of
from minidiff.studio.views import inside_view
from tests.interop.drawings import calm_weights
from tests.interop.foreign import THEIRS, write_folder

STEPS = 6
DOG = {"prompt": ["a dog"], "seed": 3, "count": 2, "steps": STEPS}


@pytest.fixture
def studio(tmp_path):
    checkpoint = tiny_model.write(tmp_path / "run", words=tiny_model.WORDS)
    service = Service(StudioConfig(checkpoint=checkpoint, out=tmp_path / "out", backend="numpy"), tmp_path / "runs")
    with backend.using("numpy"):
        yield service
    service.close()


def turn(studio, drawing, steps=None):
    """Let the engine work until so many steps of a drawing are drawn, or until it has ended."""
    end = time.monotonic() + 60
    while drawing.state not in ("done", "failed", "cancelled", "paused") or steps is not None:
        if steps is not None and drawing.active.done >= steps:
            return
        studio.engine.turn()
        assert time.monotonic() < end


def draw(studio, settings=DOG, **options):
    drawing, future = studio.submit(settings, **options)
    turn(studio, drawing)
    return drawing, future


def pixels(studio, node):
    return np.stack([np.asarray(Image.open(studio.gallery.path(id))) for id in node.pictures])


def by_command(tmp_path, *words):
    command.main([*map(str, words), "--backend", "numpy", "--array", "--out", str(tmp_path / "command")])
    return np.load(tmp_path / "command" / "samples.npz")["arr_0"]


def test_pictures_are_those_of_the_command_to_the_bit(studio, tmp_path):
    drawing, future = draw(studio)
    assert drawing.state == "done"
    words = ("--checkpoint", tmp_path / "run", "a dog", "--seed", 3, "--count", 2, "--steps", STEPS)
    expected = by_command(tmp_path, *words)
    assert np.array_equal(future.result(0), expected)
    assert np.array_equal(pixels(studio, drawing.active), expected)
    node = drawing.active
    assert [film.index for film in node.films] == list(range(STEPS))
    assert np.array_equal(picture_of(node, STEPS - 1, "x_prev"), expected)
    assert np.array_equal(picture_of(node, 2, "x_prev"), picture_of(node, 3, "x_t"))
    assert picture_of(node, STEPS, "x_t") is None


@pytest.mark.parametrize("sampler", ["ddim", "unipc", "heun", "ddpm"])
def test_pausing_going_on_and_branching_without_a_change_change_no_bit(studio, sampler):
    settings = {**DOG, "sampler": sampler}
    whole, _ = draw(studio, settings)
    drawing, _ = studio.submit(settings)
    turn(studio, drawing, 2)
    control.pause(studio.engine, drawing)
    assert drawing.state == "paused"
    control.resume(studio.engine, drawing, drawing.active, budget=1)
    turn(studio, drawing)
    assert (drawing.state, drawing.active.done) == ("paused", 3)
    control.resume(studio.engine, drawing, drawing.active)
    turn(studio, drawing)
    assert np.array_equal(drawing.active.images, whole.active.images)
    for step in (0, 4):
        control.branch(studio.engine, drawing, studio.new_node(drawing, drawing.nodes[0], step, {}))
        turn(studio, drawing)
        assert np.array_equal(drawing.active.images, whole.active.images)


def test_a_branch_is_that_of_the_command_and_its_pngs_repeat_it(studio, tmp_path):
    drawing, _ = draw(studio)
    change = {"prompt": ["a big cat"], "guidance_scale": 5, "sampler": "unipc"}
    control.branch(studio.engine, drawing, studio.new_node(drawing, drawing.nodes[0], 2, change))
    turn(studio, drawing)
    control.branch(studio.engine, drawing, studio.new_node(drawing, drawing.active, 4, {"negative": "night"}))
    turn(studio, drawing)
    lines = ('step = 2, prompt = "a big cat", guidance_scale = 5, sampler = "unipc"', 'step = 4, negative = "night"')
    words = ("--checkpoint", tmp_path / "run", "a dog", "--seed", 3, "--count", 2, "--steps", STEPS)
    expected = by_command(tmp_path, *words, "--branch", lines[0], "--branch", lines[1])
    assert np.array_equal(pixels(studio, drawing.active), expected)
    path = studio.gallery.path(drawing.active.pictures[1])
    command.main(["--like", str(path), "--array", "--out", str(tmp_path / "again")])
    assert np.array_equal(np.load(tmp_path / "again" / "samples.npz")["arr_0"], expected)
    first, second, third = drawing.nodes
    assert (second.parent, second.start, third.parent, third.start) == (first, 2, second, 4)
    assert third.films[:2] == first.films[:2] and third.films[2:4] == second.films[2:4]
    sibling = studio.new_node(drawing, third, 1, {})  # before both branches: it leaves the first run
    assert sibling.parent is first and sibling.request == third.request


def test_a_drawing_with_branches_shares_what_is_drawn_before_them(studio):
    drawing, _ = draw(studio, changes=[{"step": 3, "settings": {"prompt": ["a cat"]}}])
    root, leaf = drawing.nodes
    assert (root.done, leaf.done, leaf.of) == (3, STEPS, STEPS)
    whole, _ = draw(studio)
    control.resume(studio.engine, drawing, root)
    turn(studio, drawing)
    assert np.array_equal(root.images, whole.active.images)


def test_an_engine_that_draws_one_of_several_draws_all_in_turn(studio):
    drawings = [studio.submit({**DOG, "seed": seed, "count": 1})[0] for seed in range(4)]
    assert [studio.view(each)["place"] for each in drawings] == [0, 1, 2, 3]
    studio.engine.turn()
    control.cancel(studio.engine, drawings[1])
    control.pause(studio.engine, drawings[0])
    for each in drawings[2:]:
        turn(studio, each)
    assert [each.state for each in drawings] == ["paused", "cancelled", "done", "done"]
    alone = [draw(studio, {**DOG, "seed": seed, "count": 1})[0].active.images for seed in (2, 3)]
    assert np.array_equal(alone, [each.active.images for each in drawings[2:]])


def test_what_a_state_does_not_allow_is_refused(studio):
    drawing, future = studio.submit(DOG)
    with pytest.raises(Conflict, match="queued cannot be resumed"):
        control.resume(studio.engine, drawing, drawing.active)
    control.cancel(studio.engine, drawing)
    with pytest.raises(MinidiffError, match="cancelled"):
        future.result(0)
    for act in (control.cancel, control.pause):
        with pytest.raises(Conflict, match="cancelled cannot be"):
            act(studio.engine, drawing)
    done, _ = draw(studio)
    with pytest.raises(Conflict, match="all steps are drawn"):
        control.resume(studio.engine, done, done.active)
    for step in (-1, STEPS, 10**9, True, "2", None, 1.5):
        with pytest.raises(MinidiffError, match="after 0 to 5"):
            studio.new_node(done, done.active, step, {})
    plain, _ = draw(studio, keep=False)
    assert plain.active.films == [] and plain.newest.index == STEPS - 1  # only what progress shows is kept
    assert plain.id not in studio.engine.drawings
    with pytest.raises(UnknownIdError):
        studio.drawing("d99")


def test_the_queue_is_bounded(studio, monkeypatch):
    monkeypatch.setattr(engine, "MAX_QUEUE", 2)
    waiting = [studio.submit(DOG)[0] for _ in range(2)]
    with pytest.raises(Full, match="2 drawings wait"):
        studio.submit(DOG)
    turn(studio, waiting[0])
    assert studio.submit(DOG)[0].state == "queued"
    assert len(studio.engine.drawings) == 3  # what was refused is nowhere
    monkeypatch.setattr(engine, "MAX_QUEUE", 20)
    monkeypatch.setattr(engine, "MAX_DRAWINGS", 2)
    for _ in range(3):
        draw(studio)
    assert len(studio.engine.drawings) <= 2 + 2  # those that have not ended stay


def test_a_failure_is_one_line_and_the_next_drawing_is_drawn(studio, monkeypatch):
    drawing, future = studio.submit(DOG)
    monkeypatch.setattr(drawing.active.plan.model.model, "condition", lambda *_: 1 / 0)
    turn(studio, drawing)
    assert drawing.state == "failed"
    assert drawing.error.startswith("internal error ")
    with pytest.raises(MinidiffError, match="internal error"):
        future.result(0)
    monkeypatch.undo()
    assert draw(studio)[0].state == "done"


def test_a_full_disk_fails_the_drawing_with_one_line(studio, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "out.png")

    monkeypatch.setattr(studio.gallery, "save", full)
    drawing, _ = draw(studio)
    assert (drawing.state, drawing.error) == ("failed", "no space left on the disk: out.png")
    monkeypatch.undo()
    assert draw(studio)[0].state == "done"


def test_looking_inside_changes_no_bit_and_records_what_was_drawn_without(studio):
    plain, _ = draw(studio)
    drawing, _ = studio.submit(DOG)
    turn(studio, drawing, 2)
    control.look_inside(studio.engine, drawing, True)
    turn(studio, drawing)
    assert np.array_equal(drawing.active.images, plain.active.images)
    assert sorted(drawing.active.frames) == list(range(STEPS))
    before = list(plain.active.pictures)
    control.look_inside(studio.engine, plain, True)
    turn(studio, plain)
    assert (plain.state, plain.active.pictures) == ("done", before)  # it is not saved a second time
    for k in range(STEPS):
        content = inside_view(plain.active, k)
        assert content["words"] == ["a", "dog"]
        assert content["step"]["index"] == k
        assert {"cond", "uncond", "difference", "attention", "lines"} <= content["frame"].keys()
    assert inside_view(plain.active, STEPS) is None
    control.branch(studio.engine, plain, studio.new_node(plain, plain.active, 3, {"prompt": ["a cat"]}))
    turn(studio, plain)
    assert inside_view(plain.active, 2)["words"] == ["a", "dog"]
    assert inside_view(plain.active, 3)["words"] == ["a", "cat"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([], "must be a JSON object"),
        ({"checkpoint": "/etc/passwd"}, "'checkpoint' cannot be set"),
        ({"out": "x"}, "'out' cannot be set"),
        ({"init": "../../etc/passwd"}, "no picture"),
        ({"init": 7}, "must be the id of a picture"),
        ({"model": "../m0"}, "there is no model"),
        ({"model": ["m0"]}, "there is no model"),
        ({"count": 65}, "from 1 to 64"),
        ({"count": True}, "must be a whole number"),
        ({"steps": 100000}, "1000"),
        ({"steps": 0}, "steps must be"),
        ({"prompt": ["a doge"]}, "dog"),
        ({"prompt": [1]}, "must be a text"),
        ({"sampler": "magic"}, "must be one of"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be"),
        ({"guidance_scale": 10**400}, "guidance_scale must be"),
        ({"seed": -1}, "seed must be"),
        ({"strength": 0.5}, "give --init"),
        ({"reference_scale": "<script>"}, "must be a number"),
        ({"steps": 1000, "count": 64, "resample": 1}, None),
    ],
)
def test_settings_that_cannot_be_are_one_line(studio, settings, said):
    if said is None:
        studio.submit({"prompt": ["a dog"], **settings})
        return
    with pytest.raises(MinidiffError, match=said) as error:
        studio.submit({"prompt": ["a dog"], **settings} if isinstance(settings, dict) else settings)
    assert "\n" not in str(error.value)


def test_settings_go_to_a_request_and_back(studio):
    entry, _ = studio.models.load("m0")
    settings = {**DOG, "guidance_interval": [0.5, "inf"], "eta": 0.5, "negative": "night"}
    request = request_of(settings, entry.request(), studio.pictures.path)
    assert request.guidance_interval == (0.5, np.inf)
    there = settings_of(request, "m0", lambda _: None)
    assert {name: there[name] for name in settings} == settings
    assert request_of({k: v for k, v in there.items() if v is not None}, entry.request(), None) == request


def test_a_watcher_gets_the_newest_of_each_kind_and_the_last_of_all(studio):
    async def watch():
        rounds = asyncio.ensure_future(studio.hub.rounds())
        await asyncio.sleep(0)
        from minidiff.studio.hub import Watcher

        slow, other = Watcher(), Watcher()
        studio.hub.watchers |= {slow, other}
        other.only = "d7"
        for k in range(500):
            studio.hub.preview("d1", lambda k=k: b"%d" % k)
            studio.hub.event(("drawing", "d1"), {"step": k})
            if k % 100 == 0:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        assert set(slow.pending) == {("preview", "d1"), ("drawing", "d1")}
        assert {await slow.next(), await slow.next()} == {b"499", '{"step":499}'}
        assert set(other.pending) == {("drawing", "d1")}
        rounds.cancel()

    asyncio.run(watch())


def test_what_is_being_saved_is_saved_once_and_nothing_meets_it(studio, monkeypatch):
    """A slow disk: until the images are on it, the drawing can neither be recorded nor branched nor cancelled."""
    release, save = threading.Event(), studio.gallery.save

    def slow(*words):
        release.wait(30)
        return save(*words)

    monkeypatch.setattr(studio.gallery, "save", slow)
    drawing, _ = studio.submit(DOG)
    turn(studio, drawing, STEPS)
    node = studio.new_node(drawing, drawing.active, 2, {})
    for act in (
        lambda: control.look_inside(studio.engine, drawing, True),
        lambda: control.branch(studio.engine, drawing, node),
        lambda: control.pause(studio.engine, drawing),
        lambda: control.cancel(studio.engine, drawing),
        lambda: control.resume(studio.engine, drawing, drawing.active),
    ):
        with pytest.raises(Conflict, match="are being saved"):
            act()
    release.set()
    turn(studio, drawing)
    assert drawing.state == "done"
    assert len(list(studio.gallery.folder.glob("*.png"))) == 2


def test_images_that_could_not_be_saved_are_saved_later(studio, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "out.png")

    monkeypatch.setattr(studio.gallery, "save", full)
    drawing, future = draw(studio)
    assert drawing.state == "failed"
    assert future.result(0).shape == (2, 8, 8, 3)  # whoever waits gets them all the same
    monkeypatch.undo()
    control.resume(studio.engine, drawing, drawing.active)
    turn(studio, drawing)
    assert (drawing.state, drawing.error) == ("done", None)
    assert np.array_equal(pixels(studio, drawing.active), drawing.active.images)


def test_a_png_names_the_weights_that_drew_it_whatever_became_of_their_file(studio, tmp_path):
    """The checkpoint is replaced, then removed, while its model is loaded."""
    path = studio.models.entry("m0").path
    first = sha256(path)
    drawing, _ = studio.submit(DOG)
    turn(studio, drawing, 2)
    other = tiny_model.write(tmp_path / "other", words=tiny_model.WORDS, step=11)
    other.replace(path)
    turn(studio, drawing)
    assert studio.gallery.settings(drawing.active.pictures[0])["checkpoint_sha256"] == first
    control.branch(studio.engine, drawing, studio.new_node(drawing, drawing.nodes[0], 2, {}))
    turn(studio, drawing)
    assert studio.gallery.settings(drawing.active.pictures[0])["checkpoint_sha256"] == first
    second, _ = draw(studio)
    assert studio.gallery.settings(second.active.pictures[0])["checkpoint_sha256"] == sha256(path) != first
    path.unlink()
    last, _ = draw(studio)
    assert last.state == "done"
    assert np.array_equal(pixels(studio, last.active), pixels(studio, second.active))


def test_a_drawing_that_is_recorded_again_goes_back_to_its_state(studio):
    drawing, _ = draw(studio)
    for stop in (
        lambda: control.look_inside(studio.engine, drawing, False),
        lambda: control.pause(studio.engine, drawing),
        lambda: control.cancel(studio.engine, drawing),
    ):
        control.look_inside(studio.engine, drawing, True)
        studio.engine.turn()
        stop()
        assert drawing.state == "done"
    half, _ = studio.submit(DOG)
    turn(studio, half, 3)
    control.pause(studio.engine, half)
    control.look_inside(studio.engine, half, True)
    control.look_inside(studio.engine, half, False)
    assert (half.state, half.active.done) == ("paused", 3)
    control.look_inside(studio.engine, half, True)
    turn(studio, half)
    assert (half.state, half.active.done, len(half.active.frames)) == ("paused", 3, 3)
    control.resume(studio.engine, half, half.active, budget=1)
    turn(studio, half)
    assert (half.state, half.active.done) == ("paused", 4)


def test_drawings_of_other_programs_are_theirs_alone(studio):
    drawing, _ = studio.submit(DOG, keep=False)
    with pytest.raises(UnknownIdError):
        studio.drawing(drawing.id)
    for act in (control.pause, lambda engine, each: control.look_inside(engine, each, True)):
        with pytest.raises(Conflict, match="another program"):
            act(studio.engine, drawing)
    turn(studio, drawing)


def test_paused_drawings_and_their_steps_are_bounded(studio, monkeypatch):
    monkeypatch.setattr(engine, "MAX_DRAWINGS", 3)
    for _ in range(3):
        studio.submit(DOG, paused=True)
    with pytest.raises(Full, match="3 drawings are paused"):
        studio.submit(DOG)
    for each in list(studio.engine.drawings.values()):
        control.cancel(studio.engine, each)
    for _ in range(6):
        control.cancel(studio.engine, studio.submit(DOG)[0])
    assert len(studio.engine.drawings) <= 4
    monkeypatch.setattr(engine, "MAX_BYTES", 1000)
    with pytest.raises(Full, match="MiB"):
        studio.submit(DOG)


def test_what_is_refused_changes_nothing(studio, monkeypatch):
    drawing, _ = draw(studio)
    other, _ = studio.submit(DOG)
    monkeypatch.setattr(engine, "MAX_QUEUE", 1)
    node = studio.node(drawing, 0)
    for act in (
        lambda: control.look_inside(studio.engine, drawing, True),
        lambda: control.branch(studio.engine, drawing, Node(1, node, 2, node.request, node.plan)),
    ):
        before = studio.view(drawing)
        with pytest.raises(Full):
            act()
        assert studio.view(drawing) == before
    turn(studio, other)


@pytest.mark.parametrize("steps", [[1, "x"], [4, 2], [None], [True], [-1], [9]])
def test_branches_of_a_new_drawing_are_in_order(studio, steps):
    if steps == [9]:  # beyond the last, which only the run knows
        drawing, _ = draw(studio, changes=[{"step": 9}])
        assert (drawing.state, "after 0 to" in drawing.error) == ("failed", True)
        return
    with pytest.raises(MinidiffError, match="in the order"):
        studio.submit(DOG, [{"step": step} for step in steps])


def test_a_diffusers_model_draws_what_the_command_draws_with_it(tmp_path):
    """Its noise is one stream for all images, so their number counts; a branch goes on in the same stream."""
    folder = write_folder(tmp_path / "theirs", THEIRS["plain"], calm_weights("plain", {}))
    service = Service(StudioConfig(diffusers=(folder,), out=tmp_path / "out"), tmp_path / "runs")
    with backend.using("numpy"):
        settings = {"model": "m1", "seed": 4, "count": 3, "steps": STEPS, "sampler": "ddpm"}
        drawing, _ = draw(service, settings)
        words = ("--diffusers", folder, "--seed", 4, "--count", 3, "--steps", STEPS, "--sampler", "ddpm")
        assert np.array_equal(drawing.active.images, by_command(tmp_path, *words))
        control.branch(service.engine, drawing, service.new_node(drawing, drawing.active, 3, {}))
        turn(service, drawing)
        assert np.array_equal(drawing.active.images, drawing.nodes[0].images)
        assert service.view(drawing)["nodes"][0]["settings"]["model"] == "m1"
        with pytest.raises(MinidiffError, match="cannot read a prompt"):
            service.submit({**settings, "prompt": ["a dog"]})
    service.close()
