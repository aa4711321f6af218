"""The figures of chapter 13: branches of one drawing, and the studio's page as Chromium shows it.

make_figures.py calls them.  `studio` needs the extra `studio` and a Chromium, which MINIDIFF_BROWSER may name; without
one it leaves the figure as it is.
"""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from figures_editing import sheet
from PIL import Image

from minidiff.backend import to_numpy
from minidiff.images.files import to_uint8
from minidiff.pipeline.branch import branch
from minidiff.pipeline.pipeline import Pipeline
from minidiff.pipeline.plan import Plan
from minidiff.pipeline.settings import Inputs, SamplingSettings

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT = 1280, 860  # pixels of the page
MARGIN = 10  # pixels below its last part that is shown
PATIENCE = 120.0  # seconds for a drawing


def branches(model: Pipeline) -> np.ndarray:
    """A dog that becomes a cat: from step 5, 10, … of 50 on the prompt is another one."""
    at, rows = (5, 10, 20, 30, 35, 40, 45), []
    for seed in (3, 8):
        settings = SamplingSettings(seed=seed, steps=50)
        dog, cat = (Inputs(prompt=prompt) for prompt in ("a dog", "a cat"))
        plan = model.prepare(settings, dog)
        ways = [plan, *(branch(plan, step, settings, cat) for step in reversed(at)), model.prepare(settings, cat)]
        rows.append([last(way) for way in ways])
    return sheet(rows, ["a dog", *(f"cat from {step}" for step in reversed(at)), "a cat"])


def last(plan: Plan) -> np.ndarray:
    """Return the image that a run ends with: (H, W, 3) uint8."""
    *_, step = plan.steps(0, 1)
    return to_uint8(to_numpy(step.x_prev))[0]


def studio() -> np.ndarray | None:
    """The page, after a drawing and two branches of it, at a step in the middle of one of them."""
    sys.path.insert(0, str(ROOT))
    from tests import browser as chromium

    if chromium.find() is None:
        return None
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as url, chromium.Browser(folder) as page:
        size = {"width": WIDTH, "height": HEIGHT}
        page.ask("Emulation.setDeviceMetricsOverride", **size, deviceScaleFactor=1, mobile=False)
        page.go(url)
        wait(page, "!document.getElementById('draw').disabled")
        write(page, prompt="a dog in a field", seed="3")
        page.click("#draw")
        wait(page, "window.studio.drawing()?.state === 'done'")
        for number, (node, step, change) in enumerate(WAYS, 2):
            page.click(f'#tree [data-node="{node}"]')
            page.js(SCRUB.replace("STEP", str(step)))
            write(page, **change)
            page.click("#branch")
            wait(page, f"window.studio.drawing().nodes.length === {number} && studio.drawing().state === 'done'")
        page.click(f'#tree [data-node="{SHOWN[0]}"]')
        page.js(SCRUB.replace("STEP", str(SHOWN[1])))
        page.js("scrollTo(0, 0)")
        time.sleep(1)  # for the pictures of the film
        bottom = page.js("document.getElementById('timeline').getBoundingClientRect().bottom")
        shot = Path(folder) / "shot.png"
        page.screenshot(shot, width=WIDTH)
        image = Image.open(io.BytesIO(shot.read_bytes())).convert("RGB")
    return np.asarray(image)[: round(bottom) + MARGIN]


SCRUB = "scrub.value = STEP; scrub.dispatchEvent(new Event('input', { bubbles: true }))"  # the slider goes to a step
WAYS = [(0, 8, {"prompt": "a cat in a field"}), (0, 20, {"prompt": "a dog in a winter forest"})]
SHOWN = 1, 36  # a node and a step


def write(page: Any, **fields: str) -> None:
    """Fill in fields of the form, as a person does."""
    for name, value in fields.items():
        page.js(f"""(() => {{
            const field = document.getElementById({name!r});
            field.value = {value!r};
            for (const kind of ["input", "change"]) field.dispatchEvent(new Event(kind, {{ bubbles: true }}));
        }})()""")


def wait(page: Any, condition: str) -> None:
    """Wait until a condition of the page holds."""
    end = time.monotonic() + PATIENCE
    while not page.js(condition):
        if time.monotonic() > end:
            raise TimeoutError(f"the page has waited for {condition}")
        time.sleep(0.1)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Run a studio in an empty folder; return its address.

    With NumPy's kernels: nothing is compiled, and each step takes so long that the page gets a preview of it.
    """
    command = [sys.executable, "-m", "minidiff.studio", "--port", "0", "--out", str(folder / "studio")]
    command += ["--backend", "numpy", "--threads", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


OF_A_MODEL = [branches]
FIGURES = [studio]
