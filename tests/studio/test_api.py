"""The studio's own interface: what it answers, and that nothing hostile gets further than one sentence."""

import io
import itertools
import json
import struct
import threading
import time
import zlib

import numpy as np
import pytest
import tiny_model
from PIL import Image, PngImagePlugin
from starlette.testclient import TestClient

from minidiff import backend
from minidiff.studio.app import make_app
from minidiff.studio.config import StudioConfig
from minidiff.studio.service import Service
from tests.studio.running import PATIENCE

ADDRESS = "http://127.0.0.1:7860"
DOG = {"prompt": ["a dog"], "seed": 3, "count": 2, "steps": 5}
HOSTILE = (
    "../../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "..\\..\\windows\\win.ini",
    "/etc/passwd",
    "C:\\boot.ini",
    "\x00",
    "a\x00.png",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' OR 1=1 --",
    "\u202egnp.exe",
    "\ud800",
    "{{7*7}}",
    "p-" + "0" * 16,
    "p-../../../etc/pass",
    "A" * 10000,
    "",
    "file:///etc/passwd",
    "http://169.254.169.254/",
)


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """A studio whose engine runs on a thread of its own, which the kernels of NumPy allow."""
    folder = tmp_path_factory.mktemp("studio")
    checkpoint = tiny_model.write(folder / "runs" / "words", words=tiny_model.WORDS)
    tiny_model.write(folder / "runs" / "labels", classes=("<b>cat</b>", "dog"))
    service = Service(StudioConfig(checkpoint=checkpoint, out=folder / "out"), folder / "runs")
    with backend.using("numpy"):
        thread = threading.Thread(target=service.engine.run)
        thread.start()
        app = make_app(service, frozenset({"127.0.0.1:7860"}), None)
        with TestClient(app, base_url=ADDRESS, raise_server_exceptions=False) as client:
            client.service = service
            yield client
        service.engine.stopping.set()
        thread.join()
        service.close()


def done(client, id):
    while True:
        drawing = client.get(f"/api/drawings/{id}").json()
        if drawing["state"] in ("done", "failed", "cancelled", "paused"):
            return drawing


@pytest.fixture(autouse=True)
def at_rest(studio):
    """What the test before has accepted, and left to itself, is drawn and saved before the next one looks around."""
    drawings, deadline = studio.service.engine.drawings, time.monotonic() + PATIENCE
    while busy := [each.id for each in list(drawings.values()) if each.state in ("queued", "running")]:
        assert time.monotonic() < deadline, busy
        time.sleep(0.01)


def draw(client, settings=DOG, **body):
    made = client.post("/api/drawings", json={"settings": settings, **body})
    assert made.status_code == 201, made.text
    return done(client, made.json()["id"])


def upload(client, image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return client.post("/api/pictures", content=buffer.getvalue(), headers={"content-type": "image/png"})


def pixels(reply):
    assert reply.status_code == 200, reply.text
    return np.asarray(Image.open(io.BytesIO(reply.content)))


def test_a_drawing_from_beginning_to_end(studio):
    drawing = draw(studio)
    assert (drawing["state"], drawing["nodes"][0]["done"], drawing["nodes"][0]["of"]) == ("done", 5, 5)
    assert drawing["nodes"][0]["settings"]["prompt"] == ["a dog"]
    times, sigmas = zip(*drawing["nodes"][0]["levels"])
    assert list(times) == sorted(times, reverse=True) and list(sigmas) == sorted(sigmas, reverse=True)
    step = f"/api/drawings/{drawing['id']}/nodes/0/steps"
    last = pixels(studio.get(f"{step}/4/x_prev.png"))
    assert last.shape == (16, 8, 3)
    pictures = [pixels(studio.get(f"/api/gallery/{id}.png")) for id in drawing["nodes"][0]["pictures"]]
    assert np.array_equal(np.concatenate(pictures), last)
    assert studio.get(f"{step}/5/x_t.png").status_code == 404
    assert studio.get(f"{step}/1/weights.png").status_code == 404
    assert studio.get(f"{step}/1/inside").status_code == 404
    listed = studio.get("/api/gallery?count=1").json()
    assert (len(listed["pictures"]), listed["more"]) == (1, True)
    older = studio.get(f"/api/gallery?before={listed['pictures'][0]['id']}").json()
    assert listed["pictures"][0]["id"] not in [each["id"] for each in older["pictures"]]
    assert drawing["id"] in [each["id"] for each in studio.get("/api/state").json()["drawings"]]


def test_a_branch_and_the_inside_of_its_steps(studio):
    drawing = draw(studio)
    path = f"/api/drawings/{drawing['id']}"
    made = studio.post(f"{path}/branches", json={"node": 0, "step": 2, "settings": {"prompt": "a cat"}})
    assert made.status_code == 201
    drawing = done(studio, drawing["id"])
    assert (drawing["active"], drawing["nodes"][1]["changed"]) == (1, {"prompt": ["a cat"]})
    assert studio.post(f"{path}/inside", json={"on": True}).status_code == 200
    done(studio, drawing["id"])
    said = studio.get(f"{path}/nodes/1/steps/3/inside").json()
    assert (said["words"], said["step"]["index"]) == (["a", "cat"], 3)
    for verb in ("pause", "cancel", "resume", "step"):
        assert studio.post(f"{path}/{verb}", json={}).status_code == 409


def test_a_png_that_was_drawn_gives_all_settings_back(studio):
    rng = np.random.default_rng(1)
    init = upload(studio, rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).json()["id"]
    settings = {
        **DOG,
        "init": init,
        "strength": 0.75,
        "negative": "night",
        "guidance_interval": [0.1, "inf"],
        "eta": 0.5,
    }
    drawing = draw(studio, settings, branches=[{"step": 2, "settings": {"guidance_scale": 4}}])
    png = studio.get(f"/api/gallery/{drawing['nodes'][1]['pictures'][0]}.png").content
    back = studio.post("/api/settings", content=png, headers={"content-type": "image/png"}).json()
    assert back["settings"] == drawing["nodes"][0]["settings"]
    assert back["settings"] | settings == back["settings"]
    assert (back["branches"][0]["step"], back["branches"][0]["settings"]["guidance_scale"]) == (2, 4)
    assert back["missing"] == []
    again = draw(studio, back["settings"], branches=back["branches"])
    assert studio.get(f"/api/gallery/{again['nodes'][1]['pictures'][0]}.png").content != b""
    first, second = (
        pixels(studio.get(f"/api/gallery/{each['nodes'][1]['pictures'][1]}.png")) for each in (drawing, again)
    )
    assert np.array_equal(first, second)


def test_a_foreign_png_and_what_is_no_png_are_one_sentence(studio):
    plain = upload(studio, np.zeros((4, 4, 3), np.uint8)).json()["url"]
    for body in (studio.get(plain).content, b"GIF89a", b"", b"\x89PNG\r\n\x1a\n" + b"\0" * 100):
        reply = studio.post("/api/settings", content=body)
        assert_refused(reply, 400)
        assert "dropped.png" in reply.json()["error"]
        assert "/" not in reply.json()["error"]


def test_what_the_network_will_see_of_a_picture(studio):
    image = np.zeros((100, 200, 3), np.uint8)
    image[40:60] = 255
    made = upload(studio, image).json()
    assert (made["width"], made["height"]) == (200, 100)
    for use, shape in (("init", (8, 8, 3)), ("control", (8, 8)), ("mask", (8, 8)), ("reference", (8, 8, 3))):
        assert pixels(studio.get(f"/api/pictures/{made['id']}/as/{use}.png?model=m0")).shape == shape
    assert_refused(studio.get(f"/api/pictures/{made['id']}/as/weights.png"), 404)
    assert_refused(studio.get(f"/api/pictures/{made['id']}/as/init.png?model=m99"), 400)


def test_models_are_those_of_the_runs_folder(studio):
    models = {each["name"]: each for each in studio.get("/api/state").json()["models"]}
    labels = studio.post(f"/api/models/{models['labels']['id']}", json={}).json()
    assert (labels["classes"], labels["prompts"], labels["loaded"]) == (["<b>cat</b>", "dog"], False, True)
    drawing = draw(studio, {"model": labels["id"], "label": "1", "count": 1, "steps": 2})
    assert drawing["state"] == "done"
    assert_refused(studio.post("/api/drawings", json={"settings": {"model": labels["id"], "prompt": ["a dog"]}}), 400)


def test_the_socket_sends_states_and_previews_and_the_last_one(studio):
    with studio.websocket_connect(f"{ADDRESS.replace('http', 'ws')}/api/watch") as socket:
        made = studio.post("/api/drawings", json={"settings": {**DOG, "steps": 40, "count": 1}}).json()
        states, steps = [], []
        while not (states and states[-1] == "done" and steps and steps[-1] == 39):
            message = socket.receive()
            if message.get("bytes"):
                (n,) = struct.unpack("<I", message["bytes"][:4])
                about = json.loads(message["bytes"][4 : 4 + n])
                first, second = about["sizes"]
                assert len(message["bytes"]) == 4 + n + first + second
                if about["drawing"] == made["id"]:
                    image = Image.open(io.BytesIO(message["bytes"][4 + n : 4 + n + first]))
                    assert image.size == (8, 8)
                    steps.append(about["step"])
            else:
                event = json.loads(message["text"])
                if event["event"] == "drawing" and event["drawing"]["id"] == made["id"]:
                    states.append(event["drawing"]["state"])
        assert steps == sorted(steps)


@pytest.mark.parametrize("said", ["{}", "[]", "null", '{"watch": 1}', "{", "\x00", '{"watch": "' + "a" * 2000 + '"}'])
def test_a_socket_that_says_something_else_is_closed(studio, said):
    with studio.websocket_connect(f"{ADDRESS.replace('http', 'ws')}/api/watch") as socket:
        socket.send_text(said)
        while (message := socket.receive())["type"] != "websocket.close":
            assert message["type"] == "websocket.send"
        assert message["code"] == 1003


# -- hostile requests -------------------------------------------------------------------------------------------------


def assert_refused(reply, *statuses):
    """It is one sentence, with one of these statuses, and nothing of the inside."""
    assert reply.status_code in statuses, (reply.status_code, reply.text[:300])
    text = reply.json()["error"]
    assert set(reply.json()) == {"error"}
    assert 0 < len(text) <= 4000 and "\n" not in text and "Traceback" not in text
    assert reply.headers["content-type"].startswith("application/json")
    assert "default-src 'none'" in reply.headers["content-security-policy"]


ROUTES = (
    ("GET", "/api/pictures/{}.png"),
    ("GET", "/api/pictures/{}/as/init.png"),
    ("GET", "/api/drawings/{}"),
    ("GET", "/api/drawings/{}/nodes/0/steps/0/x_t.png"),
    ("GET", "/api/drawings/d1/nodes/{}/steps/0/x_t.png"),
    ("GET", "/api/drawings/d1/nodes/0/steps/{}/x_t.png"),
    ("GET", "/api/drawings/d1/nodes/0/steps/0/{}.png"),
    ("GET", "/api/gallery/{}.png"),
    ("GET", "/api/gallery?before={}"),
    ("GET", "/api/gallery?count={}"),
    ("GET", "/api/runs/{}"),
    ("GET", "/api/runs/{}/previews/1.png"),
    ("POST", "/api/models/{}"),
    ("POST", "/api/drawings/{}/pause"),
    ("POST", "/api/drawings/d1/{}"),
    ("GET", "/{}"),
    ("GET", "/explain/{}"),
)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_address_leads_out_of_the_studio(studio, method, path):
    from urllib.parse import quote

    for text in HOSTILE:
        if not text and "?" not in path:
            continue  # that is another address
        for written in (
            quote(text.encode(errors="surrogatepass"), safe=""),
            quote(text.encode(errors="surrogatepass")),
        ):
            reply = studio.request(method, path.format(written), json={} if method == "POST" else None)
            if path == "/{}" and not written:
                continue  # the page
            assert b"root:" not in reply.content
            if reply.status_code != 307:  # where a slash too many is taken away
                assert_refused(reply, 400, 404, 405, 409, 414)


FIELDS = (
    *("model", "prompt", "negative", "label", "sampler", "spacing", "variance", "clip", "init", "mask", "noise_level"),
    *(
        "to",
        "control",
        "control_kind",
        "reference",
        "seed",
        "steps",
        "count",
        "strength",
        "guidance_interval",
        "nothing",
    ),
)


@pytest.mark.parametrize("field", FIELDS)
def test_no_setting_takes_what_is_hostile(studio, field):
    odd = (*HOSTILE, [], {}, [[]], [{}], 1e308, -1, 10**30, True, [None], {"a": HOSTILE[0]})
    for value, wrapped in itertools.product(odd, (False, True)):
        settings = {"prompt": ["a dog"], "steps": 1, "count": 1, field: [value] if wrapped else value}
        body = json.dumps({"settings": settings})
        reply = studio.post("/api/drawings", content=body, headers={"content-type": "application/json"})
        if reply.status_code == 201:  # such as an empty text for none
            assert done(studio, reply.json()["id"])["state"] == "done", settings
        else:
            assert_refused(reply, 400, 404)


BODIES = ("", "null", "[]", "1", '"a"', "{", "\ufeff{}", "[" * 100000, '{"settings": ' + "[" * 100000, '{"a": 1e999}',
          '{"settings": {"seed": 1' + "0" * 5000 + "}}", '{"settings": null}', '{"branches": {}}', '{"branches": [1]}',
          '{"branches": [{"step": "a"}]}', '{"branches": [{"step": 1, "settings": 3}]}', "\ud800")  # fmt: skip


@pytest.mark.parametrize("path", ["/api/drawings", "/api/drawings/d1/branches", "/api/drawings/d1/step"])
def test_no_body_breaks_it(studio, path):
    for body in BODIES:
        data = body.encode(errors="surrogatepass")
        reply = studio.post(path, content=data, headers={"content-type": "application/json"})
        if reply.status_code not in (200, 201):
            assert_refused(reply, 400, 404, 409)
    assert_refused(studio.post(path, content=b"a=1", headers={"content-type": "text/plain"}), 415)


def bomb(width, height):
    """A PNG of a few bytes that says it is huge."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 100000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_picture_bombs_and_what_is_no_picture_are_refused(studio):
    for data in (bomb(60000, 60000), bomb(2**31 - 1, 2**31 - 1), b"", b"<svg/>", b"MZ" * 100):
        assert_refused(studio.post("/api/pictures", content=data), 400)


def test_a_prompt_is_text(studio):
    reply = studio.post("/api/drawings", json={"settings": {"prompt": ["<script>alert(1)</script>"]}})
    assert_refused(reply, 400)
    page = studio.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "unsafe" not in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:7860"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:7861"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_a_page_elsewhere_can_neither_draw_nor_read(studio, headers):
    for method, path in (
        ("GET", "/api/state"),
        ("POST", "/api/drawings"),
        ("GET", "/api/gallery"),
        ("POST", "/api/settings"),
    ):
        assert_refused(studio.request(method, path, headers=headers, json={} if method == "POST" else None), 403)


def test_numbers_in_an_address_have_few_digits(studio):
    for number in ("9" * 5000, "-1", "1.5", "٣", "1e3"):
        for path in ("/api/drawings/d1/nodes/{}/steps/1/x_t.png", "/api/drawings/d1/nodes/0/steps/{}/x_t.png",
                     "/api/runs/r-1/previews/{}.png"):  # fmt: skip
            assert_refused(studio.get(path.format(number)), 404)


def png_with(text):
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("minidiff", text)
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


def crafted(**settings):
    digests = {"checkpoint_sha256": "0" * 64, "images_sha256": {"init": "1" * 64}}
    return {"command": "sample", "minidiff": "9.9", **digests, "settings": {"prompt": ["a dog"], **settings}}


def nested(depth):
    text = json.dumps(crafted(prompt=["HERE"])).replace('["HERE"]', "[" * depth + "]" * depth)
    return png_with(text)


@pytest.mark.parametrize(
    ("about", "status"),
    [
        ({"init": "a" * 300}, 200),
        ({"init": "../../../../etc/passwd"}, 200),
        ({"branch": ['step = 1, control = "' + "a" * 300 + '"']}, 200),
        ({"branch": ["step = 1, prompt = 'a cat' } #{"]}, 400),
        ({"branch": ["step = 1, x = 1979-05-27"]}, 400),
        ({"branch": ["step = 1"] * 101}, 400),
        ({"sampler": "a/b/<script>"}, 400),
        ({"seed": -1}, 400),
        ({"nothing": 1}, 400),
    ],
)
def test_a_crafted_png_is_read_or_refused_in_one_sentence(studio, about, status):
    reply = studio.post("/api/settings", content=png_with(json.dumps(crafted(**about))))
    if status == 200:
        said = reply.json()
        assert reply.status_code == 200
        assert said["missing"] and said["settings"]["init"] is None
        assert "drawn by minidiff 9.9" in said["notes"][0] and "/tmp" not in reply.text
    else:
        assert_refused(reply, 400)
        assert "/tmp" not in reply.text


def test_a_crafted_png_in_the_folder_does_not_spoil_the_gallery(studio):
    folder, before = studio.service.gallery.folder, studio.get("/api/gallery").json()
    for number, depth in enumerate((10, 400, 900, 950, 990, 2000)):
        (folder / f"2099-01-01_00-00-00_001_{number:03d}.png").write_bytes(nested(depth))
    odd = png_with(json.dumps(crafted() | {"__proto__": {"a": 1}, "image": [[1]]}))
    (folder / "2099-01-01_00-00-01_001_000.png").write_bytes(odd)
    listed = studio.get("/api/gallery")
    assert listed.status_code == 200
    names = [each["name"] for each in listed.json()["pictures"]]
    assert names[0] == "2099-01-01_00-00-01_001_000.png"
    assert names[1:] == [each["name"] for each in before["pictures"]][: len(names) - 1]
    for path in folder.glob("2099-*.png"):
        path.unlink()


def test_more_prompts_than_images_are_refused(studio):
    assert_refused(studio.post("/api/drawings", json={"settings": {"prompt": ["a dog"] * 65}}), 400)
