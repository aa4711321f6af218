"""The studio spoken to by `openai`, OpenAI's own client."""

import base64
import io
import json
import threading
import time

import numpy as np
import pytest
from PIL import Image

from tests import tiny_model
from tests.studio.running import running, sampled

openai = pytest.importorskip("openai")
httpx = pytest.importorskip("httpx")

WORDS = "step_00000010.safetensors"  # a model has its file's name


@pytest.fixture(scope="module")
def client(studio):
    with openai.OpenAI(base_url=f"{studio.url}/v1", api_key="anything", max_retries=0) as client:
        yield client


def files(reply):
    return [base64.b64decode(each.b64_json) for each in reply.data]


def pixels(reply):
    return [np.asarray(Image.open(io.BytesIO(file))).tolist() for file in files(reply)]


def about(file):
    return json.loads(Image.open(io.BytesIO(file)).info["minidiff"])["settings"]


def test_images_are_drawn_and_the_command_repeats_them(client, studio, tmp_path):
    kept = list(studio.out.glob("*.png"))
    reply = client.images.generate(prompt="a dog", n=2, size="1024x1024", quality="high", user="me")
    assert reply.size == "8x8" and reply.output_format == "png" and reply.created > 1.7e9
    assert len(reply.data) == 2 and Image.open(io.BytesIO(files(reply)[0])).size == (8, 8)
    assert pixels(reply) == [np.asarray(each).tolist() for each in sampled(files(reply)[0], studio, tmp_path)]
    assert "a dog\nSteps: 50, Sampler: DDIM" in Image.open(io.BytesIO(files(reply)[0])).info["parameters"]
    assert list(studio.out.glob("*.png")) == kept


def test_a_seed_may_be_given_and_repeats_the_images(client):
    draw = lambda **ours: client.images.generate(prompt="a dog", extra_body={"steps": 5, **ours})
    one, again, other = draw(seed=7), draw(seed=7), draw(seed=8)
    assert pixels(one) == pixels(again) != pixels(other)
    chance = [about(files(draw())[0])["seed"] for _ in range(2)]
    assert chance[0] != chance[1]
    more = about(files(draw(seed=1, guidance_scale=2.5, sampler="heun", negative="night"))[0])
    assert (more["guidance_scale"], more["sampler"], more["negative"], more["steps"]) == (2.5, "heun", "night", 5)


def test_models_are_listed_and_chosen_by_name(client):
    assert [each.id for each in client.models.list()] == [WORDS, "labels"]
    assert client.models.retrieve("labels").owned_by == "minidiff"
    reply = client.images.generate(model="labels", prompt="owl", extra_body={"steps": 5})
    assert about(files(reply)[0])["label"] == ["owl"]
    for ask in (
        lambda: client.models.retrieve("dall-e-3"),
        lambda: client.images.generate(model="dall-e-3", prompt="a"),
    ):
        with pytest.raises(
            openai.NotFoundError, match=f"there is no model 'dall-e-3' here; known are {WORDS}"
        ) as caught:
            ask()
        assert caught.value.code == "model_not_found" and caught.value.param == "model"


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"prompt": "a zebra"}, None, "unknown word in the prompt: 'zebra'; known are a big cat dog night small"),
        ({"prompt": " "}, "prompt", "prompt: expected what to draw, in words, got ' '"),
        ({"n": 11}, "n", "n: expected a whole number from 1 to 10, got 11"),
        ({"n": 0}, "n", "n: expected a whole number from 1 to 10, got 0"),
        ({"size": "large"}, "size", "size: expected auto or a size such as 32x32, got 'large'"),
        (
            {"response_format": "url"},
            "response_format",
            "expected 'b64_json', as nothing is kept that an address could lead to; got 'url'",
        ),
        (
            {"output_format": "webp"},
            "output_format",
            "output_format: expected 'png', as there is no other format; got 'webp'",
        ),
        ({"extra_body": {"sed": 3}}, "sed", "sed: there is no such field here; did you mean 'seed'?"),
        ({"extra_body": {"seed": -1}}, None, "seed must be from 0 to 2^64 - 1, got -1"),
        ({"extra_body": {"sampler": "dali"}}, None, "sampler must be one of"),
        (
            {"extra_body": {"stream": True}},
            "stream",
            "stream: expected False, as images are sent when they are drawn; got True",
        ),
    ],
)
def test_what_cannot_be_drawn_is_a_bad_request_in_one_sentence(client, fields, param, said):
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(**{"prompt": "a dog", **fields})
    assert said in caught.value.body["message"] and "\n" not in caught.value.body["message"]
    assert caught.value.param == param and caught.value.type == "invalid_request_error"


def test_a_body_that_is_no_json_object_has_the_same_form(studio):
    for body, kind, status in ((b"[]", "json", 400), (b"{", "json", 400), (b"\xff", "json", 400), (b"{}", "text", 415)):
        answer = httpx.post(f"{studio.url}/v1/images/generations", content=body,
                            headers={"content-type": f"application/{kind}"})  # fmt: skip
        assert answer.status_code == status and isinstance(answer.json()["error"]["message"], str)


def test_a_client_that_goes_away_cancels_its_drawing(client, studio):
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.5).images.generate(prompt="a dog", n=10, extra_body={"steps": 1000})
    deadline = time.monotonic() + 5
    while httpx.get(f"{studio.url}/api/state").json()["queue"]:
        assert time.monotonic() < deadline, "it is still drawn"
        time.sleep(0.01)


def test_several_clients_draw_at_once(client):
    replies = {}

    def draw(seed):
        replies[seed] = client.images.generate(prompt="a cat", extra_body={"seed": seed, "steps": 5})

    threads = [threading.Thread(target=draw, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [about(files(replies[seed])[0])["seed"] for seed in range(8)] == [*range(8)]
    assert len({json.dumps(pixels(reply)) for reply in replies.values()}) == 8


def test_where_other_computers_reach_it_the_key_is_the_token(tmp_path):
    """Also for the other interface, where it is the password."""
    webuiapi = pytest.importorskip("webuiapi")
    checkpoint = tiny_model.write(tmp_path / "words", words=tiny_model.WORDS)
    with running("--checkpoint", checkpoint, "--host", "0.0.0.0", folder=tmp_path) as studio:
        assert len(studio.token) >= 16
        url = f"http://127.0.0.1:{studio.port}"
        fields = {"prompt": "a dog", "extra_body": {"steps": 2}}
        with openai.OpenAI(base_url=f"{url}/v1", api_key=studio.token, max_retries=0) as client:
            assert len(client.images.generate(**fields).data) == 1
            with pytest.raises(openai.AuthenticationError) as caught:
                client.with_options(api_key="guess").images.generate(**fields)
            assert "asks for its token" in caught.value.response.text
        api = webuiapi.WebUIApi(baseurl=f"{url}/sdapi/v1", username="me", password=studio.token, steps=2)
        assert len(api.txt2img(prompt="a dog").images) == 1
        assert httpx.post(f"{url}/sdapi/v1/txt2img", json={"prompt": "a dog"}).status_code == 401
