"""Screenshots of the studio's page, to be looked at: `python -m tests.studio.screenshots FOLDER`.

Each part of the page, in three widths and both themes, with a drawing that has a branch, and a training.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests import toy_images
from tests.browser import Browser
from tests.studio.page import Page
from tests.studio.running import ROOT, running

WIDTHS = (390, 1280, 2560)
SMALL = "--patch 1 --model-channels 8 --channel-mult 1 2 --heads 2 --batch-size 4 --backend numpy --threads 1"


def train(folder: Path) -> None:
    """Leave a short training under runs/."""
    toy_images.write(folder / "toy.npz", 20)
    words = f"--data npz --data-dir toy.npz {SMALL} --steps 200 --preview-every 50 --out runs/toy"
    command = [sys.executable, "-m", "minidiff.train", *words.split()]
    subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, check=True)


def shoot(page: Page, browser: Browser, folder: Path, name: str) -> None:
    page.js("scrollTo(0, 0)")
    for width in WIDTHS:
        for dark in (False, True):
            page.theme(dark)
            page.size(width, 900 if width > 390 else 844, touch=width == 390)
            page.wait("document.getAnimations().every((each) => !(each instanceof CSSTransition))")
            browser.screenshot(folder / f"{name}-{width}-{'dark' if dark else 'light'}.png", dark, width)
    page.size(1280)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        train(Path(place))
        with running(folder=Path(place), backend="numpy") as studio, Browser(Path(place) / "browser") as browser:
            page = Page(browser, studio.url)
            page.size(1280)
            page.open()
            shoot(page, browser, folder, "first")
            page.draw(prompt="a red house by the sea at sunset", steps=20, seed=2)
            page.draw(prompt="a dog in a winter forest", steps=20, seed=3, count=4)
            for _ in range(12):
                page.press("ArrowLeft")
            page.fill(prompt="a cat in a meadow", guidance=5)
            page.click("#branch")
            page.wait("studio.drawing().nodes.length === 2")
            page.state("done")
            page.shown()
            shoot(page, browser, folder, "drawn")
            page.press("Home")
            page.fill(prompt="a white rabbit in a desrt", guidance=4)
            page.wait("document.querySelector('#branching').classList.contains('ready')")
            page.click("#control-box summary")
            page.stroke("#control-canvas", [(0.2, 0.7), (0.4, 0.4), (0.6, 0.4), (0.8, 0.7)])
            page.wait("studio.settings().control")
            page.click("#again-init") if page.visible("#again-init") else None
            page.js("document.querySelectorAll('#fields details').forEach((each) => { each.open = true; })")
            page.click("#inside")
            page.wait("document.querySelector('#inside-panel').checkVisibility()")
            shoot(page, browser, folder, "changed")
            for tab, there in (("gallery", "#gallery .tile img"), ("training", "#run-previews img")):
                page.click(f"#tab-{tab}")
                page.wait(f"document.querySelector('{there}')?.naturalWidth > 0")
                shoot(page, browser, folder, tab)
            page.click("#tab-gallery")
            page.click("#gallery .tile")
            page.wait("document.querySelector('#large-picture').naturalWidth > 0")
            shoot(page, browser, folder, "large")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
