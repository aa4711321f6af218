"""The studio spoken to by `webuiapi`, a client of AUTOMATIC1111's web UI that nobody here has written."""

import base64
import io
import json
import threading
import time
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
from PIL import Image

from minidiff.studio import a1111_fields, parameters
from tests.studio.running import running, sampled

webuiapi = pytest.importorskip("webuiapi")
httpx = pytest.importorskip("httpx")

RNG = np.random.default_rng(0)
PHOTO = Image.fromarray(RNG.integers(0, 256, (24, 24, 3), np.uint8))
LONG = {"prompt": "a dog", "steps": 1000, "batch_size": 8}  # ten seconds, if nobody interrupts


@pytest.fixture(scope="module")
def api(studio):
    client = webuiapi.WebUIApi(port=studio.port, steps=5)
    for call in ("get", "post"):  # by themselves these wait forever
        setattr(client.session, call, partial(getattr(client.session, call), timeout=60))
    return client


@pytest.fixture(autouse=True)
def nothing_is_drawn_afterwards(request):
    yield
    if "api" in request.fixturenames:
        until(lambda: request.getfixturevalue("api").get_progress()["state"]["job_count"] == 0)


def until(holds, seconds=20):
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)
    return found


@contextmanager
def drawing(api, **options):
    """Draw in a thread, from its first step on; yield a list that will hold the reply."""
    reply = []
    thread = threading.Thread(target=lambda: reply.append(api.txt2img(**{**LONG, **options})))
    thread.start()
    until(lambda: api.get_progress()["state"]["sampling_step"] > 0)
    yield reply
    thread.join(30)
    assert reply, "no reply came"


def pixels(images):
    return [np.asarray(image).tolist() for image in images]


def refused(api, call="txt2img", **options):
    """Return the sentence with which a request is refused; it is everywhere where a client may look."""
    with pytest.raises(RuntimeError) as caught:
        getattr(api, call)(**options)
    status, text = caught.value.args
    answer = json.loads(text)
    assert 400 <= status < 500 and answer["detail"] == answer["errors"] and "\n" not in answer["detail"]
    return answer["detail"]


def test_the_same_seed_draws_the_same_images_and_they_are_those_of_the_command(api, studio, tmp_path):
    first, again, other = (api.txt2img(prompt="a dog", seed=seed, batch_size=2, cfg_scale=2) for seed in (3, 3, 4))
    assert pixels(first.images) == pixels(again.images) != pixels(other.images)
    assert pixels(first.images) == pixels(sampled(base64.b64decode(first.json["images"][0]), studio, tmp_path))
    assert first.info["all_seeds"] == [3, 3] and first.info["seed"] == 3 and first.info["cfg_scale"] == 2
    assert (first.info["width"], first.info["height"]) == first.images[0].size == (8, 8)
    assert (first.parameters["width"], first.parameters["steps"]) == (8, 5)
    for k, image in enumerate(first.images):
        assert image.info["parameters"] == first.info["infotexts"][k]
        about = parameters.parse(image.info["parameters"])
        assert (about["Prompt"], about["Sampler"], about["Steps"], about["Seed"]) == ("a dog", "Euler a", "5", "3")
        assert json.loads(image.info["minidiff"])["image"] == k


def test_each_iteration_has_a_seed_of_its_own_which_the_reply_names(api):
    four = api.txt2img(prompt="a cat", seed=10, batch_size=2, n_iter=2)
    assert four.info["all_seeds"] == [10, 10, 12, 12] and len(four.images) == len(four.info["infotexts"]) == 4
    assert pixels(four.images[2:]) == pixels(api.txt2img(prompt="a cat", seed=12, batch_size=2).images)
    assert pixels(four.images[:1]) == pixels(api.txt2img(prompt="a cat", seed=10).images)


def test_a_seed_by_chance_is_named_and_repeats_the_image(api):
    one, other = api.txt2img(prompt="a cat"), api.txt2img(prompt="a cat", seed=-1)
    assert one.info["seed"] != other.info["seed"] and one.info["seed"] >= 0
    assert pixels(api.txt2img(prompt="a cat", seed=one.info["seed"]).images) == pixels(one.images)


@pytest.mark.parametrize("sampler", parameters.SAMPLERS.values())
def test_every_sampler_that_is_listed_draws(api, sampler):
    assert sampler in api.util_get_sampler_names()
    for scheduler in ("Automatic", "karras"):
        reply = api.txt2img(prompt="a dog", sampler_name=sampler, scheduler=scheduler, seed=1)
        assert reply.info["sampler_name"] == sampler
        assert ("Schedule type: Karras" in reply.info["infotexts"][0]) == (scheduler == "karras")


def test_every_schedule_that_is_listed_draws(api):
    listed = api.get_schedulers()
    assert {each["label"] for each in listed} == {parameters.AUTOMATIC, *parameters.SCHEDULES.values()}
    for each in listed:
        for name in (each["name"], each["label"]):
            assert api.txt2img(prompt="a dog", scheduler=name).parameters["scheduler"] == each["label"]


def test_an_image_is_edited_and_what_the_mask_keeps_is_kept(api):
    image = api.txt2img(prompt="a cat", seed=1).image
    slightly, much = (
        api.img2img([image], prompt="a dog", seed=2, steps=20, denoising_strength=strength).image
        for strength in (0.1, 0.9)
    )
    difference = lambda other: np.abs(np.asarray(image, float) - np.asarray(other, float)).mean()
    assert 0 < difference(slightly) < difference(much)
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 4:] = 255
    right, left = (
        api.img2img([image], mask_image=Image.fromarray(mask), inpainting_mask_invert=invert, prompt="a dog", seed=2)
        for invert in (0, 1)
    )
    same = lambda reply: (np.asarray(reply.image) == np.asarray(image)).all(axis=2)
    assert same(right)[:, :4].all() and not same(right)[:, 4:].all()
    assert same(left)[:, 4:].all() and not same(left)[:, :4].all()
    assert right.info["denoising_strength"] == 0.75 and right.parameters["init_images"] is None
    assert "Denoising strength: 0.75" in right.image.info["parameters"]


def test_an_edit_is_repeated_by_the_command(api, studio, tmp_path):
    reply = api.img2img([PHOTO], prompt="a dog", seed=2, denoising_strength=0.5)
    assert pixels(reply.images) == pixels(sampled(base64.b64decode(reply.json["images"][0]), studio, tmp_path))


def test_progress_shows_the_newest_step(api):
    idle = api.get_progress()
    assert idle["progress"] == 0 and idle["state"]["job_count"] == 0 and idle["current_image"] is None
    with drawing(api, n_iter=2) as reply:
        first = api.get_progress()
        second = until(
            lambda: (p := api.get_progress())["state"]["sampling_step"] > first["state"]["sampling_step"] and p
        )
        state = second["state"]
        assert 0 < first["progress"] < second["progress"] < 1 and second["eta_relative"] > 0
        assert (state["sampling_steps"], state["job_count"], state["job_no"]) == (1000, 2, 0)
        seen = [Image.open(io.BytesIO(base64.b64decode(each["current_image"]))) for each in (first, second)]
        assert seen[0].size == (24, 24) and pixels(seen[:1]) != pixels(seen[1:])  # eight images, in three rows
        assert api.custom_get("progress?skip_current_image=true", baseurl=True)["current_image"] is None
        assert not reply
        api.interrupt()


def test_interrupt_ends_the_request_with_the_images_as_they_are(api, studio):
    kept = list(studio.out.glob("*.png"))
    with drawing(api, n_iter=2, save_images=True) as reply:
        assert api.interrupt() == {}
    assert len(reply[0].images) == 8
    assert 0 < json.loads(reply[0].image.info["minidiff"])["stopped_after"] < 1000
    assert api.get_progress()["state"]["interrupted"] and list(studio.out.glob("*.png")) == kept
    assert len(api.txt2img(prompt="a dog").images) == 1 and not api.get_progress()["state"]["interrupted"]


def test_skip_goes_on_with_the_next_iteration(api):
    with drawing(api, n_iter=2) as reply:
        assert api.skip() is None
        until(lambda: (state := api.get_progress()["state"])["job_no"] == 1 and state["sampling_step"] > 0)
        api.interrupt()
    assert len(reply[0].images) == 16 and reply[0].info["all_seeds"][0] + 8 == reply[0].info["all_seeds"][8]


def test_a_client_that_goes_away_cancels_its_drawing(api, studio):
    with pytest.raises(httpx.ReadTimeout), httpx.Client(timeout=1.0) as client:
        client.post(f"{studio.url}/sdapi/v1/txt2img", json={**LONG, "n_iter": 8})
    until(lambda: api.get_progress()["state"]["job_count"] == 0, 5)
    assert until(lambda: httpx.get(f"{studio.url}/api/state").json()["queue"] == 0, 5)


def test_a_full_queue_is_answered_with_429(api, studio):
    threads = [threading.Thread(target=api.txt2img, kwargs={"prompt": "a dog", "steps": 1000, "n_iter": 64})
               for _ in range(4)]  # fmt: skip
    for thread in threads:
        thread.start()
    until(lambda: httpx.get(f"{studio.url}/api/state").json()["queue"] == 256)
    answer = httpx.post(f"{studio.url}/sdapi/v1/txt2img", json={"prompt": "a dog"})
    assert answer.status_code == 429 and "256 drawings wait" in answer.json()["detail"]
    openai = httpx.post(f"{studio.url}/v1/images/generations", json={"prompt": "a dog"})
    assert openai.status_code == 429 and openai.json()["error"]["type"] == "rate_limit_error"

    def all_interrupted():
        """Each request waits for its drawings, so interrupting what is drawn now has to be repeated."""
        api.interrupt()
        return httpx.get(f"{studio.url}/api/state").json()["queue"] == 0

    assert until(all_interrupted, 20)
    for thread in threads:
        thread.join(20)
    assert len(api.txt2img(prompt="a dog").images) == 1


def test_images_are_kept_only_on_request(api, studio):
    kept = set(studio.out.glob("*.png"))
    assert api.get_options()["samples_save"] is False
    api.txt2img(prompt="a dog")
    assert set(studio.out.glob("*.png")) == kept
    reply = api.txt2img(prompt="a dog", batch_size=2, save_images=True, send_images=False)
    assert reply.images == [] and len(set(studio.out.glob("*.png")) - kept) == 2
    api.set_options({"samples_save": True})
    try:
        assert api.get_options()["samples_save"] is True
        api.txt2img(prompt="a dog")
    finally:
        api.set_options({"samples_save": False})
    assert len(set(studio.out.glob("*.png")) - kept) == 3
    api.txt2img(prompt="a dog")
    assert len(set(studio.out.glob("*.png")) - kept) == 3


def test_options_choose_the_model(api):
    words, labels = api.util_get_current_model(), "labels"
    assert sorted(each["title"] for each in api.get_sd_models()) == sorted([words, labels])
    assert api.txt2img(prompt="a dog", override_settings={"sd_model_checkpoint": words}).info["sd_model_name"] == words
    assert refused(api, prompt="a dog", override_settings={"sd_model_checkpoint": labels}) == (
        "no label 'a dog'; did you mean 'dog'?; known are cat, dog, owl"
    )
    api.set_options({"sd_model_checkpoint": labels})
    try:
        assert api.util_get_current_model() == labels
        one = api.txt2img(prompt="owl", seed=1)
        assert "Label: owl" in one.info["infotexts"][0] and one.info["prompt"] == "owl"
        assert len(api.txt2img(prompt="", batch_size=3).images) == 3
    finally:
        api.set_options({"sd_model_checkpoint": words})
    answer = api.session.post(f"{api.baseurl}/options", json={"sd_model_checkpoint": "v1-5"})
    assert answer.status_code == 404 and answer.json()["detail"].startswith("there is no model 'v1-5' here; known are")


def test_png_info_reads_what_an_image_says_of_its_making(api):
    image = api.txt2img(prompt="a big dog", negative_prompt="night", seed=5).image
    answer = api.png_info(image)
    assert answer.info == image.info["parameters"] and answer.parameters["Negative prompt"] == "night"
    assert json.loads(answer.json["items"]["minidiff"])["settings"]["seed"] == 5
    assert api.png_info(PHOTO).info == ""
    with pytest.raises(RuntimeError, match="image: not an image that can be read"):
        api.png_info(type("Broken", (), {"info": {}, "save": lambda self, file, **_: file.write(b"broken")})())


def test_lists_are_there_and_hold_nothing_that_would_be_refused(api):
    names = ("upscalers", "latent_upscale_modes", "sd_vae", "loras", "hypernetworks", "face_restorers", "prompt_styles")
    assert [getattr(api, f"get_{name}")() for name in names] == [[]] * len(names)
    assert api.get_embeddings() == {"loaded": {}, "skipped": {}} and api.get_memory()["ram"]["used"] > 0
    assert api.get_scripts() == {"txt2img": [], "img2img": []} and not api.has_controlnet
    assert api.get_cmd_flags()["api"] is True and api.refresh_checkpoints() is None
    assert api.controlnet_version() and api.controlnet_model_list() == []


def test_without_any_field_the_defaults_are_those_that_the_table_says(api, studio):
    answer = httpx.post(f"{studio.url}/sdapi/v1/txt2img", json={}).json()
    info = json.loads(answer["info"])
    assert len(answer["images"]) == 1 and info["sampler_name"] == "Euler" and info["steps"] == 50
    answer = httpx.post(f"{studio.url}/sdapi/v1/txt2img", json={"prompt": "dog", "width": "wide", "unheard_of": 1})
    assert answer.status_code == 200 and answer.json()["parameters"]["cfg_scale"] == 3


WRONG = [
    ({"prompt": "a zebra"}, "unknown word in the prompt: 'zebra'"),
    ({"prompt": "a dog", "negative_prompt": "blurry"}, "unknown word in the prompt: 'blurry'"),
    ({"prompt": "a (dog:1.2)"}, "prompt: '(' is not understood; weights such as (word:1.2)"),
    ({"prompt": "a dog <lora:pets:1>"}, "prompt: '<' is not understood"),
    ({"prompt": "dog AND cat"}, "prompt: 'AND' is not understood"),
    ({"prompt": "a dog", "sampler_name": "LMS"}, "sampler_name: there is no sampler 'LMS' here; known are DDPM"),
    ({"prompt": "a dog", "scheduler": "beta"}, "scheduler: there is no 'beta' here; known are Automatic, SGM Uniform"),
    ({"prompt": "a dog", "steps": 0}, "steps must be from 1"),
    ({"prompt": "a dog", "steps": "many"}, "steps: expected a whole number, got 'many'"),
    ({"prompt": "a dog", "cfg_scale": True}, "cfg_scale: expected a number, got True"),
    ({"prompt": "a dog", "cfg_scale": float("nan")}, "cfg_scale: expected numbers and texts, got nan"),
    ({"prompt": "\ud800"}, r"prompt: expected numbers and texts, got '\ud800'"),
    ({"prompt": 3}, "prompt: expected a text, got 3"),
    ({"prompt": "a dog", "batch_size": 9, "n_iter": 9}, "batch_size times n_iter must be from 1 to 64, got 9 times 9"),
    ({"prompt": "a dog", "eta": 0.5}, "eta: of Euler a expected 1, got 0.5"),
    ({"prompt": "a dog", "enable_hr": True}, "enable_hr: there is no second pass at a higher resolution"),
    ({"prompt": "a dog", "script_name": "x/y/z plot"}, "script_name: there are no scripts"),
    ({"prompt": "a dog", "alwayson_scripts": {"roop": {"args": []}}}, "there is no script 'roop' here"),
    ({"prompt": "a dog", "styles": ["film"]}, "styles: there are no stored styles"),
    ({"mask": "abc"}, "mask: it belongs to a picture"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "said"), WRONG, ids=[said[:40] for _, said in WRONG])
def test_what_cannot_be_drawn_is_refused_in_one_sentence(studio, fields, said):
    fields = {"sampler_name": "Euler a", **fields}
    answer = httpx.post(f"{studio.url}/sdapi/v1/txt2img", content=json.dumps(fields),
                        headers={"content-type": "application/json"})  # fmt: skip
    about = answer.json()
    assert answer.status_code == 400 and said in about["detail"] and about["errors"] == about["detail"]
    assert about["error"] == "HTTPException" and "\n" not in about["detail"]


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([], "init_images: expected one picture, got 0"),
        (["a", "b"], "init_images: expected one picture, got 2"),
        (["!!!"], "init_images: not a picture in base64"),
        (["http://127.0.0.1/a.png"], "init_images: expected a picture in base64; addresses are not looked up"),
        ([7], "init_images: expected a picture in base64, got 7"),
        (["aGVsbG8="], "the picture cannot be used: not an image that can be read"),
    ],
)
def test_a_picture_that_cannot_be_used_is_refused_in_one_sentence(studio, images, said):
    answer = httpx.post(f"{studio.url}/sdapi/v1/img2img", json={"init_images": images, "prompt": "a dog"})
    assert answer.status_code == 400 and answer.json()["detail"] == said


def test_every_field_of_the_client_is_in_the_table(monkeypatch):
    sent = {}
    monkeypatch.setattr(webuiapi.WebUIApi, "check_extensions", lambda self: None)
    api = webuiapi.WebUIApi()
    monkeypatch.setattr(api, "post_and_get_api_result", lambda url, json, use_async: sent.update(json))
    api.txt2img()
    api.img2img(images=[PHOTO], mask_image=PHOTO)
    assert sent.keys() <= a1111_fields.FIELDS.keys()
    for name, field in a1111_fields.FIELDS.items():
        assert field.kind is None or field.only is None, name


def test_controlnet_follows_a_drawing_where_the_model_can(tmp_path):
    """With the weights that come with minidiff, whose adapters follow drawings and references."""
    lines = np.zeros((32, 32), np.uint8)
    lines[8:24, [8, 23]] = lines[[8, 23], 8:24] = 255
    with running(folder=tmp_path) as studio:
        api = webuiapi.WebUIApi(port=studio.port, sampler="DDIM", steps=2)
        assert api.has_controlnet and api.controlnet_model_list() == ["edges"]
        fresh = lambda: {"alwayson_scripts": {}}  # or the client would send these units again in later requests
        unit = lambda **options: webuiapi.ControlNetUnit(**{"image": Image.fromarray(lines), **options})
        draw = lambda *units: api.txt2img(
            prompt="a dog", seed=1, cfg_scale=1, eta=0, controlnet_units=[*units], **fresh()
        )
        plain, followed, off, reference = draw(), draw(unit()), draw(unit(weight=0)), draw(
            unit(image=PHOTO, module="reference_only"))  # fmt: skip
        assert pixels(plain.images) == pixels(off.images)
        assert pixels(plain.images) != pixels(followed.images) != pixels(reference.images) != pixels(plain.images)
        assert "ControlNet 0: " in followed.image.info["parameters"]
        assert pixels(draw(unit(enabled=False)).images) == pixels(plain.images)
        edited = api.img2img(
            [PHOTO], prompt="a dog", seed=1, controlnet_units=[unit(image=None, module="canny")], **fresh()
        )
        settings = json.loads(edited.image.info["minidiff"])["settings"]
        assert settings["control"] == settings["init"]
        for options, said in [
            ({"module": "openpose"}, "ControlNet: there is no module 'openpose' here"),
            ({"model": "depth"}, "no adapter for depth"),
            ({"guidance_end": 0.5}, "ControlNet: expected guidance_start 0 and guidance_end 1"),
            ({"image": None}, "ControlNet: expected an image in base64, got none"),
        ]:
            assert said in refused(api, prompt="a dog", controlnet_units=[unit(**options)], **fresh())
