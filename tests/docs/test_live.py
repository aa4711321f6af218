"""The pages that compute in the browser: their arithmetic is Python's, and a person can use them.

Each is served as a built book is, by a plain web server, and opened in a real browser.
"""

import functools
import http.server
import json
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import minidiff
from minidiff import backend, random
from minidiff import checkpoint as checkpoints
from minidiff.autograd import no_grad
from minidiff.checkpoint.config import Config, DiffusionConfig
from minidiff.data.maps import maps
from minidiff.diffusion import levels
from minidiff.diffusion.schedule import KINDS, make_schedule
from minidiff.errors import MinidiffError
from minidiff.nn import UNet, UNetConfig
from minidiff.nn.flat_parameters import FlatParameters
from minidiff.pipeline.loading import WEIGHTS
from minidiff.pipeline.settings import Inputs
from minidiff.random import Key, Stream
from minidiff.scenes import Scenes
from tests import tiny_model
from tests.browser import NAMES, Browser, find
from tests.needs import lacking

LIVE = Path(__file__).parents[2] / "docs" / "live"
WIDTHS = (390, 768, 1240, 2560)
PROMPT = "a dog in a winter forest"
T = 300.0  # of single evaluations: a noisy image, in which the prompt and the drawing still decide something
# The page adds in float64 and stores float32, NumPy adds in float32: each of about forty layers differs by some 1e-7 of
# its largest number, which makes 1e-6 together.  A frequency of the sines of t that is rounded the other way moves
# their angles by up to 2e-5, of which the network passes on a part.
ROUNDING = 1e-5
# Such differences are enlarged by guidance, at scale 3 up to five times a step, and by the steps, which depend on each
# other.  Half a grey level, 1 / 255 on the scale of -1 to 1, is what nobody can see: a pixel is at most one level off.
HALF_A_LEVEL = 1 / 255


# ---- what needs no browser ------------------------------------------------------------------------------------------


def test_the_weights_beside_the_pages_are_those_that_come_along(make_live, tmp_path):
    make_live.make(tmp_path)
    weights = tmp_path / "live" / "weights"
    models = json.loads((weights / "models.json").read_text(encoding="utf-8"))
    assert models == [
        {"name": name, "file": f"{name}.safetensors", "edges": f"{name}-edges.safetensors"}
        for name in ("scenes128", "scenes")
    ]
    named = {model[key] for model in models for key in ("file", "edges")} - {None}
    assert {path.name for path in weights.iterdir()} == named | {"models.json"}
    for name in named:
        original = checkpoints.load(WEIGHTS.parent / name)
        for key, copy in load_file(weights / name).items():
            group, _, parameter = key.partition("/")
            assert copy.dtype == np.float16
            assert np.array_equal(copy.astype(np.float32), original.tensors[group][parameter])


def test_the_pages_ask_no_other_server():
    """Nothing in them has an address of its own, but for sources that comments name."""
    for path in LIVE.iterdir():
        code = re.sub(r"^\s*//.*$|/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        assert not re.search(r"https?:|\bwss?:|[\"'(]//", code), path.name


def test_the_pages_load_modules_that_exist():
    names = {path.name for path in LIVE.iterdir()} | {"icon.svg"}
    for path in LIVE.iterdir():
        text = path.read_text(encoding="utf-8")
        found = re.findall(r'(?:from|URL\(|src=|href=)\s*"(?:\./)?([\w-]+\.(?:js|css|svg))"', text)
        assert set(found) <= names, path.name
        for parent in re.findall(r'href="\.\./(\w+)\.html"', text):
            assert (LIVE.parent / f"{parent}.md").is_file(), f"{path.name} leads to {parent}.html"


# ---- a server and a browser -----------------------------------------------------------------------------------------


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *about):
        pass


@pytest.fixture(scope="module", autouse=True)
def on_numpy():
    with backend.using("numpy"):  # the definitions
        yield


@pytest.fixture(scope="module")
def site(make_live, tmp_path_factory):
    """The address of the pages, and where they lie; beside the shipped weights are those of a tiny latent model."""
    folder = tmp_path_factory.mktemp("site")
    make_live.make(folder)
    weights = folder / "live" / "weights"
    shutil.copyfile(WEIGHTS.parent / "autoencoder.safetensors", weights / "autoencoder.safetensors")
    trained = checkpoints.load(tiny_model.write_latent(folder / "tiny", size=(16, 24)))
    checkpoints.save_for_sampling(folder / "tiny.safetensors", trained, "a test")
    (weights / "tiny.safetensors").write_bytes(make_live.for_the_page(checkpoints.load(folder / "tiny.safetensors")))
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if find() is None:
        lacking("browser", f"there is no Chromium here: MINIDIFF_BROWSER, or one of {', '.join(NAMES)}, would be used")
    with Browser(tmp_path_factory.mktemp("browser"), height=1000) as started:
        yield started


@pytest.fixture
def page(browser, site):
    """The browser, whose page must then have asked this server alone, and have said nothing on its console."""
    browser.said.clear()
    browser.requests.clear()
    yield browser
    assert browser.said == []
    assert [url for url in browser.requests if not url.startswith((site[0] + "/", "blob:"))] == []


@pytest.fixture
def draw_page(page, site):
    page.go(f"{site[0]}/live/draw.html")
    page.wait("window.minidiff?.ready.then(() => true)")
    page.click("#stop")  # the drawing that a page begins with
    yield page
    page.js("document.getElementById('stop').click()")


@pytest.fixture
def moons_page(page, site):
    page.go(f"{site[0]}/live/moons.html")
    page.wait("window.minidiff?.state().step > 0")
    return page


@pytest.fixture(scope="module")
def model():
    return minidiff.load()


release = pytest.mark.release  # a minute, and few machines have the browser


def draw(page, **settings):
    """Draw on the page; return the image, flat, and the seconds."""
    lines = settings.pop("drawing", None)
    given = json.dumps({"sampler": "dpm-solver", "guidance": 3, "seed": 0, **settings})
    drawing = "null" if lines is None else f"Uint8Array.from({json.dumps(lines.ravel().tolist())})"
    told = page.js(f"""minidiff.draw({{ ...{given}, drawing: {drawing} }})
        .then(({{ image, seconds }}) => ({{ image: [...image], seconds }}))""")
    return np.array(told["image"], np.float32), told["seconds"]


def in_python(model, **settings):
    *_, last = model.generate(1, **{"sampler": "dpm-solver", "guidance_scale": 3.0, "seed": 0, **settings})
    return model.space.decode(last.x_prev)[0]


def off(found, expected):
    """The largest difference, relative to the largest number."""
    expected = np.asarray(expected).ravel()
    return np.abs(np.asarray(found).ravel() - expected).max() / np.abs(expected).max()


# ---- the parts of the drawing page, against Python's ----------------------------------------------------------------


@release
def test_random_numbers_are_pythons(draw_page):
    for key in (Key(0, 6, 0, 0), Key(2**64 - 1, 7, 15, 3), Key(2**32, 13, 2**32 - 1, 2**31)):
        text = f"{{ seed: {key.seed}n, stream: {key.stream}, step: {key.step}, sample: {key.sample} }}"
        ask = "import('/live/random.js').then((random) => [...random.%s(%s, 1001%s)])"
        assert draw_page.js(ask % ("bits", text, "")) == random.bits(key, 1001).tolist()
        assert draw_page.js(ask % ("uniform", text, "")) == random.uniform(key, 1001).tolist()
        assert draw_page.js(ask % ("integers", text, ", 1000")) == random.integers(key, 1001, 1000).tolist()
        expected = random.normal(key, 1001)
        found = np.array(draw_page.js(ask % ("normal", text, "")), np.float32)
        # logarithms and cosines may differ in the last bit of float64, which moves a rounded float32 by one unit
        np.testing.assert_array_max_ulp(found, expected, maxulp=1)


@release
def test_every_float16_is_read_right(draw_page):
    ask = """import('/live/safetensors.js').then(({ half }) =>
        [...new Uint32Array(Float32Array.from({ length: 65536 }, (_, bits) => half(bits)).buffer)])"""
    found = np.array(draw_page.js(ask), np.uint32).view(np.float32)
    np.testing.assert_array_equal(found, np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32))


@release
@pytest.mark.parametrize("kind", KINDS)
def test_schedules_and_their_levels_are_pythons(kind, draw_page):
    for more in [{}, {"zero_snr": True}, *([{"shift": 3.0}] if kind == "flow" else [])]:
        schedule = make_schedule(kind, 1000, **more)
        given = json.dumps({"schedule": kind, "num_timesteps": 1000, **more})
        module, ask = "import('/live/sampling.js').then((m) => %s)", f"m.makeSchedule({given})"
        found = draw_page.js(module % f"{ask}.map(({{ a, s }}) => [a, s])")
        # s comes from a, as sqrt(1 - a^2): where s is 0.002, the rounding of a is enlarged to some 1e-11
        np.testing.assert_allclose(np.array(found).T, [schedule.a, schedule.s], rtol=1e-9, atol=1e-15)
        for steps in (1, 7, 16, 30, 999, 1000):
            found = draw_page.js(module % f"m.levels({ask}, {steps}).map(({{ t }}) => t)")
            assert found == [level.t for level in levels(schedule, steps)]


@release
def test_prompts_are_read_and_refused_as_in_python(model, draw_page):
    good = ("a dog", "A  small, DOG!", "a house at night; snow-y? no: snowy", "two cats under a tree, pastel")
    bad = (
        "", "?!", "a owl", "an owl in the forrest at nite", "it's a 'dog'", 'a "zebra"', "dog " * 21, "hunde\u0301",
        "ünder 狗 a", "x" * 80, "purpel violett yelow greem blak whitte", "a\tdog\nwith\\that",
    )  # fmt: skip
    for prompt in good:
        try:
            expected = model.tokenizer.encode_prompt(prompt).tolist()
        except MinidiffError as error:
            expected = str(error)
        ask = f"minidiff.ask('tokens', {{ prompt: {json.dumps(prompt)} }}).catch((error) => error.message)"
        assert draw_page.js(ask) == expected
    for prompt in bad:
        with pytest.raises(MinidiffError) as refused:
            model.tokenizer.encode_prompt(prompt)
        ask = f"minidiff.ask('tokens', {{ prompt: {json.dumps(prompt)} }}).catch((error) => error.message)"
        assert draw_page.js(ask) == str(refused.value)


@release
def test_the_text_encoder_and_the_network_compute_what_python_computes(model, draw_page):
    x = random.normal(Key(1, Stream.START, 0, np.arange(1)), model.noise_shape)
    with no_grad():
        cond = model.model.condition(1, model.prompts(PROMPT))
        expected = model.model(x, np.array([T], np.float32), cond).data
    text = draw_page.js(f"minidiff.ask('text', {{ prompt: '{PROMPT}' }})")
    assert off(text["tokens"], cond.tokens.data) < ROUNDING
    assert off(text["embedding"], cond.embedding.data) < ROUNDING
    given = json.dumps({"prompt": PROMPT, "x": x.ravel().tolist(), "t": T})
    assert off(draw_page.js(f"minidiff.ask('predict', {given})"), expected) < ROUNDING


@pytest.fixture(scope="module")
def edges(model):
    return maps(Scenes(model.shape[0], "test", captions=True), np.arange(1), "edges")[0]  # (H, W, 1) uint8


@release
def test_the_controlnet_computes_what_python_computes(model, edges, draw_page):
    draw_page.wait("minidiff.adapt()")
    x = random.normal(Key(2, Stream.START, 0, np.arange(1)), model.noise_shape)
    for scale in (1.0, 0.4):
        with no_grad():
            network = model.adapted(Inputs(control=edges, control_scale=scale), 0, 1)
            expected = network(x, np.array([T], np.float32), network.condition(1, model.prompts(PROMPT))).data
        about = {
            "prompt": PROMPT,
            "x": x.ravel().tolist(),
            "t": T,
            "lines": edges.ravel().tolist(),
            "controlScale": scale,
        }
        found = draw_page.js(f"minidiff.ask('predict', {json.dumps(about)})")
        assert off(found, expected) < ROUNDING


@release
def test_the_decoder_of_the_shipped_autoencoder_computes_what_python_computes(site, draw_page):
    trained = checkpoints.load(WEIGHTS.parent / "autoencoder.safetensors")
    z = random.normal(Key(3, Stream.START, 0, np.arange(1)), trained.trained.latent_shape)
    with no_grad():
        expected = checkpoints.make_network(trained).decoder(z).data
    config = json.dumps({"groups": trained.trained.groups, "autoencoder_patch": trained.trained.autoencoder_patch})
    h, w, c = trained.trained.latent_shape
    found = draw_page.js(f"""(async () => {{
        const {{ download, read }} = await import("/live/safetensors.js");
        const {{ Decoder, Weights }} = await import("/live/unet.js"), {{ Features }} = await import("/live/layers.js");
        const weights = new Weights(read(await download("/live/weights/autoencoder.safetensors")).tensors);
        const z = new Features({h}, {w}, {c}, Float32Array.from({json.dumps(z.ravel().tolist())}));
        return [...new Decoder(weights, {config}).decode(z).data];
    }})()""")
    assert off(found, expected) < ROUNDING


# ---- whole images ---------------------------------------------------------------------------------------------------


@release
def test_the_page_draws_pythons_image(model, draw_page):
    expected = in_python(model, prompt=PROMPT, seed=7, steps=16)
    image, seconds = draw(draw_page, prompt=PROMPT, seed=7, steps=16)
    print(f"sixteen guided steps in the browser: {seconds:.1f} s")
    assert np.abs(image - expected.ravel()).max() < HALF_A_LEVEL
    shown = np.array(draw_page.js("[...minidiff.view().steps.at(-1).x0Hat]")).reshape(*model.shape[:2], 4)[..., :3]
    # half a level of arithmetic, and half a level of rounding
    assert np.abs(shown - (np.clip(expected, -1, 1) + 1) * 127.5).max() <= 1


@release
@pytest.mark.parametrize(
    ("sampler", "eta"), [("ddim", 0), ("ddim", 0.5), ("dpm-solver", 0), ("dpm-solver-sde", 0), ("euler-ancestral", 0)]
)
def test_each_sampler_draws_pythons_image(sampler, eta, model, draw_page):
    expected = in_python(
        model, prompt="a red car", seed=2**64 - 1, steps=6, sampler=sampler, guidance_scale=1.0, eta=float(eta)
    )
    given = {"prompt": "a red car", "steps": 6, "sampler": sampler, "guidance": 1, "eta": eta}
    run = draw_page.js(f"""minidiff.draw({{ ...{json.dumps(given)}, seed: 2n ** 64n - 1n, drawing: null }})
        .then((done) => [...done.image])""")
    assert np.abs(np.array(run) - expected.ravel()).max() < HALF_A_LEVEL


@release
def test_the_page_follows_a_drawing_as_python_does(model, edges, draw_page):
    expected = in_python(model, prompt="a dog", steps=6, control=edges)
    plain = in_python(model, prompt="a dog", steps=6)
    image, _ = draw(draw_page, prompt="a dog", steps=6, drawing=edges)
    assert np.abs(image - expected.ravel()).max() < HALF_A_LEVEL
    assert np.abs(image - plain.ravel()).max() > 0.1  # the drawing makes a difference


@release
def test_a_latent_model_draws_pythons_image(site, draw_page):
    draw_page.js("minidiff.load({ name: 'tiny', file: 'tiny.safetensors', edges: null })")
    tiny = minidiff.load(site[1] / "tiny.safetensors")
    *_, last = tiny.generate(1, prompt="a big cat", steps=5, sampler="dpm-solver", guidance_scale=3.0)
    expected, preview = tiny.space.decode(last.x_prev)[0], tiny.space.preview(last.x_t)[0]
    image, _ = draw(draw_page, prompt="a big cat", steps=5)
    assert off(image, expected) < ROUNDING
    shown = np.array(draw_page.js("[...minidiff.view().steps.at(-1).xT]")).reshape(16, 24, 4)[..., :3]
    assert np.abs(shown - (np.clip(preview, -1, 1) + 1) * 127.5).max() <= 1
    assert draw_page.js("[document.querySelector('#x_t').width, document.querySelector('#x_t').height]") == [24, 16]


def write_odd(path, diffusion):
    """Write an untrained network that differs from the shipped one in all that a configuration can say."""
    config = UNetConfig(
        height=12, width=20, channels=1, patch=2, model_channels=8, channel_mult=(1, 3), num_res_blocks=2,
        attention_at=(6,), heads=2, groups=6, time="add", vocab_size=len(tiny_model.WORDS) + 1, max_tokens=5,
        text_width=6, text_layers=0, cross_attention_at=(3,),
    )  # fmt: skip
    parameters = FlatParameters(UNet(config).initialize(1))
    parameters.ema[:] += 0.05 * np.random.default_rng(1).standard_normal(parameters.w.shape).astype(np.float32)
    full = path.with_name(f"full-{path.name}")
    checkpoints.save(full, 1, Config(diffusion=diffusion), config, (), parameters, tiny_model.WORDS)
    checkpoints.save_for_sampling(path, checkpoints.load(full), "a test")


@release
@pytest.mark.parametrize(
    ("target", "schedule", "zero_snr"),
    [("eps", "linear", False), ("x0", "sigmoid", False), ("v", "scaled_linear", True), ("flow", "flow", False),
     ("edm", "karras", False)],
)  # fmt: skip
def test_any_unet_draws_pythons_image(target, schedule, zero_snr, make_live, site, draw_page, tmp_path):
    path = tmp_path / f"{target}.safetensors"
    write_odd(path, DiffusionConfig(schedule, 200, target, zero_snr=zero_snr))
    (site[1] / "live" / "weights" / path.name).write_bytes(make_live.for_the_page(checkpoints.load(path)))
    draw_page.js(f"minidiff.load({{ name: 'odd', file: '{path.name}', edges: null }})")
    image, _ = draw(draw_page, prompt="a small dog", steps=7)
    expected = in_python(minidiff.load(path), prompt="a small dog", steps=7)
    assert np.abs(image - expected.ravel()).max() < HALF_A_LEVEL
    assert expected.std() > 0.1  # it is no flat image, in which nothing could differ


# ---- what a person does with the drawing page -----------------------------------------------------------------------


@release
def test_a_person_draws_pauses_and_saves(draw_page, tmp_path):
    page = draw_page
    page.js("for (const [id, value] of [['steps', 40], ['guidance', 1]]) document.getElementById(id).value = value")
    page.click("#prompt")
    page.js("document.getElementById('prompt').value = 'a owl'")
    page.press("Enter")
    page.wait("document.getElementById('error').innerText.startsWith(\"unknown word in the prompt: 'owl'\")")
    page.js("document.getElementById('prompt').value = 'a cat'")
    page.click("#draw")
    page.wait("minidiff.view()?.steps.length >= 1")
    page.click("#pause")
    count = page.js("new Promise((done) => setTimeout(() => done(minidiff.view().steps.length), 1500))")
    assert page.js("new Promise((done) => setTimeout(() => done(minidiff.view().steps.length), 1500))") == count
    if count < 40:
        page.click("#once")
        page.wait(f"minidiff.view().steps.length === {count + 1}")
    if count < 39:
        page.click("#pause")
    page.wait("minidiff.view().done && !document.getElementById('save').disabled")
    assert page.js("document.getElementById('error').hidden")
    command = page.js("document.getElementById('command').innerText")
    assert command == ('python -m minidiff.sample "a cat" --seed 0 --sampler dpm-solver --steps 40 --guidance-scale 1')
    page.js("document.getElementById('scrub').focus()")
    page.press("Home")
    page.wait("document.getElementById('now').innerText.startsWith('step 1 of 40')")
    page.ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.click("#save")
    for _ in range(100):
        if (tmp_path / "minidiff-0.png").is_file():
            break
        page.js("new Promise((done) => setTimeout(done, 50))")
    with Image.open(tmp_path / "minidiff-0.png") as saved:
        assert saved.size == (512, 512)


@release
def test_lines_are_drawn_with_the_mouse_and_with_the_keyboard(draw_page):
    page = draw_page
    page.stroke("#pad", [(0.25, 0.5), (0.75, 0.5)])
    grid = np.array(page.js("[...minidiff.lines.map(32, 32)]")).reshape(32, 32)
    # the line runs along y = 16, between rows 15 and 16, each half a pixel away
    assert np.array_equal(np.unique(np.nonzero(grid)[0]), [15, 16])
    assert (
        abs(int(grid[15, 16]) - 128) <= 64 and grid[15, 7:25].min() > 0
    )  # the mouse moves in whole pixels of the screen
    page.click("#clear")
    assert page.js("minidiff.lines.empty")
    page.js("document.getElementById('pad').focus()")
    for key in (" ", "ArrowRight", "ArrowRight", " "):
        page.press(key)
    assert page.js("minidiff.lines.strokes") == [[[0.5, 0.5], [0.5 + 1 / 32, 0.5], [0.5 + 2 / 32, 0.5]]]
    page.click("#undo")
    assert page.js("minidiff.lines.empty")


# ---- the moons ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_moons():
    import importlib.util

    spec = importlib.util.spec_from_file_location("docs_two_moons", LIVE.parent / "chapter1" / "two_moons.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@release
def test_the_moons_network_and_its_gradients_are_pythons(two_moons, moons_page):
    rng = np.random.default_rng(1)
    network = [(rng.normal(size=(i, o)), rng.normal(size=o)) for i, o in ((13, 7), (7, 5), (5, 2))]
    n = 5
    x, t, label, gy = (
        rng.normal(size=(n, 2)),
        rng.integers(0, 1000, n),
        np.array([0, 1, 2, 0, 1]),
        rng.normal(size=(n, 2)),
    )
    h = two_moons.network_input(x, t, label)
    eps_hat, saved = two_moons.forward(network, h)
    gradients = two_moons.backward(network, saved, gy)
    layers = [{"inputs": len(w), "outputs": len(b), "w": w.ravel().tolist(), "b": b.tolist()} for w, b in network]
    found = moons_page.js(f"""import("/live/moons-model.js").then((m) => {{
        const network = {json.dumps(layers)}, h = m.networkInput({x.ravel().tolist()}, {t.tolist()}, {label.tolist()});
        const {{ epsHat, saved }} = m.forward(network, h, {n});
        const gradients = m.backward(network, saved, Float64Array.from({gy.ravel().tolist()}), {n});
        return {{ h: [...h], epsHat: [...epsHat], gradients: gradients.map(({{ w, b }}) => [[...w], [...b]]) }};
    }})""")
    close = functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12)  # float64 on both sides
    close(found["h"], h.ravel())
    close(found["epsHat"], eps_hat.ravel())
    for (w, b), (found_w, found_b) in zip(gradients, found["gradients"]):
        close(found_w, w.ravel())
        close(found_b, b)


@release
def test_the_moons_are_sampled_as_in_python(two_moons, moons_page):
    """DDIM of chapter 1, from the same noise, with the same untrained network."""
    rng = np.random.default_rng(2)
    network = [(rng.normal(size=(i, o)) / np.sqrt(i), rng.normal(size=o)) for i, o in ((13, 8), (8, 2))]
    layers = [{"inputs": len(w), "outputs": len(b), "w": w.ravel().tolist(), "b": b.tolist()} for w, b in network]
    label, steps = np.arange(6) % 3, 50
    start = random.normal(Key(5, Stream.START, 0, 0), 12).astype(np.float64).reshape(6, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(two_moons, "rng", type("Fixed", (), {"normal": staticmethod(lambda size: start)}))
        expected = two_moons.sample(network, label, steps)
    given = {"label": label.tolist(), "guidance": 1, "sampler": "ddim", "steps": steps, "eta": 0, "seed": 5}
    found = moons_page.js(f"""import("/live/moons-model.js").then(({{ flow }}) => {{
        const given = {json.dumps(given)}, label = Uint8Array.from(given.label);
        return [...flow({json.dumps(layers)}, {{ ...given, label }})].map(({{ xPrev }}) => [...xPrev]);
    }})""")
    # the noise may differ by a float32 rounding, 1e-7, which fifty steps with an untrained network may enlarge
    np.testing.assert_allclose(np.array(found).reshape(steps, 6, 2), expected[1:], rtol=1e-4, atol=1e-4)


@release
def test_the_moons_are_learnt_and_drawn(moons_page):
    page = moons_page
    for _ in range(5):  # some seconds on a free machine; a command to the browser may take a minute
        if page.js("""new Promise((done) => {
            const end = performance.now() + 50000, look = () => {
                const { step, steps } = minidiff.state();
                if (step === steps || performance.now() > end) done(step === steps);
                else setTimeout(look, 100);
            };
            look();
        })"""):
            break
    state = page.js("minidiff.state()")
    print(f"{state['steps']} steps of training in the browser: {state['seconds']:.1f} s")
    assert state["step"] == state["steps"] == len(state["losses"])
    # a network that estimates no noise at all has a loss of 1; chapter 1's ends at about 0.42
    assert np.mean(state["losses"][-200:]) < 0.5 < 0.8 < np.mean(state["losses"][:5])
    for sampler, steps in (("ddim", 50), ("dpm-solver", 15), ("dpm-solver-sde", 50), ("euler-ancestral", 50)):
        points = page.js(f"minidiff.flow({{ sampler: '{sampler}', steps: {steps} }}).then((points) => [...points])")
        points = np.array(points).reshape(-1, 2)
        label = np.arange(len(points)) % 2
        upper = np.where(label[:, None] == 0, points, -points)  # the moons are each other's mirror images
        away = np.abs(np.hypot(upper[:, 0] + 1, upper[:, 1] - 0.5) - 2)  # from the circle that the moon is half of
        on_it = (away < 0.32) & (upper[:, 1] < 0.5 + 0.32)  # data lies within four times its spread of 0.08
        assert on_it.mean() > 0.9, sampler
    moved = page.js("minidiff.state().position")
    page.click("#again")
    page.wait("minidiff.state().frames > 3")
    assert page.js("minidiff.state().position") != moved


@release
def test_data_drawn_by_hand_is_learnt(moons_page):
    page = moons_page
    page.js("""(() => { const shape = document.getElementById("shape");
        shape.value = "own"; shape.dispatchEvent(new Event("change", { bubbles: true })); })()""")
    page.wait("!minidiff.state().going")  # there is nothing to learn until something is drawn
    page.stroke("#plane", [(0.2, 0.2), (0.3, 0.2), (0.4, 0.2), (0.5, 0.2), (0.6, 0.2)])
    page.wait("minidiff.state().own >= 15 && minidiff.state().going && minidiff.state().step > 0")
    page.click("#train")
    page.wait("!minidiff.state().going")
    step = page.js("minidiff.state().step")
    page.click("#train-once")
    page.wait(f"minidiff.state().step === {step + 1}")
    page.js("document.getElementById('plane').focus()")
    count = page.js("minidiff.state().own")
    for key in (" ", "ArrowRight", " "):
        page.press(key)
    page.wait(f"minidiff.state().own > {count}")
    page.click("#clear")
    page.wait("minidiff.state().own === 0")


# ---- both pages -----------------------------------------------------------------------------------------------------


@release
@pytest.mark.parametrize("name", ["draw", "moons"])
def test_the_pages_fit_every_screen_and_can_be_used_by_keyboard(name, page, site):
    page.go(f"{site[0]}/live/{name}.html")
    page.wait("window.minidiff")
    try:
        for width in WIDTHS:
            page.size(width, touch=width < 500)
            page.wait("true")
            assert page.js("document.documentElement.scrollWidth") <= width, width
            cut = """[...document.querySelectorAll("button, label, legend, h1, h2, p, option, figcaption, output")]
                .filter((each) => each.checkVisibility() && getComputedStyle(each).display !== "inline")
                .filter((each) => each.scrollWidth > each.clientWidth + 1)
                .map((each) => each.outerHTML.slice(0, 80))"""
            assert page.js(cut) == [], width
    finally:
        page.ask("Emulation.clearDeviceMetricsOverride")
        page.ask("Emulation.setTouchEmulationEnabled", enabled=False)
    unnamed = """[...document.querySelectorAll("input, select, button, canvas")]
        .filter((each) => !each.labels?.length && !each.closest("[aria-label]") && !each.textContent.trim())
        .map((each) => each.outerHTML)"""
    assert page.js(unnamed) == []
    described = """[...document.querySelectorAll("[aria-describedby]")]
        .map((each) => each.getAttribute("aria-describedby")).filter((id) => !document.getElementById(id))"""
    assert page.js(described) == []


@release
@pytest.mark.parametrize("name", ["draw", "moons"])
def test_a_page_that_is_opened_as_a_file_says_what_to_do(name, browser):
    browser.open(LIVE / f"{name}.html")
    assert "python -m http.server" in browser.js("document.getElementById('from-file').innerText")
    assert browser.js("document.getElementById('from-file').checkVisibility()")
    browser.said.clear()  # that a module was not loaded


def test_diffusion_settings_have_the_names_that_the_page_reads():
    names = set(vars(DiffusionConfig()))
    text = (LIVE / "sampling.js").read_text(encoding="utf-8") + (LIVE / "model.js").read_text(encoding="utf-8")
    (given,) = re.findall(r"makeSchedule\(\{ (.+?) \}\) \{", text)
    assert {each.split(":")[0].split("=")[0].strip() for each in given.split(",")} <= names
    assert "{ target }" in text and "target" in names
