"""The studio's page in a real browser, with a real studio behind it: everything that a person can do there."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="the studio needs the extra studio")
pytest.importorskip("uvicorn", reason="the studio needs the extra studio")

from minidiff import backend
from minidiff import sample as command
from minidiff.checkpoint.config import Config, RunConfig
from minidiff.checkpoint.settings import write_toml
from minidiff.data.config import DataConfig
from minidiff.pipeline import loading
from minidiff.sampling.request import SampleRequest
from tests import tiny_model, toy_images
from tests.browser import NAMES, Browser, find
from tests.needs import lacking
from tests.studio.page import SETTLED, Page, image_of
from tests.studio.running import ROOT, running

pytestmark = pytest.mark.release  # two minutes, and few machines have the browser

DOG, CAT = "a dog in a winter forest", "a cat in a meadow"
LONG = {"steps": 1000}  # still drawn when a page has been loaded again on a busy machine
MARKUP = "<img src=x onerror=\"document.title='broken in'\">", "</script><b>owl</b>"
LINK = "<a dog=a>a house</a>"  # markup whose words are all known
LABELS = "[...document.querySelectorAll('#model option')].find((each) => each.text === 'labels').value"
LATENT = LABELS.replace("labels", "latent")
SETTINGS = "studio.settings()"
OVER = "[...document.querySelectorAll('#runs button')].find((each) => each.innerText.includes('over'))"


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A studio with the weights that come with minidiff, a run that knows labels and no prompts, and a training."""
    folder = tmp_path_factory.mktemp("shipped")
    (folder / "runs" / "over").mkdir(parents=True)
    write_toml(folder / "runs" / "over" / "config.toml", Config(DataConfig(size=(96, 160)), run=RunConfig(steps=99)))
    lines = ({"step": k, "loss": 1 / k, "seconds": k / 2} for k in range(1, 100))
    (folder / "runs" / "over" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    tiny_model.write(folder / "runs" / "labels", classes=("cat", *MARKUP))
    tiny_model.write_latent(folder / "runs" / "latent", size=(48, 80))
    with running("--checkpoint", loading.SMALL, folder=folder, backend="numpy") as started:
        yield started


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if find() is None:
        lacking("browser", f"there is no Chromium here: MINIDIFF_BROWSER, or one of {', '.join(NAMES)}, would be used")
    with Browser(tmp_path_factory.mktemp("browser"), height=1000) as started:
        yield started


@pytest.fixture
def page(browser, shipped):
    """The page, just opened, with plain settings; at the end nothing has gone wrong and nobody else was asked."""
    page = Page(browser, shipped.url)
    page.rest()
    browser.size(1280, 1000)
    browser.said.clear(), browser.requests.clear()
    page.open()
    yield page
    assert browser.said == []
    hosts = {re.match(r"(?:https?|wss?)://([^/]+)|(blob|data):", url).group(1, 2) for url in browser.requests}
    assert {host for host, _ in hosts if host} == {page.host}
    assert any(url.startswith("ws://") for url in browser.requests)


@pytest.fixture(autouse=True)
def own_backend(monkeypatch):
    """The command selects a backend for its whole process, which here is the tests'."""
    monkeypatch.setattr(backend, "_stack", [])


@pytest.fixture
def sampled(tmp_path):
    """A function that returns the image (H, W, 3) uint8 that `python -m minidiff.sample` draws."""

    def run(*words, out="command"):
        words = [*map(str, words), "--images", "--backend", "numpy", "--threads", "1", "--out", str(tmp_path / out)]
        command.main(["--checkpoint", str(loading.SMALL), *words])
        (path,) = (tmp_path / out / "images").iterdir()
        return image_of(path.read_bytes())

    return run


def picture(path, colour=(200, 60, 40), size=(48, 48)):
    """Write a picture: a disc on a plain ground."""
    y, x = np.mgrid[: size[1], : size[0]]
    inside = (x - size[0] / 2) ** 2 + (y - size[1] / 2) ** 2 < (min(size) / 3) ** 2
    image = np.where(inside[..., None], np.uint8(colour), np.uint8([30, 60, 120]))
    Image.fromarray(image.astype(np.uint8)).save(path)
    return path


# -- drawing, and its time ----------------------------------------------------------------------------------------


def test_a_drawing_is_watched_as_it_grows_and_is_that_of_the_command(page, sampled):
    page.write("prompt", DOG)
    drawing = page.draw(steps=60, seed=3)
    assert page.wait(f"studio.previews['{drawing['id']}']") >= 6  # the last one, and five before it
    assert drawing["nodes"][0]["done"] == drawing["nodes"][0]["of"] == 60
    shown = page.shown()
    assert np.ptp(shown) > 100
    assert np.array_equal(shown, page.result(drawing))
    assert np.array_equal(shown, sampled(DOG, "--steps", 60, "--seed", 3, "--count", 1))
    assert page.text("#status") == "Done"
    assert page.text("#guess-note") == "the picture"
    assert page.text("#now").startswith("step 60 of 60")


def test_several_pictures_are_a_grid_to_choose_from(page):
    drawing = page.draw(prompt=DOG, steps=3, count=3)
    assert page.js("document.querySelectorAll('#grid button').length") == 3
    first = page.shown()
    page.click("#grid button:nth-child(3)")
    page.wait("studio.view.image === 2")
    third = page.shown()
    assert not np.array_equal(first, third)
    name = drawing["nodes"][0]["pictures"][2]
    assert np.array_equal(third, image_of(page.get(f"/api/gallery/{name}.png")))
    assert page.js("document.querySelector('#save').getAttribute('href')") == f"/api/gallery/{name}.png"


def test_escape_cancels(page):
    drawing = page.begin(prompt=DOG, **LONG)
    page.wait(f"studio.previews['{drawing}'] >= 2")
    page.press("Escape")
    node = page.state("cancelled")["nodes"][0]
    assert 0 < node["done"] < 1000
    assert node["pictures"] == []
    page.shown()
    assert not page.visible("#finished")
    assert page.js("document.querySelector('#cancel').disabled")


def test_the_button_cancels_one_that_waits(page):
    long = page.begin(prompt=DOG, **LONG)
    waits = page.begin(prompt=CAT, **LONG)
    assert page.state("queued")["id"] == waits
    page.wait("document.querySelector('#status').textContent === 'Waiting, 1 before it'")
    page.click("#cancel")
    assert page.state("cancelled")["nodes"][0]["done"] == 0
    assert json.loads(page.get(f"/api/drawings/{long}"))["state"] == "running"


def test_pause_one_step_and_on_leave_no_trace(page):
    drawing = page.begin(prompt=DOG, **LONG, seed=5)
    page.wait(f"studio.previews['{drawing}'] >= 2")
    page.press(" ")
    at = page.state("paused")["nodes"][0]["done"]
    assert 0 < at < 1000
    page.wait("document.querySelector('#pause').getAttribute('aria-label') === 'Go on'")
    page.click("#step-once")
    page.wait(f"studio.drawing().nodes[0].done === {at + 1} && studio.drawing().state === 'paused'")
    page.wait(f"studio.view.step === {at}")
    assert np.array_equal(page.shown(), page.step(drawing, 0, at, "x0_hat"))
    page.js("document.activeElement.blur()")
    page.press(" ")
    page.wait(f"studio.drawing().nodes[0].done > {at + 2}")
    page.press("Escape")
    page.state("cancelled")
    without = page.begin(prompt=DOG, **LONG, seed=5)
    page.wait(f"studio.drawing().nodes[0].done > {at + 2}")
    page.press("Escape")
    for step in (at - 1, at, at + 1):
        for what in ("x_t", "x0_hat"):
            assert np.array_equal(page.step(drawing, 0, step, what), page.step(without, 0, step, what))


def test_slider_film_and_keys_go_to_any_step(page):
    drawing = page.draw(prompt=DOG, steps=8)["id"]

    def shows(step):
        page.wait(f"studio.view.step === {step}")
        what = "x_prev" if step == 7 else "x0_hat"
        guess = page.shown()
        assert np.array_equal(guess, page.step(drawing, 0, step, what))
        assert np.array_equal(page.shown("x_t"), page.step(drawing, 0, step, "x_t"))
        page.wait(f"document.querySelector('#now').textContent.startsWith('step {step + 1} of 8')")
        assert page.js("document.querySelector('#film [aria-current]').dataset.step") == str(step)
        assert page.js("Number(document.querySelector('#scrub').value)") == step
        return guess

    last = shows(7)
    for key, step in (("ArrowLeft", 6), ("ArrowLeft", 5), ("ArrowRight", 6), ("Home", 0), ("ArrowLeft", 0), ("End", 7)):
        page.press(key)
        shows(step)
    page.stroke("#scrub", [(0.99, 0.5), (0.3, 0.5)])
    assert not np.array_equal(shows(2), last)
    page.press("ArrowRight")  # the slider has the focus
    shows(3)
    page.click("#film button:nth-child(5)")
    shows(4)


def test_a_branch_is_that_of_the_command_and_of_like(page, sampled, tmp_path):
    first = page.draw(prompt=DOG, steps=10, seed=4)
    for _ in range(6):
        page.press("ArrowLeft")
    page.wait("studio.view.step === 3")
    page.fill(prompt=CAT)
    page.wait("document.querySelector('#branching').classList.contains('ready')")
    assert CAT in page.text("#changes")
    assert page.text("#branch") == "Branch here, after step 3"
    page.click("#branch")
    page.wait("studio.drawing().nodes.length === 2")
    both = page.state("done")
    assert both["id"] == first["id"] and both["active"] == 1
    assert both["nodes"][1]["parent"] == 0
    assert both["nodes"][1]["start"] == 3
    assert both["nodes"][1]["changed"] == {"prompt": [CAT]}
    branch = page.shown()
    assert not np.array_equal(branch, page.result(first))
    assert np.array_equal(branch, page.result(both))
    words = (DOG, "--steps", 10, "--seed", 4, "--count", 1, "--branch", f'step = 3, prompt = ["{CAT}"]')
    assert np.array_equal(branch, sampled(*words))
    kept = tmp_path / "branch.png"
    kept.write_bytes(page.get(f"/api/gallery/{both['nodes'][1]['pictures'][0]}.png"))
    assert np.array_equal(branch, sampled("--like", kept, out="like"))

    # the tree shows both ways, and each leads back to its settings
    page.wait("document.querySelectorAll('#tree button').length === 2")
    assert "after step 3" in page.text('#tree [data-node="1"] .name')
    page.click('#tree [data-node="0"]')
    page.wait(f"studio.view.node === 0 && studio.settings().prompt[0] === {json.dumps(DOG)}")
    assert np.array_equal(page.shown(), page.result(first, 0))
    page.click('#tree [data-node="1"]')
    page.wait(f"studio.view.node === 1 && studio.settings().prompt[0] === {json.dumps(CAT)}")
    assert np.array_equal(page.shown(), branch)


def test_the_button_to_branch_is_lit_where_a_branch_makes_a_difference(page):
    page.draw(prompt=DOG, steps=6)
    ready = "document.querySelector('#branching').classList.contains('ready')"
    page.wait("document.querySelector('#changes').textContent.startsWith('Change something first')")
    assert page.js("document.querySelector('#branch').disabled")
    page.fill(prompt=CAT)
    page.wait("!document.querySelector('#branch').disabled")
    assert not page.js(ready)  # only the last step would be drawn anew
    page.press("Home")
    page.wait(ready)
    page.wait("document.querySelector('#branch').textContent === 'Branch from the start'")
    assert page.js("studio.view.step") == 0


def test_the_film_is_seen_whole_and_marks_the_nearest_cell(page):
    page.draw(prompt=DOG, steps=60)
    page.shown()
    steps = page.js("[...document.querySelectorAll('#film button')].map((each) => Number(each.dataset.step))")
    assert len(steps) == 16 and steps[0] == 0 and steps[-1] == 59
    assert set(np.diff(steps)) <= {3, 4}
    assert page.js("(({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth)(document.querySelector('#film'))")
    page.wait("[...document.querySelectorAll('#film canvas')].every((each) => each.dataset.shows)")
    for step in (58, 57, 56):
        page.press("ArrowLeft")
        page.wait(f"studio.view.step === {step} && document.querySelector('#scrub').value === '{step}'")
        nearest = min(steps, key=lambda each: abs(each - step))
        assert page.js("document.querySelector('#film [aria-current]').dataset.step") == str(nearest)


def test_a_finished_drawing_is_played_again(page):
    page.draw(prompt=DOG, steps=12)
    page.wait("document.querySelector('#pause').getAttribute('aria-label') === 'Play the film'")
    page.js("window.seen = new Set(), new MutationObserver(() => seen.add(studio.view.step))"
            ".observe(document.querySelector('#now'), { childList: true })")  # fmt: skip
    page.click("#pause")
    page.wait("window.seen.has(0) && document.querySelector('#pause').getAttribute('aria-label') === 'Stop the film'")
    page.wait(
        "studio.view.step === 11 && document.querySelector('#pause').getAttribute('aria-label') !== 'Stop the film'"
    )
    assert len(page.js("[...window.seen]")) > 5


def test_a_drawing_that_waits_shows_nothing_of_the_one_before(page):
    page.draw(prompt=DOG, steps=3, count=2)
    page.shown()
    page.begin(prompt=DOG, **LONG, count=1)
    page.begin(prompt=CAT, **LONG, count=1)
    assert page.state("queued")["nodes"][0]["done"] == 0
    page.wait("document.querySelector('#waiting').checkVisibility()")
    page.wait(SETTLED)
    assert page.js("['x_t', 'x0_hat'].map((id) => document.getElementById(id).dataset.shows ?? null)") == [None, None]
    assert np.ptp(page.pixels("#x0_hat")) == 0
    assert page.text("#guess-note") == "its guess of the picture"
    assert page.text("#now") == "waiting"
    assert page.js("document.querySelector('#curve path')?.getAttribute('d') ?? ''") == ""
    assert page.js("[...document.querySelectorAll('#film button')].every((each) => each.disabled)")
    assert not page.visible("#grid")
    assert not page.js("document.querySelector('#cancel').disabled")


def test_after_a_restart_of_the_server_nothing_is_left(page):
    page.draw(prompt=DOG, steps=3)
    page.shown()
    page.js("import('/store.js').then(({ loaded, store }) => loaded({ ...store.state, drawings: [] }))")
    page.wait("document.querySelector('#waiting').checkVisibility()")
    page.wait(SETTLED)
    assert np.ptp(page.pixels("#x0_hat")) == 0
    assert page.text("#guess-note") == "its guess of the picture"
    assert page.text("#now") == "The steps from noise to picture will be here."
    assert page.js("document.querySelector('#curve').children.length") == 0
    assert not page.visible("#film") and not page.visible("#tree") and not page.visible("#finished")


COMPILING = "import('/store.js').then(({ store, emit }) => { store.compiling = %s; emit('compiling'); })"
SLOW = """(() => {
    const real = window.fetch, wait = new Promise((go) => { window.answer = go; });
    window.fetch = (...what) => what[0] === "/api/drawings" ? wait.then(() => real(...what)) : real(...what);
})()"""


def test_a_drawing_that_the_server_has_not_taken_yet_is_told_why_and_cancelled(page):
    page.draw(prompt=DOG, steps=3)
    page.js(SLOW)
    page.js(COMPILING % "'compiling conv.pad_rows, once on this machine'")
    page.fill(prompt=CAT, steps=900)
    page.click("#draw")
    page.wait("document.querySelector('#waiting').checkVisibility()")
    assert page.text("#waiting").startswith("Compiling the kernels, once on this machine; your drawing begins then.")
    assert page.text("#waiting small") == "conv.pad_rows"
    assert "shows" not in page.js("({ ...document.querySelector('#x0_hat').dataset })")
    page.wait("!document.querySelector('#cancel').disabled")
    page.click("#cancel")
    page.wait("document.querySelector('#cancel').disabled")
    page.js(COMPILING % "null")
    page.js("answer()")
    page.wait(f"studio.drawing()?.nodes[0].settings.prompt[0] === {json.dumps(CAT)}")
    assert page.state("cancelled")["nodes"][0]["done"] < 900


# -- words ----------------------------------------------------------------------------------------------------------


def test_an_unknown_word_is_underlined_and_a_known_one_offered(page):
    page.write("prompt", "a dgo in a witner forest")
    marked = "[...document.querySelectorAll('.spell mark')].map((each) => each.textContent)"
    assert page.js(marked) == ["dgo", "witner"]
    assert page.text("#prompt-advice button") == "dog"
    page.click("#prompt-advice button")
    assert page.js(marked) == ["witner"]
    page.click("#prompt-advice button")
    assert page.js("document.querySelector('#prompt').value") == DOG
    assert page.js(marked) == []
    assert page.text("#prompt-advice") == ""
    page.press("Enter", ctrl=True)  # the cursor is in the field again
    assert page.state("done")["nodes"][0]["settings"]["prompt"] == [DOG]


def test_without_a_prompt_anything_is_drawn(page):
    page.fill(prompt="")
    assert page.text("#anything") == "Without a prompt it draws anything."
    drawing = page.draw(steps=3)
    assert drawing["nodes"][0]["settings"]["prompt"] == []
    assert drawing["nodes"][0]["settings"]["guidance_scale"] == 1
    assert page.js("document.querySelector('#guidance').value") == "3"
    page.press("Home")
    page.wait("document.querySelector('#changes').textContent.startsWith('Change something first')")
    page.fill(prompt=DOG)
    assert not page.visible("#anything")
    assert page.draw()["nodes"][0]["settings"]["guidance_scale"] == 3


def test_an_unknown_word_is_all_that_the_error_names(page, browser):
    page.write("prompt", "an unicorn in a witner forest")
    page.click("#draw")
    page.wait("document.querySelector('#error').checkVisibility()")
    said = page.text("#error")
    assert "The model does not know “unicorn”." in said and "witner" in said and "winter" in said
    assert len(said) < 150
    count = page.js("studio.state.models[0].words.length")
    assert page.text("#known summary") == f"The {count} words that it knows"
    assert not page.visible("#known p")
    page.click("#known summary")
    assert len(page.text("#known p").split(", ")) == count
    browser.said.clear()  # the answer 400


def test_only_close_words_are_offered(page):
    nearest = "import('/words.js').then(({ nearest }) => nearest(%s, ['dog', 'forest', 'in', 'a', 'elephant', 'unit']))"
    for word, offered in (("dgo", "dog"), ("forst", "forest"), ("elefant", "elephant"), ("unicorn", None),
                          ("ib", None), ("x", None), ("cow", None)):  # fmt: skip
        assert page.js(nearest % json.dumps(word)) == offered


def test_markup_stays_text(page, browser):
    page.write("prompt", " ".join(MARKUP))
    assert "onerror" in page.text("#prompt-advice")
    page.click("#draw")
    page.wait("document.querySelector('#error').checkVisibility()")
    assert "onerror" in page.text("#error")
    assert browser.said == ["Failed to load resource: the server responded with a status of 400 (Bad Request)"]
    browser.said.clear()
    page.draw(prompt=LINK, negative=LINK, steps=2)
    page.wait(f"document.querySelector('#recent .name').textContent === {json.dumps(LINK)}")
    assert LINK in page.text("#tree")
    page.click("#tab-gallery")
    page.wait("document.querySelectorAll('#gallery .tile').length > 0")
    page.wait(f"document.querySelector('#gallery .tile').innerText === {json.dumps(LINK)}")
    page.click("#gallery .tile")
    assert page.text("#large-settings").count(LINK) == 2
    page.click("#large-close")
    page.click("#tab-studio")
    labels = page.js(LABELS)
    page.fill(model=labels)
    page.wait("document.querySelector('#label').checkVisibility()")
    assert page.js("[...document.querySelectorAll('#label label')].map((each) => each.innerText)") == ["cat", *MARKUP]
    assert page.js("document.title") == "minidiff studio"
    assert page.js("document.querySelectorAll('[onerror], [dog], main script').length") == 0


# -- pictures to start from ---------------------------------------------------------------------------------------


CROSS = [(0.2, 0.2), (0.35, 0.5), (0.5, 0.6), (0.8, 0.7)]


@pytest.mark.parametrize("how", ["mouse", "touch", "pen"])
def test_lines_are_drawn_and_followed(page, how):
    plain = page.result(page.draw(prompt=DOG, steps=4, seed=6))
    page.click("#control-box summary")
    before = page.pixels("#control-canvas")
    assert before.min() == 255
    page.stroke("#control-canvas", CROSS, how)
    assert page.pixels("#control-canvas").min() == 0
    page.wait(f"{SETTINGS}.control && document.querySelector('#control-seen').complete")
    drawing = page.draw()
    control = drawing["nodes"][0]["settings"]["control"]
    assert control == page.js(f"{SETTINGS}.control")
    assert image_of(page.get(f"/api/pictures/{control}.png")).min() == 0
    assert not np.array_equal(page.result(drawing), plain)
    assert page.js("document.querySelector('#control-seen').naturalWidth") == 32


def test_the_eraser_undo_and_clear(page):
    page.click("#control-box summary")
    line = [(0.2, 0.5), (0.8, 0.5)]
    page.stroke("#control-canvas", line)
    drawn = page.pixels("#control-canvas")
    page.click('#control-tools [title="Eraser"]')
    page.stroke("#control-canvas", line)
    assert page.pixels("#control-canvas").min() == 255
    page.click('#control-tools [title="Undo"]')
    assert np.array_equal(page.pixels("#control-canvas"), drawn)
    page.click('#control-tools [title="Pen"]')
    page.stroke("#control-canvas", CROSS)
    assert (page.pixels("#control-canvas") < drawn).any()
    page.click('#control-tools [title="Clear"]')
    assert page.pixels("#control-canvas").min() == 255
    page.wait(f"!('control' in {SETTINGS})")
    page.click('#control-tools [title="Undo"]')
    page.click('#control-tools [title="Undo"]')
    assert np.array_equal(page.pixels("#control-canvas"), drawn)
    page.wait(f"{SETTINGS}.control")
    page.click('#control-tools [title="Undo"]')
    page.wait(f"!('control' in {SETTINGS})")


def test_a_photo_is_loaded_as_a_drawing(page, tmp_path):
    page.click("#control-box summary")
    page.choose("#control-file", picture(tmp_path / "photo.jpg"))
    control = page.wait(f"{SETTINGS}.control")
    page.wait("document.querySelector('#control-seen').naturalWidth === 32")
    edges = image_of(page.get(f"/api/pictures/{control}/as/control.png?model=m0&kind=edges"))
    assert 0 < (edges > 127).mean() < 0.5


def test_a_reference_that_is_dropped_is_followed(page, tmp_path):
    plain = page.result(page.draw(prompt=DOG, steps=4, seed=6))
    page.drop("#reference-box summary", picture(tmp_path / "reference.jpg"))
    reference = page.wait(f"{SETTINGS}.reference")
    page.wait("document.querySelector('#reference-picture').naturalWidth > 0")
    assert page.visible("#reference-picture")
    assert page.js("new URL(document.querySelector('#reference-picture').src).pathname") == (
        f"/api/pictures/{reference}/as/reference.png"
    )
    usual = page.draw()["nodes"][0]["settings"]["reference_scale"]
    assert usual == SampleRequest().reference_scale  # as the command and the library have it
    drawing = page.draw(reference_scale=1.2)
    assert drawing["nodes"][0]["settings"].items() >= {"reference": reference, "reference_scale": 1.2}.items()
    assert not np.array_equal(page.result(drawing), plain)
    page.click('#reference-tools [aria-label="Remove the reference"]')
    assert "reference" not in page.js(SETTINGS)
    assert np.array_equal(page.result(page.draw()), plain)


def test_a_picture_that_minidiff_did_not_draw_is_offered_for_every_use(page, browser, tmp_path):
    page.drop("#top", picture(tmp_path / "any.png"))
    page.wait("document.querySelectorAll('.toast button').length === 4")
    assert "no settings" in page.text(".toast p")
    page.click(".toast button")
    page.wait(f"{SETTINGS}.init")
    page.drop("#reference-box summary", tmp_path / "any.png")
    page.wait(f"{SETTINGS}.reference === {SETTINGS}.init")
    assert browser.said == []  # no PNG without our text is sent to be read


def test_only_what_is_painted_is_drawn_anew(page, tmp_path):
    page.choose("#init", picture(tmp_path / "init.png", size=(64, 48)))
    init = page.wait(f"{SETTINGS}.init")
    page.wait("document.querySelector('#init-picture').naturalWidth === 32")
    page.stroke("#mask-canvas", [(0.2, 0.3), (0.8, 0.3), (0.8, 0.4), (0.2, 0.4)])
    mask = page.wait(f"{SETTINGS}.mask")
    drawing = page.draw(prompt=DOG, steps=8, strength=0.8)
    assert drawing["nodes"][0]["settings"].items() >= {"init": init, "mask": mask, "strength": 0.8}.items()
    seen = image_of(page.get(f"/api/pictures/{init}/as/init.png?model=m0"))
    anew = image_of(page.get(f"/api/pictures/{mask}/as/mask.png?model=m0"))[..., 0] > 0
    result = page.result(drawing)
    assert 0.1 < anew.mean() < 0.6
    assert np.array_equal(result[~anew], seen[~anew])
    assert (result[anew] != seen[anew]).any(-1).mean() > 0.5
    page.click('#mask-tools [title="Clear"]')
    page.wait(f"!('mask' in {SETTINGS})")
    page.click('#mask-tools [aria-label="Remove the picture"]')
    assert not {"init", "strength"} & page.js(SETTINGS).keys()


def test_a_result_is_started_from_again(page):
    drawing = page.draw(prompt=DOG, steps=4)
    page.click("#again-init")
    init = page.wait(f"{SETTINGS}.init")
    assert np.array_equal(image_of(page.get(f"/api/pictures/{init}.png")), page.result(drawing))
    page.click("#again-reference")
    assert page.wait(f"{SETTINGS}.reference") == init


# -- settings that come back -----------------------------------------------------------------------------------------


def test_a_picture_that_is_dropped_brings_back_every_setting(page, tmp_path):
    page.choose("#init", picture(tmp_path / "init.png"))
    page.wait(f"{SETTINGS}.init")
    page.stroke("#mask-canvas", [(0.2, 0.3), (0.8, 0.3)])
    page.click("#control-box summary")
    page.stroke("#control-canvas", CROSS)
    page.choose("#reference", picture(tmp_path / "reference.png", (40, 200, 90)))
    page.wait(f"{SETTINGS}.mask && {SETTINGS}.control && {SETTINGS}.reference")
    page.fill(prompt=f"{DOG}\n{CAT}", negative="snow", count=2, seed=77, sampler="euler", steps=5, guidance=2.5)
    page.fill(guidance_low=0.1, guidance_high=30, spacing="karras", clip="dynamic", churn=1.5, resample=2)
    page.fill(strength=0.7, control_scale=0.8, reference_scale=0.9)
    wanted = page.js(SETTINGS)
    drawing = page.draw()
    (tmp_path / "dropped.png").write_bytes(page.get(f"/api/gallery/{drawing['nodes'][0]['pictures'][0]}.png"))

    page.rest()
    page.open()
    assert page.js(SETTINGS) != wanted
    page.drop("#stage", tmp_path / "dropped.png")
    page.wait("document.querySelector('.toast')")
    assert page.text(".toast p") == "The settings of this picture are back."
    assert page.js(SETTINGS) == wanted
    inside = drawing["nodes"][0]["settings"]
    assert {name: inside[name] for name in wanted} == wanted
    assert page.result(page.draw()).tolist() == page.result(drawing).tolist()


def test_a_dropped_branch_is_drawn_again_with_its_ways(page, tmp_path):
    page.draw(prompt=DOG, steps=6, seed=8)
    page.press("Home")
    page.press("ArrowRight")
    page.fill(prompt=CAT, guidance=5)
    page.click("#branch")
    page.wait("studio.drawing().nodes.length === 2")
    drawing = page.state("done")
    (tmp_path / "dropped.png").write_bytes(page.get(f"/api/gallery/{drawing['nodes'][1]['pictures'][0]}.png"))
    page.rest()
    page.open()
    page.drop("#stage", tmp_path / "dropped.png")
    page.wait("document.querySelector('.toast')")
    assert "has a branch" in page.text(".toast p")
    first = {"prompt": [DOG], "guidance_scale": 3, "seed": 8, "steps": 6}
    assert {name: page.js(SETTINGS)[name] for name in first} == first
    before = page.js("studio.view.drawing")
    page.click(".toast button")
    page.wait(f"studio.view.drawing !== '{before}'")
    again = page.state("done")
    assert [each["start"] for each in again["nodes"]] == [0, 1]
    assert again["nodes"][1]["changed"] == {"prompt": [CAT], "guidance_scale": 5}
    assert np.array_equal(page.result(again), page.result(drawing))


def test_the_gallery_lists_what_was_drawn_and_gives_its_settings_back(page):
    drawings = [page.draw(prompt=prompt, steps=2, seed=seed) for prompt, seed in ((DOG, 11), (CAT, 12))]
    page.click("#tab-gallery")
    tiles = "[...document.querySelectorAll('#gallery .tile')].map((each) => each.innerText)"
    page.wait(f"({tiles}).length >= 2")
    assert page.js(tiles)[:2] == [CAT, DOG]
    assert page.js("document.querySelectorAll('#gallery img')[1].getAttribute('src')") == (
        f"/api/gallery/{drawings[0]['nodes'][0]['pictures'][0]}.png"
    )
    page.click("#gallery .tile:nth-child(2)")
    assert re.search(r"seed\s+11", page.text("#large-settings"))
    page.click("#large-use")
    page.wait(f"{SETTINGS}.seed === 11")
    assert page.js(SETTINGS)["prompt"] == [DOG]
    assert page.visible("#panel-studio") and not page.visible("#panel-gallery")
    again = page.draw()
    assert np.array_equal(page.result(again), page.result(drawings[0]))


def test_what_is_drawn_after_the_gallery_was_opened_has_its_words_and_settings(page):
    page.draw(prompt=DOG, steps=2)
    page.click("#tab-gallery")
    page.wait("document.querySelectorAll('#gallery .tile').length > 0")
    page.click("#tab-studio")
    drawing = page.draw(prompt=CAT, steps=2, seed=41)
    page.fill(prompt=DOG, seed=1)
    page.click("#tab-gallery")
    page.wait(f"document.querySelector('#gallery img').src.endsWith('/{drawing['nodes'][0]['pictures'][0]}.png')")
    assert page.text("#gallery .tile") == CAT
    assert page.js("document.querySelector('#gallery img').getBoundingClientRect().width % 32") == 0
    page.click("#gallery .tile")
    assert page.js("!document.querySelector('#large-use').disabled")
    page.click("#large-use")
    page.wait(f"{SETTINGS}.seed === 41")
    assert page.js(SETTINGS)["prompt"] == [CAT]


# -- inside ----------------------------------------------------------------------------------------------------------


def test_the_inside_of_the_step_shown(page):
    drawing = page.draw(prompt=DOG, steps=4)["id"]
    page.click("#inside")
    page.wait("document.querySelector('#inside-panel').checkVisibility()")

    def inside(step):
        page.wait(f"studio.view.step === {step}")
        wanted = json.loads(page.get(f"/api/drawings/{drawing}/nodes/0/steps/{step}/inside"))["frame"]
        page.wait(f"document.querySelector('.inside-guided').src === {json.dumps(wanted['guided'])}")
        return page.text(".inside-lines")

    last = inside(3)
    page.js("document.activeElement.blur()")
    page.press("ArrowLeft")
    assert inside(2) != last
    for part in ("guidance", "words", "numbers"):
        assert page.visible(f".inside-{part}")
    page.wait("document.querySelector('.inside-uncond').naturalWidth === 32")
    maps = page.js("[...document.querySelectorAll('.inside-maps > *')].map((each) => each.innerText)")
    assert [re.match(r"\w+", text)[0] for text in maps[:-1]] == DOG.split()  # the last is of no word
    assert "x̂" in page.text(".inside-lines")
    page.click("#inside")
    assert not page.visible("#inside-panel")


def test_the_recording_of_a_finished_drawing_is_told(page):
    page.draw(prompt=DOG, steps=40)
    page.js("const note = document.querySelector('#inside-note'); window.notes = [];"
            "new MutationObserver(() => notes.push(note.textContent)).observe(note, { childList: true })")  # fmt: skip
    page.click("#inside")
    page.wait("document.querySelector('#inside-panel').checkVisibility()")
    told = [re.fullmatch(r"Drawing it again to record: step (\d+) of 40", each) for each in page.js("window.notes")]
    assert len({each[1] for each in told if each}) > 1


def test_a_drawing_that_is_begun_with_the_switch_on_records_at_once(page):
    page.click("#inside")
    drawing = page.draw(prompt=CAT, steps=5)
    assert drawing["inside"] and drawing["nodes"][0]["recorded"] == 5
    page.wait("document.querySelector('#inside-panel').checkVisibility()")
    page.wait("document.querySelectorAll('.inside-maps > *').length === 6")


def test_inside_a_branch_each_word_has_the_steps_that_read_it(page):
    page.click("#inside")
    page.draw(prompt=DOG, steps=6)
    page.press("Home")
    page.press("ArrowRight")
    page.press("ArrowRight")
    page.fill(prompt=CAT)
    page.click("#branch")
    page.wait("studio.drawing().nodes.length === 2")
    page.state("done")
    page.js("document.activeElement.blur()")
    # of each word: itself, and a letter for each step of its curve, M where it begins
    words = """[...document.querySelectorAll(".inside-maps > *")].slice(0, -1).map((each) => {
        const curve = each.querySelector("path").getAttribute("d");
        return each.innerText.split("\\n")[0] + curve.replace(/[^ML]/g, "");
    }).join(" ")"""
    for key, text, curve in (("End", CAT, "MLLL"), ("Home", DOG, "ML"), ("End", CAT, "MLLL")):
        page.press(key)
        page.wait(f"{words} === '{' '.join(word + curve for word in text.split())}'")


# -- latents ---------------------------------------------------------------------------------------------------------


def choose_latent(page):
    model = page.js(LATENT)
    page.fill(model=model)
    page.wait("document.querySelector('#model-size').textContent.includes('latents')")
    return model


def decoded_paths(browser):
    return [url.partition("/steps/")[2] for url in browser.requests if "/decoded/" in url]


def test_a_step_that_one_stays_at_is_decoded_and_the_page_says_so(page, browser):
    choose_latent(page)
    drawing = page.draw(prompt="a dog", steps=8, seed=3, count=2)
    path = f"/api/drawings/{drawing['id']}/nodes/0/steps"
    kinds = "['x_t', 'x0_hat'].map((id) => document.getElementById(`${id}-kind`).textContent).join()"
    page.wait(f"{kinds} === 'decoded,decoded'")
    first = page.result(drawing)
    assert first.shape == (48, 80, 3)
    assert np.array_equal(page.pixels("#x0_hat"), first)

    before = len(decoded_paths(browser))
    move = """(async () => {
        for (const step of [6, 5, 1, 2, 3, 4]) {
            document.querySelector("#scrub").value = step;
            document.querySelector("#scrub").dispatchEvent(new Event("input"));
        }
        await new Promise(requestAnimationFrame);
        return %s;
    })()"""
    assert page.js(move % kinds) == "preview,preview"
    page.wait(f"studio.view.step === 4 && {kinds} === 'decoded,decoded'")
    preview = image_of(page.get(f"{path}/4/x0_hat.png"))[:48]
    assert np.array_equal(page.pixels("#film button:nth-child(5) canvas"), preview)
    for what in ("x_t", "x0_hat"):
        found = page.pixels(f"#{what}")
        assert np.array_equal(found, image_of(page.get(f"{path}/4/decoded/{what}.png")))
        assert not np.array_equal(found, image_of(page.get(f"{path}/4/{what}.png"))[:48])
    asked = decoded_paths(browser)[before:]
    assert asked == ["4/decoded/x_t.png?image=0", "4/decoded/x0_hat.png?image=0"]  # of no step on the way

    page.click("#grid button:nth-child(2)")
    page.wait("document.querySelector('#x0_hat').dataset.shows?.endsWith('/4/1/decoded')")
    assert np.array_equal(page.pixels("#x0_hat"), image_of(page.get(f"{path}/4/decoded/x0_hat.png?image=1")))
    page.fill(model="m0", count=1)
    page.wait("document.querySelector('#model-size').textContent === '32 × 32 pixels'")
    page.draw(prompt=DOG, steps=3)
    page.shown()
    assert page.js(kinds) == ","
    before = len(decoded_paths(browser))
    page.press("ArrowLeft")
    page.shown()
    page.wait("new Promise((done) => setTimeout(() => done(true), 400))")  # twice as long as it takes to be asked for
    assert len(decoded_paths(browser)) == before


def test_a_latent_drawing_that_is_paused_is_decoded_and_one_that_runs_is_not(page, browser):
    choose_latent(page)
    drawing = page.begin(prompt="a dog", **LONG, seed=3)
    page.wait(f"studio.previews['{drawing}'] >= 8")
    assert page.text("#x0_hat-kind") == "preview"
    assert decoded_paths(browser) == []
    page.press(" ")
    at = page.state("paused")["nodes"][0]["done"] - 1
    page.wait("document.querySelector('#x0_hat-kind').textContent === 'decoded'")
    expected = image_of(page.get(f"/api/drawings/{drawing}/nodes/0/steps/{at}/decoded/x0_hat.png"))
    assert np.array_equal(page.pixels("#x0_hat"), expected)
    page.press("Escape")
    page.state("cancelled")


def test_pads_have_the_shape_of_the_pictures_and_settings_come_back(page, tmp_path):
    model = choose_latent(page)
    assert page.js("[...document.querySelector('#clip').options].map((each) => each.value)") == ["none"]
    size = "(({ width, height }) => [width, height])(document.querySelector('%s'))"
    assert page.js(size % "#mask-canvas") == page.js(size % "#control-canvas") == [512, 307]
    page.choose("#init", picture(tmp_path / "init.png", size=(160, 96)))
    page.wait("document.querySelector('#init-picture').naturalWidth === 80")
    page.stroke("#mask-canvas", [(0.2, 0.3), (0.8, 0.3), (0.8, 0.4), (0.2, 0.4)])
    mask = page.wait(f"{SETTINGS}.mask")
    drawing = page.draw(prompt="a dog", steps=6)
    seen = image_of(page.get(f"/api/pictures/{drawing['nodes'][0]['settings']['init']}/as/init.png?model={model}"))
    anew = image_of(page.get(f"/api/pictures/{mask}/as/mask.png?model={model}"))[..., 0] > 0
    assert anew.shape == (48, 80) and 0.05 < anew.mean() < 0.7
    assert np.array_equal(page.result(drawing)[~anew], seen[~anew])
    wanted = page.js(SETTINGS)
    (tmp_path / "dropped.png").write_bytes(page.get(f"/api/gallery/{drawing['nodes'][0]['pictures'][0]}.png"))
    page.rest()
    page.open()
    assert page.js(f"{SETTINGS}.clip") == "clip"
    page.drop("#stage", tmp_path / "dropped.png")
    page.wait("document.querySelector('.toast')")
    assert page.js(SETTINGS) == wanted
    page.fill(model="m0")
    page.wait(f"{SETTINGS}.model === 'm0' && {SETTINGS}.clip === 'clip'")
    assert page.js(size % "#control-canvas") == [512, 512]


def test_the_inside_of_a_step_of_latents(page):
    choose_latent(page)
    page.click("#inside")
    page.draw(prompt="a dog", steps=4)
    page.press("ArrowLeft")
    page.wait("document.querySelector('#inside-panel .inside-numbers')?.checkVisibility()")
    assert "the place in the middle of the latents, in their channel 0" in page.text("#inside-panel .inside-numbers")
    assert "previews of the latents" in page.text("#inside-panel .inside-guidance-text")
    assert not page.visible("#inside-panel .inside-range")
    page.fill(model="m0")
    page.wait("document.querySelector('#model-size').textContent === '32 × 32 pixels'")
    page.draw(prompt=DOG, steps=3)
    page.wait("document.querySelector('#inside-panel .inside-numbers')?.innerText.includes('pixel by pixel')")
    page.click("#inside")


# -- models and trainings ------------------------------------------------------------------------------------------


def test_a_model_with_labels_hides_what_it_cannot_use(page):
    labels = page.js(LABELS)
    page.fill(model=labels)
    page.wait("document.querySelector('#label').checkVisibility()")
    for hidden in ("#prompt", "#negative", "#control-box", "#reference-box"):
        assert not page.visible(hidden)
    assert page.visible("#init-box")
    page.click("#label label:first-child")
    drawing = page.draw(steps=3)
    assert drawing["model"] == labels
    assert drawing["nodes"][0]["settings"]["label"] == ["cat"]
    assert drawing["nodes"][0]["settings"]["prompt"] == []
    assert drawing["width"] == 8
    page.fill(model="m0")
    page.wait("document.querySelector('#prompt').checkVisibility()")
    assert not page.visible("#label")


def test_a_training_at_its_end_is_finished_and_its_prompt_is_that_of_the_studio(page):
    page.fill(prompt=DOG)
    page.click("#tab-training")
    page.wait(f"{OVER} && ({OVER}.click(), true)")
    page.wait("document.querySelector('#run h2')?.textContent === 'over'")
    assert "finished" in page.text("#run-facts")
    assert page.js("document.querySelector('#run-prompt').value") == DOG
    names, values = (
        page.js(f"[...document.querySelectorAll('#run-settings {tag}')].map((e) => e.textContent)")
        for tag in ("dt", "dd")
    )
    told = dict(zip(names, values))
    assert (told["size"], told["channel mult"], told["steps"]) == ("96×160", "1 2 4", "99")


def test_a_training_of_another_process_is_followed_and_tried(page, shipped, tmp_path):
    toy_images.write(tmp_path / "toy.npz", 20)
    model = "--patch 1 --model-channels 8 --channel-mult 1 2 --heads 2 --batch-size 4 --backend numpy --threads 1"
    words = f"--data npz --data-dir {tmp_path / 'toy.npz'} {model} --steps 100000 --preview-every 20 --save-every 20"
    training = subprocess.Popen(
        [sys.executable, "-m", "minidiff.train", *words.split(), "--out", "runs/toy"],
        cwd=shipped.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    try:
        page.click("#tab-training")
        toy = page.wait(
            "[...document.querySelectorAll('#runs button')].find((e) => e.innerText.includes('toy'))?.dataset.run"
        )
        page.click(f'#runs [data-run="{toy}"]')
        points = "(document.querySelector('#run-curve .raw')?.getAttribute('d').match(/\\d+\\.\\d+ /g) ?? []).length"
        before = page.wait(f"document.querySelector('#run h2')?.textContent === 'toy' && {points}")
        page.wait(f"{points} > {before}")
        assert "training now" in page.text("#run-facts")
        page.wait("document.querySelector('#run-previews img')?.naturalWidth > 0")
        page.wait("!document.querySelector('#run-draw').disabled")
        page.wait("document.querySelector('#run-prompt').hidden")  # its model reads none
        page.click("#run-draw")
        page.wait("studio.drawing()?.width === 8")
        drawing = page.state("done", "failed")
        assert drawing["state"] == "done", drawing["error"]
        assert page.visible("#panel-studio")
        assert page.text("#model option:checked").startswith("toy")
        assert np.array_equal(page.shown(), page.result(drawing))
    finally:
        training.send_signal(signal.SIGKILL)
        training.wait()


# -- several pages, and one that comes back -------------------------------------------------------------------------


def test_two_pages_watch_the_same_drawing(page, browser):
    session = browser.another()
    with browser.at(session):
        page.open()
    drawing = page.begin(prompt=CAT, **LONG)
    with browser.at(session):
        page.wait(f"document.querySelector('#recent .name')?.textContent === {json.dumps(CAT)}")
        page.click("#recent li:first-child button")
        page.wait(f"studio.view.drawing === '{drawing}' && studio.previews['{drawing}'] >= 2")
        page.click("#pause")
        at = page.state("paused")["nodes"][0]["done"]
        page.wait(f"studio.view.step === {at - 1}")
        theirs = page.shown()
        browser.ask("Page.close")
    page.state("paused")
    page.wait(f"studio.view.step === {at - 1}")
    assert np.array_equal(page.shown(), theirs)
    assert np.array_equal(theirs, page.step(drawing, 0, at - 1, "x0_hat"))


def test_a_page_that_is_loaded_again_shows_the_drawing_again(page):
    drawing = page.begin(prompt=DOG, **LONG, seed=21)
    page.wait(f"studio.previews['{drawing}'] >= 2")
    page.open()  # in the middle
    page.wait(f"studio.view.drawing === '{drawing}' && studio.previews['{drawing}'] >= 2")
    page.press(" ")
    at = page.state("paused")["nodes"][0]["done"]
    page.open()
    page.wait(f"studio.view.drawing === '{drawing}' && studio.view.step === {at - 1}")
    assert np.array_equal(page.shown(), page.step(drawing, 0, at - 1, "x0_hat"))
    settings = page.js(SETTINGS)
    assert (settings["prompt"], settings["seed"], settings["steps"]) == ([DOG], 21, 1000)
    page.press("Home")
    page.wait("studio.view.step === 0")
    assert np.array_equal(page.shown(), page.step(drawing, 0, 0, "x0_hat"))
    page.press(" ")
    page.wait(f"studio.view.step > {at}")


HELD = """
    let asked = 0;
    const fetched = window.fetch;
    window.fetch = async (...given) => {
        const answer = await fetched(...given);
        const held = String(given[0]).endsWith("/api/state") && ++asked === 2;
        if (held) await new Promise((go) => { window.release = go; });
        return answer;
    };"""


def test_a_late_answer_does_not_undo_what_the_server_has_told_since(page):
    drawing = page.begin(prompt=DOG, **LONG, seed=21)
    script = page.browser.ask("Page.addScriptToEvaluateOnNewDocument", source=HELD)["identifier"]
    page.open()  # asks once at once, and once more as soon as the server has begun to tell
    page.wait(f"window.release && studio.previews['{drawing}'] >= 2")
    page.press(" ")
    page.state("paused")
    page.js("window.before = studio.state; release()")
    page.wait("studio.state !== before")
    assert page.js("studio.drawing().state") == "paused"
    page.browser.ask("Page.removeScriptToEvaluateOnNewDocument", identifier=script)
    page.press("Escape")
    page.state("cancelled")


# -- for everybody ---------------------------------------------------------------------------------------------------


def test_the_keyboard_alone(page):
    page.write("prompt", DOG)
    page.fill(steps=900)
    page.press("Enter", ctrl=True)
    page.state("running")
    page.press("Escape")
    page.state("cancelled")
    for box in ("init", "control", "reference"):
        page.js(f"document.querySelector('#{box}-box').open = true")
    page.js("document.activeElement.blur(), document.querySelector('#more').open = true")
    reached = """(() => {
        const e = document.activeElement;
        return e === document.body ? null : [...document.querySelectorAll("*")].indexOf(e);
    })()"""
    wanted = page.js("""[...document.querySelectorAll("button, input, select, textarea, summary, a[href], canvas")]
        .filter((e) => e.checkVisibility() && !e.disabled && e.tabIndex >= 0)
        .map((e) => [[...document.querySelectorAll("*")].indexOf(e), e.outerHTML.slice(0, 80)])""")
    order = []
    for _ in range(2 * len(wanted) + 2):
        page.press("Tab")
        if (at := page.js(reached)) is not None:
            order.append(at)
    assert [what for at, what in wanted if at not in order] == []
    first = order.index(min(order))
    once = order[first : first + len(wanted)]
    assert once == sorted(once)  # in the order in which it is read


def test_on_a_phone_the_prompt_and_the_state_are_in_sight(page):
    page.size(390, 844, touch=True)
    page.js("scrollTo(0, 0)")
    page.wait("document.querySelector('#prompt-line').checkVisibility()")
    page.fill(prompt=f"{DOG}\n{DOG}")
    assert page.js("document.querySelector('#prompt-line').value") == DOG
    page.write("prompt-line", CAT)
    assert page.js(SETTINGS)["prompt"] == [CAT, DOG]
    page.fill(prompt_line=CAT, prompt=CAT, steps=2)
    page.press("Enter", ctrl=True)
    page.wait(f"studio.drawing().nodes[0].settings.prompt[0] === {json.dumps(CAT)}")
    page.state("done")
    page.wait("document.querySelector('#status').textContent === 'Done'")
    assert page.js("parseFloat(getComputedStyle(document.querySelector('#status')).fontSize)") > 10


CONTROLS = {"button", "textbox", "slider", "spinbutton", "combobox", "checkbox", "switch", "tab", "link", "image"}


def nameless(browser):
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    found = [each for each in nodes if not each.get("ignored") and each.get("role", {}).get("value") in CONTROLS]
    assert len(found) > 20
    return [each["role"]["value"] for each in found if not each.get("name", {}).get("value")]


# For each text that is seen: its contrast with the ground on which it stands, of those below the least that is allowed.
CONTRAST = """(() => {
    const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const rgba = (colour) => {
        context.clearRect(0, 0, 1, 1);
        context.fillStyle = colour;
        context.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = ([r, g, b, a], below) => [r, g, b].map((x, i) => a * x + (1 - a) * below[i]);
    const light = (colour) => {
        const [r, g, b] = colour.map((x) => (x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const back = (e) => rgba(getComputedStyle(e).backgroundColor);
    const ground = (e) => e ? over(back(e), ground(e.parentElement)) : [255, 255, 255];
    const words = (e) => [...e.childNodes].map((each) => each.nodeType === 3 ? each.data : "").join("");
    const low = [];
    let texts = 0, placeholders = 0;
    for (const e of document.querySelectorAll("body *")) {
        const text = (e.matches("input, textarea, select") ? e.value || e.placeholder || "" : words(e)).trim();
        const seen = e.checkVisibility({ visibilityProperty: true }) && !e.closest(":disabled, svg, .under, option");
        if (!text || !seen) continue;
        const style = getComputedStyle(e, e.placeholder && !e.value ? "::placeholder" : null);
        const below = ground(e), [r, g, b, a] = rgba(style.color);
        let opacity = e.placeholder && !e.value ? a * style.opacity : a;
        for (let at = e; at; at = at.parentElement) opacity *= Number(getComputedStyle(at).opacity);
        const [x, y] = [light(over([r, g, b, opacity], below)), light(below)].sort((p, q) => q - p);
        texts += 1;
        if (e.placeholder && !e.value) placeholders += 1;
        if ((x + 0.05) / (y + 0.05) < 4.5) low.push([text, ((x + 0.05) / (y + 0.05)).toFixed(2)]);
    }
    return { texts, low, placeholders };
})()"""

# What is smaller than a finger, but for words within a text, and fields that a label makes larger.
SMALL = """[...document.querySelectorAll("button, input, select, textarea, summary, a[href]")]
    .filter((e) => e.checkVisibility())
    .map((e) => [e.closest("label") ?? e, e]).map(([box, e]) => [box.getBoundingClientRect(), e])
    .filter(([box]) => box.width < 24 || box.height < 24)
    .map(([box, e]) => [e.outerHTML.slice(0, 90), box.width, box.height])"""


def full(page):
    """Fill the page: a drawing with two ways, all boxes open, an unknown word, the inside."""
    page.begin(prompt=DOG, steps=4, count=2)
    page.state("done")
    page.press("ArrowLeft")
    page.fill(prompt=CAT)
    page.click("#branch")
    page.wait("studio.drawing().nodes.length === 2")
    page.state("done")
    page.fill(prompt=f"{CAT} nearby an elefant", negative="snwo")
    page.js("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.click("#inside")
    page.wait("document.querySelector('#inside-panel').checkVisibility()")


def test_everybody_can_read_and_reach_it(page, browser):
    full(page)
    assert nameless(browser) == []
    for tab in ("studio", "gallery", "training"):
        page.click(f"#tab-{tab}")
        if tab != "studio":
            page.wait(f"document.querySelectorAll('{'#gallery .tile' if tab == 'gallery' else '#runs li'}').length")
        if tab == "training":
            page.wait(f"{OVER} && ({OVER}.click(), document.querySelector('#run h2')?.textContent === 'over')")
            page.fill(run_prompt="")
        for dark in (False, True):
            page.theme(dark)
            page.wait(f"{SETTLED} && document.getAnimations().every((e) => !(e instanceof CSSTransition))")
            found = page.js(CONTRAST)
            assert found["texts"] > 5
            assert found["placeholders"] or tab == "gallery"
            assert found["low"] == [], (tab, dark)
        page.theme(False)
        for width in (390, 1280, 2560):
            page.size(width, touch=width == 390)
            page.wait(SETTLED)
            assert page.js("document.documentElement.scrollWidth") <= width, (tab, width)
            if width == 390:
                assert page.js(SMALL) == [], tab
