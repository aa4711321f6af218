"""A studio in a process of its own, for tests that speak to it as its clients do."""

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0  # seconds to start, at most; it takes three


@dataclass(frozen=True)
class Studio:
    """url: where it listens, "http://127.0.0.1:PORT".  token: "" if it asks for none.  out: its folder of pictures."""

    url: str
    port: int
    token: str
    out: Path
    folder: Path
    process: subprocess.Popen
    line: str


@contextlib.contextmanager
def running(*options: object, folder: Path, backend: str = "numpy") -> Iterator[Studio]:
    """Start `python -m minidiff.studio` in a folder, whose runs/ it offers; end it as Ctrl-C does.

    options: further ones; --port, --out, --backend and --threads are given here.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-m", "minidiff.studio", "--port", "0", "--out", "pictures", "--backend", backend]
    command += ["--threads", "1", *map(str, options)]
    with (folder / "log.txt").open("w+") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1
        )
        try:
            line = _first_line(process)
            found = re.match(r"minidiff studio: (http://\S+?:(\d+))/(?:\?token=(\S+))?", line)
            if not found:
                log.seek(0)
                raise AssertionError(f"the studio did not start: {line}{log.read()}")
            yield Studio(found[1], int(found[2]), found[3] or "", folder / "pictures", folder, process, line)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def sampled(png: bytes, studio: Studio, folder: Path) -> list[Image.Image]:
    """Return the images that `python -m minidiff.sample`, where the studio runs, draws with the settings in a PNG."""
    (folder / "sent.png").write_bytes(png)
    command = [sys.executable, "-m", "minidiff.sample", "--like", str(folder / "sent.png"), "--threads", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(
        [*command, "--images", "--out", str(folder / "again")], cwd=studio.folder, env=environment, check=True
    )
    return [Image.open(path) for path in sorted((folder / "again").rglob("*.png")) if path.name != "grid.png"]


def _first_line(process: subprocess.Popen) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + PATIENCE
    while not select.select([process.stdout], [], [], 0.5)[0]:
        if time.monotonic() > deadline:
            return "nothing was printed; "
    return process.stdout.readline()
