"""A real browser: our own page may do all that it needs, and a page of another site may do nothing."""

import contextlib
import http.server
import json
import socket
import threading
import time

import pytest

pytest.importorskip("starlette", reason="the studio needs the extra studio")
pytest.importorskip("uvicorn", reason="the studio needs the extra studio")

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from minidiff.studio.access import address_hosts
from minidiff.studio.guard import Guard
from minidiff.studio.serve import server_config
from tests.browser import Browser, find
from tests.needs import lacking

TOKEN = "0123456789abcdef"
PICTURE = "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"
DONE: list[str | None] = []  # what requests that write have done

TRY = """(async (base) => {
    const said = {};
    const attempt = async (name, what) => { try { said[name] = await what(); } catch { said[name] = "refused"; } };
    await attempt("get", async () => (await fetch(base + "/api/state")).status);
    await attempt("post", async () => (await fetch(base + "/api/state", { method: "POST", body: "{}" })).status);
    await attempt("blind", async () => {
        await fetch(base + "/api/state", { method: "POST", mode: "no-cors", body: "{}" });
        return "sent";
    });
    await attempt("picture", () => new Promise((resolve, reject) => {
        const image = new Image();
        image.onload = () => resolve(image.width);
        image.onerror = reject;
        image.src = base + "/picture.svg";
    }));
    await attempt("socket", () => new Promise((resolve, reject) => {
        const socket = new WebSocket(base.replace("http", "ws") + "/api/watch");
        socket.onmessage = (event) => resolve(event.data);
        socket.onerror = reject;
    }));
    return said;
})(%s)"""

pytestmark = pytest.mark.release  # few machines have the browser


async def page(request):
    return HTMLResponse("<title>studio</title>")


async def state(request):
    if request.method == "POST":
        DONE.append(request.headers.get("origin"))
    return JSONResponse({})


async def picture(request):
    return Response(PICTURE, media_type="image/svg+xml")


async def watch(socket):
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


@contextlib.contextmanager
def studio(token=None):
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    routes = [Route("/", page), Route("/api/state", state, methods=["GET", "POST"]), Route("/picture.svg", picture)]
    guard = Middleware(Guard, hosts=address_hosts("127.0.0.1", port), token=token)
    app = Starlette(routes=[*routes, WebSocketRoute("/api/watch", watch)], middleware=[guard])
    server = uvicorn.Server(server_config(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


@contextlib.contextmanager
def elsewhere():
    """Serve empty pages of another site."""

    class Empty(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *about):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def go(browser, address):
    browser.ask("Page.navigate", url=address)
    end = time.monotonic() + 20
    while browser.js("location.href === 'about:blank' || document.readyState !== 'complete'"):
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if find() is None:
        lacking("browser", "no Chromium is found")
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


ALL = {"get": 200, "post": 200, "blind": "sent", "picture": 9, "socket": "hello"}


@pytest.mark.parametrize("token", [None, TOKEN])
def test_our_page_may_and_others_may_not(browser, token):
    DONE.clear()
    with studio(token) as address, elsewhere() as port:
        go(browser, address + (f"/?token={token}" if token else "/"))
        assert browser.js("location.href") == address + "/"
        ours = browser.js(TRY % json.dumps(address))
        assert {**ours, "blind": ALL["blind"]} == ALL
        assert browser.js("document.cookie") == ""  # no script reads the token
        done = len(DONE)
        assert done
        for foreign in (f"http://127.0.0.1:{port}/", f"http://localhost:{port}/"):  # same-site, cross-site
            go(browser, foreign)
            theirs = browser.js(TRY % json.dumps(address))
            assert {**theirs, "blind": "refused"} == dict.fromkeys(ALL, "refused")
        assert len(DONE) == done
