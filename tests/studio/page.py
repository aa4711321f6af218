"""The studio's page in a browser, as a person uses it: fields, drawings, strokes, and what is seen."""

import base64
import contextlib
import io
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from tests.browser import Browser

AT_REST = {
    "prompt": ["a dog"],
    "count": 1,
    "steps": 2,
}  # of a drawing that a page finds when it is opened, and takes over


class Page:
    """browser: at this page.  url: the studio's."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.browser, self.url, self.host = browser, url, urlsplit(url).netloc

    def __getattr__(self, name: str) -> Any:
        return getattr(self.browser, name)  # what a person does: click, type, stroke, …

    def open(self) -> None:
        self.browser.go(self.url + "/")
        self.wait("window.studio?.state && !document.querySelector('#draw').disabled")

    # -- the server, past the page ------------------------------------------------------------------------------------

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return answer.read()

    def post(self, path: str, body: object) -> dict:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def rest(self) -> None:
        """Cancel all drawings, and leave one with plain settings as the newest."""
        for drawing in json.loads(self.get("/api/state"))["drawings"]:
            if drawing["state"] in ("queued", "running", "paused"):
                # it may be done by now
                with contextlib.suppress(urllib.error.HTTPError):
                    self.post(f"/api/drawings/{drawing['id']}/cancel", {})
        made = self.post("/api/drawings", {"settings": AT_REST, "paused": True})
        self.post(f"/api/drawings/{made['id']}/cancel", {})

    # -- what a person does -------------------------------------------------------------------------------------------

    def fill(self, **fields: object) -> None:
        """Set fields by their ids, with "_" for "-", as if they had been typed."""
        given = {name.replace("_", "-"): value for name, value in fields.items()}
        program = """for (const [id, value] of Object.entries(%s)) {
            const field = document.getElementById(id);
            field.value = value;
            for (const name of ["input", "change"]) field.dispatchEvent(new Event(name, { bubbles: true }));
        }"""
        self.js(program % json.dumps(given))

    def write(self, field: str, text: str) -> None:
        """Type a text into an empty field."""
        self.fill(**{field: ""})
        self.click(f"#{field}")
        self.type(text)

    def begin(self, **fields: object) -> str:
        """Set fields and click "Draw"; return the id of the drawing."""
        self.fill(**fields)
        before = self.js("studio.view.drawing")
        self.click("#draw")
        return self.wait(f"studio.view.drawing !== {json.dumps(before)} && studio.view.drawing")

    def state(self, *states: str) -> dict:
        """Wait until the drawing that is shown is in one of these states; return it."""
        return self.wait(f"{json.dumps(states)}.includes(studio.drawing()?.state) && studio.drawing()")

    def draw(self, **fields: object) -> dict:
        """Draw, and return the drawing when it is done."""
        self.begin(**fields)
        drawing = self.state("done", "failed")
        assert drawing["state"] == "done", drawing["error"]
        return drawing

    # -- what is seen -------------------------------------------------------------------------------------------------

    def pixels(self, selector: str) -> np.ndarray:
        """Return what a canvas shows (H, W, 3) uint8."""
        uri = self.js(f"document.querySelector({json.dumps(selector)}).toDataURL()")
        return image_of(base64.b64decode(uri.split(",")[1]))

    def shown(self, name: str = "x0_hat") -> np.ndarray:
        """Return the picture of the step shown, once it is there."""
        shows = f"document.getElementById('{name}').dataset.shows?.replace(/^[0-9]+./, '')"
        self.wait(f"{SETTLED} && {shows} === {KEY % {'name': name}}")
        return self.pixels(f"#{name}")

    def visible(self, selector: str) -> bool:
        return self.js(f"Boolean(document.querySelector({json.dumps(selector)})?.checkVisibility())")

    def text(self, selector: str) -> str:
        return self.js(f"document.querySelector({json.dumps(selector)}).innerText")

    def result(self, drawing: dict, node: int = -1) -> np.ndarray:
        """Return the picture of a node in the gallery."""
        return image_of(self.get(f"/api/gallery/{drawing['nodes'][node]['pictures'][0]}.png"))

    def step(self, drawing: str, node: int, step: int, what: str) -> np.ndarray:
        return image_of(self.get(f"/api/drawings/{drawing}/nodes/{node}/steps/{step}/{what}.png"))


# All that was planned for the next frame has been drawn.
SETTLED = "await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
KEY = """(() => {
    const { drawing, node, step, image } = studio.view, of = studio.drawing();
    let owner = of.nodes[node];
    const last = owner.done === owner.of && step === owner.of - 1 && of.state !== "cancelled";
    while (owner.parent !== null && step < owner.start) owner = of.nodes[owner.parent];
    return [drawing, owner.id, step, "%(name)s" === "x0_hat" && last ? "x_prev" : "%(name)s", image].join("/");
})()"""


def image_of(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))
