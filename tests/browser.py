"""A real browser, driven with nothing but Python: the Chromium that is found, spoken to over two pipes.

Idea: Chromium takes commands as JSON, each ended by a zero byte, on its file descriptor 3, and answers on 4 (the
DevTools protocol, with --remote-debugging-pipe).  No driver, no package, no port.
"""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
PATIENCE = 60  # seconds for an answer, on a machine that is busy

# Moves two pipes to where Chromium expects them and becomes Chromium. A process of its own, as with threads nothing may
# be done between fork and exec; out of the way first, as one of them may be 3 or 4 already.
MOVE = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(pipe), fcntl.F_DUPFD, 10) for pipe in sys.argv[1:3])
os.dup2(read, 3), os.dup2(write, 4)
os.closerange(5, 1024)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find():
    """Return the browser's path: what MINIDIFF_BROWSER names, or a Chromium on the path; None if there is none."""
    if named := os.environ.get("MINIDIFF_BROWSER"):
        return named
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """A page in a headless Chromium.  said: its console's warnings and errors.  requests: the addresses asked for.

    Further pages of the same browser: `another` opens one, and `at` says which of them is meant.
    """

    def __init__(self, folder, width=1240, height=900, patience=PATIENCE):
        self.patience = patience
        self.said, self.requests, self.number = [], [], 0
        (read, self.write), (self.read, write) = os.pipe(), os.pipe()
        options = [
            "--headless", "--remote-debugging-pipe", f"--user-data-dir={folder}", f"--window-size={width},{height}",
            "--no-sandbox",  # a container has no right to make one; the one page opened is our own
            "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run", "--disable-extensions",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic",
        ]  # fmt: skip
        command = [sys.executable, "-c", MOVE, str(read), str(write), find(), *options]
        self.process = subprocess.Popen(command, pass_fds=(read, write), stderr=subprocess.DEVNULL)
        os.close(read)
        os.close(write)
        self.rest, self.session = b"", None
        self.session = self.another()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.wait()
        os.close(self.read)
        os.close(self.write)

    def another(self):
        """Open a further page, in a window of its own, and return its session."""
        with self.at(None):
            target = self.ask("Target.createTarget", url="about:blank", newWindow=True)["targetId"]
            session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        with self.at(session):
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.ask(f"{domain}.enable")
        return session

    @contextlib.contextmanager
    def at(self, session):
        """Within, all commands are for the page with that session."""
        before, self.session = self.session, session
        try:
            yield
        finally:
            self.session = before

    def ask(self, method, **parameters):
        """Send a command and return its result; what happens in the meantime is taken note of."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.write, data) :]
        while True:
            answer = self.next()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.note(answer)

    def next(self):
        """Return the next message."""
        end = time.monotonic() + self.patience
        while b"\0" not in self.rest:
            if not select.select([self.read], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError(f"the browser said nothing for {self.patience} seconds")
            if not (data := os.read(self.read, 1 << 20)):
                raise RuntimeError(f"the browser {find()} ended by itself, with {self.process.wait()}")
            self.rest += data
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def note(self, event):
        """Keep what a page does without being asked."""
        what, how = event.get("method"), event.get("params", {})
        if what == "Runtime.exceptionThrown":
            self.said.append(how["exceptionDetails"].get("exception", {}).get("description", "exception"))
        elif what == "Runtime.consoleAPICalled" and how["type"] in ("error", "warning", "assert"):
            self.said.append(str(how["args"]))
        elif what == "Log.entryAdded" and how["entry"]["level"] in ("error", "warning"):
            self.said.append(how["entry"]["text"])
        elif what == "Network.requestWillBeSent":
            self.requests.append(how["request"]["url"])
        elif what == "Network.webSocketCreated":
            self.requests.append(how["url"])

    def open(self, path):
        """Open a file and wait until it is loaded."""
        self.go(Path(path).resolve().as_uri())

    def go(self, url):
        """Open an address and wait until it is loaded.

        The browser may answer before the page of before has gone, which is complete as well; so that one is marked.
        """
        self.js("window.isLeft = true")
        self.ask("Page.navigate", url=url)
        while self.js("window.isLeft ? 'left' : document.readyState") != "complete":
            time.sleep(0.05)

    def js(self, expression):
        """Return the value of an expression, or raise what it raised."""
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"]["description"])
        return result["result"].get("value")

    def wait(self, condition, seconds=PATIENCE):
        """Wait until a JavaScript expression is true, and return its value."""
        program = """(async () => {
            for (const end = performance.now() + %f; performance.now() < end; ) {
                const value = await (%s);
                if (value) return value;
                await new Promise((resolve) => setTimeout(resolve, 15));
            }
            throw new Error("it has not become true");
        })()"""
        try:
            return self.js(program % (900 * seconds, condition))
        except RuntimeError as error:
            raise RuntimeError(f"{condition}: {error}; the console says {self.said}") from error

    def press(self, key, ctrl=False):
        """Press a key, as a person does."""
        codes = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, " ": 32, "Tab": 9, "Enter": 13, "Escape": 27}
        about = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": codes[key]}
        about["modifiers"] = 2 if ctrl else 0
        text = {" ": " ", "Enter": "\r"}.get(key)
        self.ask("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": text} if text and not ctrl else {}))
        self.ask("Input.dispatchKeyEvent", type="keyUp", **about)

    def type(self, text):
        """Type a text where the cursor is."""
        self.ask("Input.insertText", text=text)

    def box(self, selector):
        """Scroll an element into view; return its left and upper edge, width and height, once it stays in its place."""
        program = """(async () => {
            const frame = () => new Promise(requestAnimationFrame);
            for (let before = null; ; ) {
                const e = document.querySelector(%s);
                e.scrollIntoView({ block: "center", behavior: "instant" });
                await frame(), await frame();
                const b = e.getBoundingClientRect(), now = [b.x, b.y, b.width, b.height];
                if (String(now) === String(before)) return now;
                before = now;
            }
        })()"""
        return self.js(program % json.dumps(selector))

    def click(self, selector):
        """Click the middle of an element with the mouse, as soon as it can be seen."""
        self.wait(f"document.querySelector({json.dumps(selector)})?.checkVisibility()")
        self.stroke(selector, [(0.5, 0.5)])

    def stroke(self, selector, points, how="mouse"):
        """Press at the first point of an element, move along the others, and release.

        how: with the "mouse", a "pen" or a finger, "touch".
        points: (x, y), each from 0 to 1, of the element's width and height.
        """
        x, y, width, height = self.box(selector)
        places = [{"x": x + u * width, "y": y + v * height} for u, v in points]
        if how == "touch":
            kinds = ["touchStart", *["touchMove"] * (len(places) - 1)]
            for kind, place in zip(kinds, places):
                self.ask("Input.dispatchTouchEvent", type=kind, touchPoints=[place])
            self.ask("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
            return
        about = {"button": "left", "clickCount": 1, "pointerType": how} | ({"force": 0.5} if how == "pen" else {})
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", **places[0], pointerType=how)
        self.ask("Input.dispatchMouseEvent", type="mousePressed", **places[0], buttons=1, **about)
        for place in places[1:]:
            self.ask("Input.dispatchMouseEvent", type="mouseMoved", **place, buttons=1, **about)
        self.ask("Input.dispatchMouseEvent", type="mouseReleased", **places[-1], **about)

    def choose(self, selector, *paths):
        """Choose files in a file field, as in the dialog that it opens."""
        found = self.ask("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")
        files = [str(Path(path).resolve()) for path in paths]
        self.ask("DOM.setFileInputFiles", files=files, objectId=found["result"]["objectId"])

    def drop(self, selector, *paths):
        """Drag files over the page and drop them on the middle of an element."""
        x, y, width, height = self.box(selector)
        data = {"items": [], "files": [str(Path(path).resolve()) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.ask("Input.dispatchDragEvent", type=kind, x=x + width / 2, y=y + height / 2, data=data)

    def size(self, width, height=900, touch=False):
        """Give the page the size of a screen, perhaps one that is touched."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        self.ask("Emulation.setTouchEmulationEnabled", enabled=touch)

    def theme(self, dark):
        """Say whether the person prefers dark pages."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.ask("Emulation.setEmulatedMedia", features=scheme)

    def screenshot(self, path, dark=False, width=1240):
        """Write an image of the whole page."""
        self.theme(dark)
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": width, "height": size["height"], "scale": 1}
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        Path(path).write_bytes(base64.b64decode(shot["data"]))
