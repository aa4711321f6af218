"""The page that shows a sampling run from inside: what is recorded, what it says, and what a browser makes of it."""

import base64
import io
import json
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import tiny_model
from browser import NAMES, Browser, find
from PIL import Image

from minidiff import backend, explain
from minidiff import sample as command
from minidiff.diffusion.solvers import SAMPLERS
from minidiff.explain import formulas, page
from minidiff.explain.recording import Recording
from minidiff.images.files import save_png, to_float, to_uint8
from minidiff.pipeline import loading as models
from minidiff.sampling import draw
from tests.needs import lacking

PROMPT = "a dog in a winter forest"
WORDS = ("a", "dog", "forest", "in", "owl", "winter")
READS = {"words": WORDS, "length": 7, "cross_attention_at": (8, 4)}


@pytest.fixture(scope="module")
def reads(tmp_path_factory):
    """A run whose network reads prompts."""
    folder = tmp_path_factory.mktemp("reads")
    tiny_model.write(folder, **READS)
    return folder


@pytest.fixture(autouse=True)
def own_backend(monkeypatch):
    """The command selects a backend for its whole process, which here is the tests'."""
    monkeypatch.setattr(backend, "_stack", [])


def sample(*words, name="numpy", steps=4):
    command.main([str(word) for word in (*words, "--backend", name, "--steps", steps)])


def record(run, count=2, steps=4, **how):
    """Draw and return what was recorded."""
    model = models.load(run)
    recording = Recording(model.model, model.process)
    with recording:
        for step in model.generate(count, steps=steps, on_prediction=recording.on_prediction, **how):
            recording.take(step)
    return model, recording.frames


def read(path):
    """The data of a page."""
    block = re.search(r'<script id="data" type="application/json">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    return json.loads(block[1])


def decoded(uri):
    kind, text = uri.split(",", 1)
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as image:
        return np.asarray(image)


# -- recording ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["v", "eps", "x0", "flow", "edm"])
def test_what_the_network_said_is_what_the_step_is_made_of(tmp_path, target):
    tiny_model.write(tmp_path, **READS, target=target)
    with backend.using("numpy"):
        _, frames = record(tmp_path, prompt=PROMPT, guidance_scale=2.5, clip="none")
    first = frames[0].outputs
    assert np.abs(first.cond - first.uncond).max() > 1e-4  # or guidance would have nothing to show
    assert [frame.step.index for frame in frames] == [0, 1, 2, 3]
    for step, said in ((frame.step, frame.outputs) for frame in frames):
        assert np.array_equal(said.guided, said.uncond + 2.5 * (said.cond - said.uncond))
        size = max(1, np.abs(step.x0_hat).max())  # float32's rounding grows with it
        assert np.abs(said.x0_guided - step.x0_hat).max() < 1e-5 * size
        straight = said.x0_uncond + 2.5 * (said.x0_cond - said.x0_uncond)
        assert np.abs(straight - said.x0_guided).max() < 1e-5 * size


def test_looks_are_those_of_the_prompt_and_add_up_to_one(native_backend, reads):
    model, frames = record(reads, prompt=PROMPT, guidance_scale=2.5)
    for frame in frames:
        assert list(frame.outputs.attention) == [4, 8]
        for height, look in frame.outputs.attention.items():
            assert look.shape == (2, height, height, 7)
            assert np.abs(look.sum(-1) - 1).max() < 1e-5  # seven summands in float32
    # asked alone, without guidance, the network looks at the same x_t in the same way
    first = frames[0]
    alone = Recording(model.model, model.process)
    with alone:
        next(iter(model.generate(2, prompt=PROMPT, guidance_scale=1.0, steps=4, on_prediction=alone.on_prediction)))
    ((_, looks),) = alone._predictions.values()
    for height, look in looks.items():
        assert np.abs(look - first.outputs.attention[height]).max() < 1e-5  # sums in another order


def test_watching_ends_with_the_block(reads):
    with backend.using("numpy"):
        model, _ = record(reads, prompt=PROMPT)
    assert all(getattr(module, "tell", None) is None for _, module in model.model.named_modules())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_samplers_numbers_lead_to_x_prev(reads, sampler):
    """x_prev is the mix that the step says, where that needs nothing but x0_hat and eps_hat; and is so on the page."""
    with backend.using("numpy"):
        model, frames = record(reads, prompt="a dog", sampler=sampler)
    said = [formulas.lines(frame, 0, model.process, sampler, 3.0, "∅") for frame in frames]
    assert all(len(lines) >= 4 for lines in said)
    exact = 0
    for frame in frames:
        step = frame.step
        if step.mix is not None and not any(step.mix[2:]):
            on_eps, on_x0, *_ = step.mix
            assert np.abs(on_eps * step.eps_hat + on_x0 * step.x0_hat - step.x_prev).max() < 2e-5  # float32
            exact += 1
    assert exact >= (0 if sampler == "unipc" else 1)  # at least the last step


def test_numbers_on_the_page_add_up(reads):
    with backend.using("numpy"):
        model, frames = record(reads, prompt="a dog")
    for frame in frames:
        for line in formulas.lines(frame, 1, model.process, "ddim", 3.0, "∅"):
            text = line["numbers"].split("\n")[-1]
            if "=" in text:
                left, right = (part.replace("−", "-").replace("·", "*") for part in text.split("="))
                # each number is rounded to its third digit, and factors are up to a few
                assert eval(left) == pytest.approx(eval(right), abs=0.01, rel=0.01), line


@pytest.mark.parametrize(
    ("x", "text"),
    [(0, "0"), (3.0, "3"), (-0.5678, "−0.568"), (0.00012345, "0.000123"), (1234.5, "1230"), (np.inf, "∞")],
)
def test_numbers_for_people(x, text):
    assert formulas.number(x) == text


# -- the page -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_images_are_the_same_with_it(reads, tmp_path, name):
    words = (PROMPT, "--checkpoint", reads, "--count", 5, "--batch-size", 3, "--sampler", "ddpm", "--array")
    sample(*words, "--out", tmp_path / "with", "--explain", name=name)
    sample(*words, "--out", tmp_path / "without", name=name)
    for file in ("grid.png", "samples.npz"):
        assert (tmp_path / "with" / file).read_bytes() == (tmp_path / "without" / file).read_bytes()
    assert {path.name for path in (tmp_path / "with").iterdir()} == {"grid.png", "samples.npz", "explain.html"}


def test_the_page_says_what_was_recorded(reads, tmp_path):
    words = (PROMPT, "a owl", "--checkpoint", reads, "--count", 3)
    sample(*words, "--out", tmp_path, "--explain", "--array")
    said = read(tmp_path / "explain.html")
    with backend.using("numpy"):
        _, frames = record(reads, 3, prompt=[PROMPT, "a owl"])
    assert [each["caption"] for each in said["images"]] == [PROMPT, "a owl", PROMPT]
    assert [each["words"] for each in said["images"]] == [PROMPT.split(), ["a", "owl"], PROMPT.split()]
    assert [step["t"] for step in said["steps"]] == [frame.step.t for frame in frames]
    assert [step["sigma"] for step in said["steps"]] == [frame.step.level.sigma for frame in frames]
    with np.load(tmp_path / "samples.npz") as file:
        drawn = file["arr_0"]
    for k, image in enumerate(said["images"]):
        assert np.array_equal(decoded(image["result"]), drawn[k])
        assert len(image["frames"]) == 4
        for now, frame in zip(image["frames"], frames):
            assert np.array_equal(decoded(now["x_t"]), to_uint8(frame.step.x_t[k]))
            assert np.array_equal(decoded(now["x0"]), to_uint8(frame.step.x0_hat[k]))
            assert np.array_equal(decoded(now["cond"]), to_uint8(frame.outputs.x0_cond[k]))
            assert np.array_equal(decoded(now["uncond"]), to_uint8(frame.outputs.x0_uncond[k]))
            difference = frame.outputs.x0_cond[k] - frame.outputs.x0_uncond[k]
            shown = to_float(decoded(now["difference"])) * now["scale"]
            assert np.abs(shown - difference).max() <= now["scale"] * 1.01 / 255  # half of a grey level
            for height in (4, 8):
                looks = now["attention"][str(height)]
                assert len(looks) == len(image["words"]) + 1
                assert sum(look["share"] for look in looks) == pytest.approx(1, abs=1e-5)
                assert decoded(looks[0]["map"]).shape == (height, height)
                assert decoded(looks[0]["map"]).max() == 255
                assert looks[0]["most"] == pytest.approx(
                    float(frame.outputs.attention[height][k, ..., 0].max()), rel=1e-6
                )
        assert "x_prev" in image["frames"][-1]  # elsewhere it is the next x_t
        assert "x_prev" not in image["frames"][0]


def test_the_page_is_complete_in_itself(reads, tmp_path):
    sample(PROMPT, "--checkpoint", reads, "--count", 1, "--out", tmp_path, "--explain")
    text = (tmp_path / "explain.html").read_text("utf-8")
    addresses = set(re.findall(r"\b(?:https?|file|ftp):[^\s\"'<>)]*", text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # the name of a language, which nobody fetches
    assert not re.search(r"<(?:link|script|img)[^>]*\s(?:src|href)=\"(?!data:)", text)
    assert "{{" not in text
    assert "default-src 'none'" in text


@pytest.mark.parametrize("name", ['</script><script>alert("1")</script>', "{{data}} & <b>", "'\"\\"])
def test_texts_stay_texts(tmp_path, name):
    tiny_model.write(tmp_path / "run", classes=(name, "owl"))
    sample("--checkpoint", tmp_path / "run", "--label", name, "--count", 1, "--out", tmp_path / "out", "--explain")
    path = tmp_path / "out" / "explain.html"
    assert read(path)["images"][0]["caption"] == name
    text = path.read_text("utf-8")
    assert text.count("<script") == 2
    assert text.count("</script") == 2
    assert "<b>" not in re.search("<title>(.*?)</title>", text, re.DOTALL)[1]


def test_what_a_model_has_not_is_left_out(tmp_path):
    tiny_model.write(tmp_path / "plain", classes=(), channels=1, times=20)
    sample("--checkpoint", tmp_path / "plain", "--count", 1, "--out", tmp_path / "a", "--explain")
    (image,) = read(tmp_path / "a" / "explain.html")["images"]
    assert image["caption"] == ""
    for frame in image["frames"]:
        assert not {"cond", "uncond", "difference", "attention"} & set(frame)
        assert decoded(frame["x0"]).shape == (8, 8)

    tiny_model.write(tmp_path / "labels")
    sample("--checkpoint", tmp_path / "labels", "--label", "dog", "--count", 1, "--out", tmp_path / "b", "--explain")
    (image,) = read(tmp_path / "b" / "explain.html")["images"]
    assert image["caption"] == "dog"
    assert all("difference" in frame and "attention" not in frame for frame in image["frames"])


def test_negative_prompts_and_intervals(reads, tmp_path):
    words = ("a dog", "--negative", "winter", "--guidance-interval", 0.2, 2, "--checkpoint", reads, "--count", 1)
    sample(*words, "--out", tmp_path, "--explain", steps=10)
    said = read(tmp_path / "explain.html")
    (image,) = said["images"]
    assert image["negative"] == "winter"
    guided = ["cond" in frame for frame in image["frames"]]
    assert guided == [0.2 <= step["sigma"] <= 2 for step in said["steps"]]
    assert any("v(n)" in line["formula"] for frame in image["frames"] for line in frame["lines"])
    assert all("attention" in frame for frame in image["frames"])


def test_edits_can_be_explained(reads, tmp_path):
    save_png(tmp_path / "in.png", np.full((8, 8, 3), 200, np.uint8))
    save_png(tmp_path / "mask.png", np.eye(8, dtype=np.uint8)[..., None] * 255)
    words = ("a dog", "--checkpoint", reads, "--count", 1, "--init", tmp_path / "in.png", "--explain")
    sample(*words, "--mask", tmp_path / "mask.png", "--out", tmp_path / "masked")
    (image,) = read(tmp_path / "masked" / "explain.html")["images"]
    assert all("partly replaced" in frame["lines"][-1]["note"] for frame in image["frames"])
    sample("--checkpoint", reads, "--count", 1, "--init", tmp_path / "in.png", "--vary", 0.3, "--explain", "--out",
           tmp_path / "varied")  # fmt: skip
    assert len(read(tmp_path / "varied" / "explain.html")["images"][0]["frames"]) == 4


def test_many_steps_and_large_images_keep_the_page_small():
    assert page.weight((32, 32, 3)) * explain.most_frames((32, 32, 3)) <= page.BUDGET
    assert page.weight((64, 64, 3)) * explain.most_frames((64, 64, 3)) <= page.BUDGET
    assert explain.most_frames((1024, 1024, 3)) == page.FEWEST_FRAMES


def test_the_page_of_a_latent_model_shows_previews_and_says_so(tmp_path):
    tiny_model.write_latent(tmp_path / "run", size=(24, 40))
    words = ("a dog", "--checkpoint", tmp_path / "run", "--count", 2, "--explain", "--trace")
    sample(*words, "--out", tmp_path / "out", steps=12)
    said = read(tmp_path / "out" / "explain.html")
    assert (said["height"], said["width"], said["latent"]) == (24, 40, [6, 10])
    assert len(said["steps"]) == 12
    with np.load(tmp_path / "out" / "trace.npz") as file:
        x_t, x0_hat, x0 = file["x_t"], file["x0_hat"], file["x0"]
    space = models.load(tmp_path / "run").space
    with backend.using("numpy"):
        previews = [[to_uint8(space.preview(x)) for x in arrays] for arrays in (x_t, x0_hat)]
    for k, image in enumerate(said["images"]):
        assert np.array_equal(decoded(image["result"]), to_uint8(x0[k]))
        assert np.array_equal(decoded(image["frames"][-1]["x0"]), to_uint8(x0[k]))  # decoded: the sampler ends there
        for i, frame in enumerate(image["frames"][:-1]):
            assert np.array_equal(decoded(frame["x_t"]), previews[0][i][k])
            assert np.array_equal(decoded(frame["x0"]), previews[1][i][k])
            assert decoded(frame["difference"]).shape == (24, 40, 3)
            what = [line["what"] for line in frame["lines"]]
            assert what[1:3] == ["Converted to latents without noise", "And the noise that is left"]
            x = float(x_t[i, k, 3, 5, 0])  # the numbers are those of channel 0 in the middle of the latents
            assert f"({formulas.number(x)} −" in frame["lines"][2]["numbers"]


def test_a_page_of_latents_holds_as_many_steps_as_its_previews_allow(tmp_path):
    tiny_model.write_latent(tmp_path / "run", size=(64, 64))
    words = ("a dog", "--checkpoint", tmp_path / "run", "--count", 1, "--explain")
    sample(*words, "--out", tmp_path / "out", steps=60)
    assert len(read(tmp_path / "out" / "explain.html")["steps"]) == 60 > explain.most_frames((64, 64, 3))
    assert (tmp_path / "out" / "explain.html").stat().st_size < page.BUDGET


def test_of_many_steps_some_are_shown(reads, tmp_path, monkeypatch):
    monkeypatch.setattr(draw, "most_frames", lambda shape: 5)
    sample("a dog", "--checkpoint", reads, "--count", 1, "--out", tmp_path, "--explain", steps=12)
    said = read(tmp_path / "explain.html")
    assert len(said["steps"]) == 5
    assert said["steps"][-1]["index"] == 11
    assert "x_prev" in said["images"][0]["frames"][1]  # the step after it is not shown


def test_a_step_alone_is_what_the_page_has_of_it(reads):
    with backend.using("numpy"):
        model, frames = record(reads, prompt=[PROMPT, "a owl"], guidance_scale=2.5)
    captions = [explain.Caption(PROMPT, tuple(PROMPT.split())), explain.Caption("a owl", ("a", "owl"))]
    how = (model.process, "ddim", 2.5)
    said = page.data(frames, captions, *how)
    for k, image in enumerate(said["images"]):
        for i, frame in enumerate(frames):
            alone = explain.step_content(frame, k, captions[k], *how)
            assert alone["step"] == said["steps"][i]
            assert np.array_equal(decoded(alone["frame"].pop("x_prev")), to_uint8(frame.step.x_prev[k]))
            here = image["frames"][i]
            assert alone["frame"] == {name: here[name] for name in here if name != "x_prev"}
            known = explain.step_content(frame, k, captions[k], *how, after=frames[i + 1] if i < 3 else None)
            assert known == {"step": said["steps"][i], "frame": here}


# -- in a browser -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if find() is None:
        lacking("browser", f"none of {', '.join(NAMES)} is on the path, nor does MINIDIFF_BROWSER name a browser")
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def opened(browser, reads, tmp_path):
    """The page of a run, opened from disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "_stack", [])
        sample(PROMPT, "a owl", "--checkpoint", reads, "--count", 2, "--out", tmp_path, "--explain", steps=6)
    browser.said.clear()
    browser.requests.clear()
    browser.open(tmp_path / "explain.html")
    yield browser, read(tmp_path / "explain.html"), tmp_path / "explain.html"
    assert browser.said == []


def src(browser, name):
    return browser.js(f"document.querySelector('#{name}, .inside-{name}').src")


def visible(browser, selector):
    return browser.js(f"[...document.querySelectorAll('{selector}')].filter((e) => e.checkVisibility()).length")


@pytest.mark.release
def test_it_opens_from_disk_and_asks_for_nothing_else(opened):
    browser, said, path = opened
    assert [url for url in browser.requests if not url.startswith("data:")] == [path.resolve().as_uri()]
    assert browser.js("document.querySelector('h1').textContent") == f"“{PROMPT}”"
    assert browser.js("[...document.images].filter((i) => i.checkVisibility() && !i.naturalWidth).length") == 0
    assert src(browser, "x_t") == said["images"][0]["frames"][0]["x_t"]


@pytest.mark.release
def test_keys_and_slider_move_through_the_steps(opened):
    browser, said, _ = opened
    frames = said["images"][0]["frames"]
    browser.press("ArrowRight")
    browser.press("ArrowRight")
    for name in ("x_t", "x0", "cond", "uncond", "difference"):
        assert src(browser, name) == frames[2][name]
    assert src(browser, "x_prev") == frames[3]["x_t"]
    assert "step 3 of 6" in browser.js("document.getElementById('now').textContent")
    browser.press("ArrowLeft")
    assert src(browser, "x0") == frames[1]["x0"]
    browser.press("End")
    assert src(browser, "x_prev") == said["images"][0]["result"]
    browser.press("Home")
    assert src(browser, "x0") == frames[0]["x0"]
    browser.click("#slider")  # the middle of its track
    at = int(browser.js("document.getElementById('slider').value"))
    assert at in (2, 3)
    assert src(browser, "x0") == frames[at]["x0"]
    browser.press("ArrowRight")  # with the slider in focus: one step, not two
    assert src(browser, "x0") == frames[at + 1]["x0"]


@pytest.mark.release
def test_each_word_has_its_map(opened):
    browser, said, _ = opened
    words = "[...document.querySelectorAll('.inside-tile .inside-word')].map((e) => e.textContent)"
    assert browser.js(words) == PROMPT.split()
    assert visible(browser, ".inside-tile") == len(PROMPT.split())
    assert visible(browser, ".inside-none") == 1
    looks = said["images"][0]["frames"][0]["attention"]
    shown = "[...document.querySelectorAll('.inside-map')].map((e) => e.src)"
    assert browser.js(shown) == [look["map"] for look in looks["8"]]
    browser.click(".inside-heights label")
    assert browser.js(shown) == [look["map"] for look in looks["4"]]
    browser.click("#picker button:nth-child(2)")
    assert browser.js(words) == ["a", "owl"]
    assert browser.js(shown) == [look["map"] for look in said["images"][1]["frames"][0]["attention"]["4"]]


@pytest.mark.release
def test_it_plays_to_the_end(opened):
    browser, said, _ = opened
    browser.click("#play")
    assert browser.js("document.getElementById('play').getAttribute('aria-label')") == "Pause"
    stopped = "new Promise((done) => { const look = () => timer === null ? done(choice.step) : setTimeout(look, 20);"
    assert browser.js(stopped + " look(); })") == 5
    assert src(browser, "x_prev") == said["images"][0]["result"]


@pytest.mark.release
def test_formulas_stand_there_as_text(opened):
    browser, said, _ = opened
    shown = "[...document.querySelectorAll('.inside-lines .inside-formula')].map((e) => e.textContent)"
    assert browser.js(shown) == [line["formula"] for line in said["images"][0]["frames"][0]["lines"]]


@pytest.mark.release
def test_sections_that_do_not_exist_are_not_seen(browser, tmp_path):
    name = "</script><img src=x onerror=alert(1)>"
    tiny_model.write(tmp_path / "run", classes=(name, "owl"))
    words = ("--checkpoint", tmp_path / "run", "--label", name, "--count", 1, "--explain")
    sample(*words, "--guidance-scale", 1, "--out", tmp_path / "out")
    browser.said.clear()
    browser.open(tmp_path / "out" / "explain.html")
    assert browser.js("document.querySelector('h1').textContent") == f"“{name}”"
    assert visible(browser, ".inside-guidance, .inside-words, #picker, .inside-tile") == 0
    assert visible(browser, "#way, .inside-numbers, #slider") == 3
    assert browser.said == []


# -- in a browser, on another page that shows steps as they come ---------------------------------------------------

STRICT = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"
LIVE_PAGE = """<!DOCTYPE html><meta charset="utf-8"><title>live</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="explain/inside.css"><script src="explain/inside.js"></script>
<div class="inside" id="one"></div><div class="inside" id="two"></div><script src="live.js"></script>"""
LIVE_SCRIPT = """
const all = [];
const ready = (async () => {
  const part = await (await fetch("explain/inside.html")).text(), run = await (await fetch("run.json")).json();
  for (const [k, id] of ["one", "two"].entries()) {
    const root = document.getElementById(id);
    root.innerHTML = part;
    const inside = new Inside(root, run), image = run.images[k], frames = new Array(run.steps.length);
    inside.image({ ...image, guidance: run.guidance });
    all.push({ inside, image, come(i) { frames[i] = image.frames[i]; inside.show(run.steps[i], frames[i], frames); } });
  }
})();
"""


class StrictHandler(SimpleHTTPRequestHandler):
    """Serves files, and has the browser refuse whatever is written into a page."""

    def end_headers(self):
        self.send_header("Content-Security-Policy", STRICT)
        super().end_headers()

    def log_message(self, *said):
        pass


@pytest.fixture
def live(browser, reads, tmp_path):
    """A page with two images of a run from inside, of which no step has come yet."""
    with backend.using("numpy"):
        model, frames = record(reads, prompt=[PROMPT, "a owl"], guidance_scale=2.5, steps=4)
    captions = [explain.Caption(PROMPT, tuple(PROMPT.split())), explain.Caption("a owl", ("a", "owl"))]
    said = page.data(frames, captions, model.process, "ddim", 2.5)
    texts = {"live.html": LIVE_PAGE, "live.js": LIVE_SCRIPT, "run.json": json.dumps(said)}
    texts |= {f"explain/{name}": explain.page_file(name) for name in ("inside.html", "inside.css", "inside.js")}
    (tmp_path / "explain").mkdir()
    for name, text in texts.items():
        (tmp_path / name).write_text(text, "utf-8")
    browser.said.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(StrictHandler, directory=tmp_path)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        browser.go(f"http://127.0.0.1:{server.server_port}/live.html")
        browser.js("ready")
        yield browser, said
        server.shutdown()
        thread.join()
    assert browser.said == []  # nothing that the policy refused


def colours(browser, selector):
    """What is seen of an element, (h, w, 3)."""
    box = browser.js(f"(({{ x, y, width, height }}) => ({{ x: x + scrollX, y: y + scrollY, width, height }}))"
                     f"(document.querySelector('{selector}').getBoundingClientRect())")  # fmt: skip
    shot = browser.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=box | {"scale": 1})
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")).astype(int)


def curves(browser, root):
    """The words' curves: M where one begins, L for each step that it is drawn on to."""
    paths = f"[...document.querySelectorAll('{root} .inside-spark path')].map((e) => e.getAttribute('d'))"
    return [re.sub("[^ML]", "", path) for path in browser.js(paths)]


def test_a_run_is_shown_from_inside_while_it_is_drawn(live):
    browser, said = live
    assert visible(browser, "section") == 0
    browser.js("all[0].come(0)")
    assert visible(browser, "#one section") == 3 and visible(browser, "#two section") == 0
    assert curves(browser, "#one") == ["M"] * 7
    browser.js("all[0].come(1)")
    browser.js("all[0].come(3)")  # the one before it is missing: a gap
    assert curves(browser, "#one") == ["MLM"] * 7
    browser.js("all[0].come(2)")
    assert curves(browser, "#one") == ["MLLL"] * 7
    mark = browser.js("document.querySelector('#one .inside-spark line').getAttribute('x1')")
    assert float(mark) == pytest.approx(2000 / 3)
    assert browser.js("document.querySelector('#one .inside-cond').src") == said["images"][0]["frames"][2]["cond"]
    assert browser.js("document.querySelector('#one .inside-guided-symbol').textContent") == "x̂₀(∅) + 2.500 Δ"
    shown = "[...document.querySelectorAll('#one .inside-formula')].map((e) => e.textContent)"
    assert browser.js(shown) == [line["formula"] for line in said["images"][0]["frames"][2]["lines"]]
    browser.js("all[0].inside.clear()")
    assert visible(browser, "section") == 0


def test_two_on_a_page_do_not_disturb_each_other(live):
    browser, said = live
    browser.js("all[0].come(0), all[1].come(0)")
    browser.click("#two [value=heat]")
    browser.click("#two .inside-heights label")
    shown = "[...document.querySelectorAll('%s .inside-map')].map((e) => e.src)"
    for root, image, height in (("#one", 0, "8"), ("#two", 1, "4")):
        maps = said["images"][image]["frames"][0]["attention"][height]
        assert browser.js(shown % root) == [each["map"] for each in maps]
        checked = browser.js(f"[...document.querySelectorAll('{root} input:checked')].map((e) => e.value)")
        assert checked == [height, "light" if root == "#one" else "heat"]
    for hidden in ("false", "true"):  # each has its own colours for heat, which a hidden one could not lend
        browser.js(f"all[0].inside.root.hidden = {hidden}")
        heat = colours(browser, "#two .inside-look")
        assert np.abs(heat[..., 0] - heat[..., 2]).max() > 100  # grey without: black to white
    ids = browser.js("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(set(ids)) == len(ids)


def test_a_step_without_guidance_or_words_shows_what_there_is(live):
    browser, _ = live
    browser.js("for (const name of ['cond', 'attention']) delete all[0].image.frames[0][name]")
    browser.js("all[0].come(0)")
    assert visible(browser, "#one section") == 1 and visible(browser, "#one .inside-numbers") == 1
    browser.js("all[0].come(1)")
    assert visible(browser, "#one section") == 3
    browser.js("all[0].come(0)")  # guidance has an interval: the section stays, without images
    assert visible(browser, "#one .inside-guidance") == 1
    assert visible(browser, "#one .inside-guided-row, #one .inside-tile, #one .inside-padding") == 0
