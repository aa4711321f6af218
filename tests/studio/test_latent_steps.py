"""A latent model in the studio: sizes are those of images, steps are previews, and one that is looked at is decoded.

The latents are 4 times smaller than the images, which are not square.
"""

import base64
import io
import threading

import numpy as np
import pytest
import tiny_model
from PIL import Image
from starlette.testclient import TestClient

from minidiff import backend
from minidiff.images.files import to_uint8
from minidiff.studio import control
from minidiff.studio.app import make_app
from minidiff.studio.config import StudioConfig
from minidiff.studio.decoding import Wish, guess
from minidiff.studio.drawing import picture_of
from minidiff.studio.engine import Conflict
from minidiff.studio.service import MOST_BYTES, Service, memory_of

ADDRESS = "http://127.0.0.1:7860"
SIZE = (24, 40)
STEPS = 4
DOG = {"prompt": ["a dog"], "seed": 3, "count": 2, "steps": STEPS}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_model.write_latent(tmp_path_factory.mktemp("latent") / "run", size=SIZE)


@pytest.fixture
def service(checkpoint, tmp_path):
    """A studio whose engine takes a turn when it is told to."""
    made = Service(StudioConfig(checkpoint=checkpoint, out=tmp_path / "out", backend="numpy"), tmp_path / "runs")
    with backend.using("numpy"):
        yield made
    made.close()


@pytest.fixture(scope="module")
def studio(checkpoint, tmp_path_factory):
    """A studio whose engine runs on a thread of its own, which the kernels of NumPy allow."""
    folder = tmp_path_factory.mktemp("studio")
    made = Service(StudioConfig(checkpoint=checkpoint, out=folder / "out"), folder / "runs")
    with backend.using("numpy"):
        thread = threading.Thread(target=made.engine.run)
        thread.start()
        app = make_app(made, frozenset({"127.0.0.1:7860"}), None)
        with TestClient(app, base_url=ADDRESS, raise_server_exceptions=False) as client:
            client.service = made
            yield client
        made.engine.stopping.set()
        thread.join()
        made.close()


@pytest.fixture(scope="module")
def steps(studio):
    """The steps of the drawing DOG, as the pipeline draws them, and the space of its latents."""
    _, pipeline = studio.service.models.load("m0")
    run = pipeline.generate(2, prompt="a dog", seed=3, steps=STEPS)
    return [{name: np.array(getattr(step, name)) for name in ("x_t", "x0_hat", "x_prev")} for step in run], (
        pipeline.space
    )


def draw(client, settings=DOG, **body):
    made = client.post("/api/drawings", json={"settings": settings, **body})
    assert made.status_code == 201, made.text
    while (drawing := client.get(f"/api/drawings/{made.json()['id']}").json())["state"] not in ("done", "failed"):
        pass
    assert drawing["state"] == "done", drawing["error"]
    return drawing


def pixels(reply):
    assert reply.status_code == 200, reply.text
    return np.asarray(Image.open(io.BytesIO(reply.content)))


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def turn(service, drawing, steps):
    while drawing.active.done < steps:
        service.engine.turn()


# -- pictures of steps ------------------------------------------------------------------------------------------------


def test_steps_are_previews_and_each_can_be_decoded(studio, steps):
    expected, space = steps
    drawing = draw(studio)
    assert (drawing["height"], drawing["width"], drawing["latent"]) == (*SIZE, True)
    path = f"/api/drawings/{drawing['id']}/nodes/0/steps"
    for k in range(STEPS - 1):
        for what in ("x_t", "x0_hat", "x_prev"):
            latents = expected[k][what]
            preview = to_uint8(space.preview(latents))
            assert np.array_equal(pixels(studio.get(f"{path}/{k}/{what}.png")), preview.reshape(-1, *preview.shape[2:]))
            decoded = to_uint8(space.decode(latents[1:]))[0]
            assert decoded.shape == (*SIZE, 3)
            # an image by itself is rounded as one of two is, up to a grey level
            found = pixels(studio.get(f"{path}/{k}/decoded/{what}.png?image=1"))
            assert np.abs(found.astype(int) - decoded).max() <= 1
            assert np.abs(found.astype(int) - preview[1]).max() > 1  # else this test would prove nothing


def test_the_last_step_is_decoded_from_the_start(studio):
    drawing = draw(studio)
    pictures = np.concatenate([pixels(studio.get(f"/api/gallery/{id}.png")) for id in drawing["nodes"][0]["pictures"]])
    path = f"/api/drawings/{drawing['id']}/nodes/0/steps/{STEPS - 1}"
    assert pictures.shape == (2 * SIZE[0], SIZE[1], 3)
    for what in ("x0_hat", "x_prev"):  # ddim ends with its guess
        assert np.array_equal(pixels(studio.get(f"{path}/{what}.png")), pictures)
        assert np.array_equal(pixels(studio.get(f"{path}/decoded/{what}.png?image=1")), pictures[SIZE[0] :])


@pytest.mark.parametrize("place", ["9/decoded/x_t.png", "0/decoded/x.png", "0/decoded/x_t.png?image=2"])
def test_what_is_not_drawn_is_not_decoded(studio, place):
    drawing = draw(studio)
    reply = studio.get(f"/api/drawings/{drawing['id']}/nodes/0/steps/{place}")
    assert (reply.status_code, reply.json()) == (404, {"error": "that step is not drawn"})


def test_steps_of_a_model_of_pixels_are_what_they_are(tmp_path):
    checkpoint = tiny_model.write(tmp_path / "run", words=tiny_model.WORDS)
    service = Service(StudioConfig(checkpoint=checkpoint, out=tmp_path / "out", backend="numpy"), tmp_path / "runs")
    with backend.using("numpy"):
        drawing, _ = service.submit(DOG)
        turn(service, drawing, 2)
        asked = service.decoding.ask(drawing, Wish(drawing.active, 1, "x0_hat", 1))
        service.engine.turn()
    assert np.array_equal(asked.result(0), picture_of(drawing.active, 1, "x0_hat")[1])
    assert not drawing.active.films[1].latents
    assert not service.view(drawing)["latent"]
    service.close()


def test_of_many_wishes_only_the_newest_is_granted(service, monkeypatch):
    drawing, _ = service.submit({**DOG, "steps": 9})
    turn(service, drawing, 6)
    control.pause(service.engine, drawing)
    decoded, images = [], drawing.active.plan.model.space.decode
    monkeypatch.setattr(
        type(drawing.active.plan.model.space), "decode", lambda _, x: decoded.append(len(x)) or images(x)
    )
    ask = lambda k, what: service.decoding.ask(drawing, Wish(drawing.active, k, what, 0))
    waiting = [ask(k, "x0_hat") for k in range(6)]
    other = ask(0, "x_t")  # beside it: two pictures are shown of a step
    assert service.engine._calls.qsize() == 2
    service.engine.turn()
    for each in waiting[:-1]:
        with pytest.raises(Conflict, match="another step of this drawing has been asked for since"):
            each.result(0)
    assert waiting[-1].result(0).shape == other.result(0).shape == (*SIZE, 3)
    assert decoded == [1, 1]
    later = ask(2, "x0_hat")
    service.engine.turn()
    assert not np.array_equal(later.result(0), waiting[-1].result(0))


def test_the_decoder_is_warm_before_anybody_draws(service, monkeypatch):
    decoded, space = [], service.models.load("m0")[1].space
    monkeypatch.setattr(type(space), "decode", lambda _, x: decoded.append(x.shape))
    service.warm_up()
    assert decoded == [(1, 6, 10, 4)]


def test_a_wish_of_somebody_who_has_left_is_not_granted(service):
    drawing, _ = service.submit(DOG)
    turn(service, drawing, 1)
    wish = service.decoding.ask(drawing, Wish(drawing.active, 0, "x_t", 0))
    assert wish.cancel()
    newer = service.decoding.ask(drawing, Wish(drawing.active, 0, "x_t", 1))
    service.engine.turn()
    assert newer.result(0) is not None


def test_a_branch_is_decoded_and_goes_on(studio):
    drawing = draw(studio)
    path = f"/api/drawings/{drawing['id']}"
    made = studio.post(f"{path}/branches", json={"node": 0, "step": 2, "settings": {"prompt": "a cat"}})
    assert made.status_code == 201, made.text
    while studio.get(path).json()["state"] != "done":
        pass
    before, after = (f"{path}/nodes/{node}/steps" for node in (0, 1))
    same = [pixels(studio.get(f"{where}/1/decoded/x0_hat.png")) for where in (before, after)]
    assert np.array_equal(*same)
    other = [pixels(studio.get(f"{where}/2/decoded/x0_hat.png")) for where in (before, after)]
    assert not np.array_equal(*other)


def test_what_is_kept_of_an_inpainted_picture_is_kept_in_its_decoded_steps(studio):
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    mask = np.zeros(SIZE, np.uint8)
    mask[:, 20:] = 255
    ids = [studio.post("/api/pictures", content=png(each)).json()["id"] for each in (image, mask)]
    drawing = draw(studio, {**DOG, "init": ids[0], "mask": ids[1]})
    found = pixels(studio.get(f"/api/drawings/{drawing['id']}/nodes/0/steps/1/decoded/x0_hat.png"))
    assert np.array_equal(found[:, :20], image[:, :20])
    assert not np.array_equal(found[:, 20:], image[:, 20:])


def test_a_recorded_step_says_that_it_is_of_latents(studio):
    drawing = draw(studio, inside=True)
    said = studio.get(f"/api/drawings/{drawing['id']}/nodes/0/steps/1/inside").json()
    assert (said["height"], said["width"], said["latent"]) == (*SIZE, [6, 10])
    for name in ("x_t", "x0", "cond", "uncond", "guided", "difference"):
        with Image.open(io.BytesIO(base64.b64decode(said["frame"][name].split(",")[1]))) as image:
            assert image.size == SIZE[::-1]
    assert any(line["what"] == "Converted to latents without noise" for line in said["frame"]["lines"])


# -- memory -----------------------------------------------------------------------------------------------------------


def test_memory_is_estimated_as_it_is_taken(service):
    drawing, _ = service.submit({**DOG, "steps": 20})
    turn(service, drawing, 10)
    control.pause(service.engine, drawing)
    node, before = drawing.active, drawing.bytes
    assert memory_of(node.request, node.plan) == 2 * before  # half of the steps are drawn
    assert before < 2 * 10 * 2 * np.prod((*SIZE, 3))  # less than two images of bytes for each step of each
    control.look_inside(service.engine, drawing, True)
    while len(node.frames) < 10:
        service.engine.turn()
    frame = node.frames[1]
    own = [array for step in (frame.step, frame.shown) for array in (step.x_t, step.x0_hat, step.x_prev, step.eps_hat)]
    said = [array for array in vars(frame.outputs).values() if isinstance(array, np.ndarray)]
    taken = sum(array.nbytes for array in (*own, *said, *frame.outputs.attention.values()))
    assert taken <= (drawing.bytes - before) / 10 <= 1.5 * taken


def test_sixty_four_pictures_of_128_pixels_are_few_enough_to_go_back_to(tmp_path):
    checkpoint = tiny_model.write_latent(tmp_path / "run", size=(128, 128))  # latents of 32×32×4, as many as 16×16×16
    service = Service(StudioConfig(checkpoint=checkpoint, out=tmp_path / "out", backend="numpy"), tmp_path / "runs")
    with backend.using("numpy"):
        drawing, _ = service.submit({**DOG, "count": 64, "steps": 50}, paused=True)
    assert memory_of(drawing.active.request, drawing.active.plan) < MOST_BYTES
    service.close()


# -- sizes and settings -----------------------------------------------------------------------------------------------


def test_a_model_says_the_size_of_its_images(studio):
    (model,) = studio.get("/api/state").json()["models"]
    model = studio.post(f"/api/models/{model['id']}", json={}).json()
    assert (model["height"], model["width"], model["channels"], model["latent"]) == (*SIZE, 3, [6, 10, 4])
    assert (model["clip"], model["clips"]) == ("none", ["none"])
    picture = studio.post("/api/pictures", content=png(np.eye(50, dtype=np.uint8) * 255)).json()["id"]
    for use, shape in (("init", (*SIZE, 3)), ("control", SIZE), ("mask", SIZE), ("reference", (*SIZE, 3))):
        assert pixels(studio.get(f"/api/pictures/{picture}/as/{use}.png?model=m0")).shape == shape
    reply = studio.post("/api/drawings", json={"settings": {**DOG, "clip": "clip"}})
    assert reply.status_code == 400
    assert reply.json()["error"] == "latents have no range that they could be cut to: clip must be none, got clip"


def test_a_png_gives_its_settings_back(studio):
    drawing = draw(studio, {**DOG, "clip": "none", "sampler": "unipc"})
    picture = studio.get(f"/api/gallery/{drawing['nodes'][0]['pictures'][1]}.png").content
    back = studio.post("/api/settings", content=picture).json()
    assert (back["settings"], back["missing"]) == (drawing["nodes"][0]["settings"], [])
    again = draw(studio, back["settings"])
    assert np.array_equal(
        pixels(studio.get(f"/api/gallery/{again['nodes'][0]['pictures'][1]}.png")),
        np.asarray(Image.open(io.BytesIO(picture))),
    )


def test_other_programs_get_images_of_the_models_size(studio):
    asked = {"prompt": "a dog", "steps": 2, "width": 512, "height": 512, "seed": 1}
    reply = studio.post("/sdapi/v1/txt2img", json=asked).json()
    with Image.open(io.BytesIO(base64.b64decode(reply["images"][0]))) as image:
        assert image.size == SIZE[::-1]
        assert "Size: 40x24" in image.info["parameters"]
    assert (reply["parameters"]["width"], reply["parameters"]["height"]) == SIZE[::-1]
    reply = studio.post("/v1/images/generations", json={"prompt": "a dog", "steps": 2, "seed": 1}).json()
    assert reply["size"] == "40x24"


def test_a_drawing_of_another_program_that_is_stopped_is_decoded(service):
    drawing, _ = service.submit(DOG, keep=False)
    while drawing.newest is None or drawing.newest.index < 1:
        service.engine.turn()
    preview, found = drawing.newest.picture("x0_hat"), guess(drawing)
    assert preview.shape == found.shape == (2, *SIZE, 3)
    space = drawing.active.plan.model.space
    assert np.array_equal(found, to_uint8(space.decode(drawing.newest.latents["x0_hat"])))
    assert not np.array_equal(found, preview)
