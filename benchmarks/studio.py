"""Load on the studio: `python -m benchmarks.studio` (needs the extras `studio` and `test`; about seven minutes).

What is promised, and measured here:
    watching   a thousand WebSockets watch one drawing, and every one gets its last preview
    asking     200 requests at once from 50 clients for five minutes: no picture is lost or that of another request
    mischief   clients that read nothing, send garbage or half a request: the others notice nothing
    memory     is bounded, and the engine keeps its speed, within 10%

The clients must not take the engine's processor, or nothing about the engine is measured: on Linux the studio runs on
the first core, with one thread, and all clients on the others.  Its speed alone is measured before, between and after,
in the same process, and the ratio is that of medians.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
from websockets.asyncio.client import connect

SEEDS = 20  # different drawings that are asked for
PROMPT = "a dog"
STEPS = 10  # of a request's drawing
LONG: dict = {"prompt": [PROMPT], "count": 16, "steps": 100}  # the drawing that is watched


class Studio:
    """A studio in a process of its own, on the first core.  url: its address.  log: what it said."""

    def __init__(self, folder: Path) -> None:
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self.log = folder / "log.txt"
        command = [
            sys.executable,
            "-m",
            "minidiff.studio",
            "--port",
            "0",
            "--threads",
            "1",
            "--out",
            str(folder / "out"),
        ]
        if len(cores) > 1:
            os.sched_setaffinity(0, {cores[0]})
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        if len(cores) > 1:
            os.sched_setaffinity(0, set(cores[1:]))
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1].rstrip("/")

    def memory(self) -> float:
        """Return the resident memory in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


async def draw(client: httpx.AsyncClient, settings: dict) -> tuple[dict, float]:
    """Draw, and return the drawing with the steps a second of its engine, polled rarely."""
    made = (await client.post("/api/drawings", json={"settings": settings})).json()
    start: tuple[float, int] | None = None
    while True:
        drawing = (await client.get(f"/api/drawings/{made['id']}")).json()
        done = drawing["nodes"][0]["done"]
        if start is None and done:
            start = time.perf_counter(), done
        if drawing["state"] != "running" and drawing["state"] != "queued":
            assert drawing["state"] == "done" and start is not None, drawing["error"]
            return drawing, (done - start[1]) / (time.perf_counter() - start[0])
        await asyncio.sleep(0.1)


async def alone(client: httpx.AsyncClient, times: int = 3) -> float:
    """Return the median steps a second of the long drawing."""
    return statistics.median([(await draw(client, {**LONG, "seed": 900 + k}))[1] for k in range(times)])


async def watching(studio: Studio, client: httpx.AsyncClient, watchers: int) -> dict:
    """A crowd watches one drawing."""
    counts, ready = [0] * watchers, asyncio.Semaphore(0)
    lasts: list[dict[str, int]] = [{} for _ in range(watchers)]  # by drawing, the step that came last

    async def watch(k: int) -> None:
        address = studio.url.replace("http", "ws") + "/api/watch"
        async with connect(address, compression=None, max_queue=4, open_timeout=60, ping_interval=None) as socket:
            ready.release()
            while True:
                message = await asyncio.wait_for(socket.recv(), 120)
                if isinstance(message, bytes):
                    (n,) = struct.unpack("<I", message[:4])
                    about = json.loads(message[4 : 4 + n])
                    assert about["step"] > lasts[k].get(about["drawing"], -1)
                    counts[k], lasts[k][about["drawing"]] = counts[k] + 1, about["step"]

    tasks = [asyncio.ensure_future(watch(k)) for k in range(watchers)]
    for _ in range(watchers):
        await ready.acquire()
    before = studio.memory()
    rates, ids = [], []
    for seed in range(3):
        drawing, rate = await draw(client, {**LONG, "seed": seed})
        rates.append(rate)
        ids.append(drawing["id"])
    whole = lambda: sum(all(last.get(id) == LONG["steps"] - 1 for id in ids) for last in lasts)
    end = time.perf_counter() + 60
    while time.perf_counter() < end and whole() < watchers:
        await asyncio.sleep(0.2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "steps/s": statistics.median(rates),
        "watchers": watchers,
        "previews each": statistics.median(counts) / len(rates),
        "got the last of each": whole(),
        "MiB": [before, studio.memory()],
    }


async def asking(studio: Studio, client: httpx.AsyncClient, seconds: float, clients: int, at_once: int) -> dict:
    """Many clients ask for pictures, and know which picture each seed must give."""
    ask = lambda seed: {"prompt": PROMPT, "steps": STEPS, "seed": seed, "batch_size": 1}
    expected = {}
    start = time.perf_counter()
    for seed in range(SEEDS):
        reply = await client.post("/sdapi/v1/txt2img", json=ask(seed))
        expected[seed] = reply.json()["images"][0]
    one_by_one = SEEDS / (time.perf_counter() - start)
    pixels = {seed: decoded(image) for seed, image in expected.items()}
    assert len({image.tobytes() for image in pixels.values()}) == SEEDS
    got, refused, wrong, lost, memory = 0, 0, 0, 0, [studio.memory()]
    end = time.perf_counter() + seconds

    async def one(http: httpx.AsyncClient, k: int) -> None:
        nonlocal got, refused, wrong, lost
        while time.perf_counter() < end:
            seed = k % SEEDS
            k += 7
            reply = await http.post("/sdapi/v1/txt2img", json=ask(seed))
            if reply.status_code == 429:
                refused += 1
                await asyncio.sleep(float(reply.headers.get("retry-after", 1)))
            elif reply.status_code != 200:
                lost += 1
            else:
                got += 1
                wrong += not np.array_equal(decoded(reply.json()["images"][0]), pixels[seed])

    async def crowd(k: int) -> None:
        limits = httpx.Limits(max_connections=at_once // clients)
        async with httpx.AsyncClient(base_url=studio.url, timeout=300, limits=limits) as http:
            await asyncio.gather(*(one(http, k + n * clients) for n in range(at_once // clients)))

    async def look() -> None:
        while True:
            await asyncio.sleep(2)
            memory.append(studio.memory())

    looking = asyncio.ensure_future(look())
    start = time.perf_counter()
    await asyncio.gather(*(crowd(k) for k in range(clients)))
    took = time.perf_counter() - start
    looking.cancel()
    return {"pictures/s": got / took, "one by one": one_by_one, "pictures": got, "refused": refused, "wrong": wrong,
            "lost": lost, "MiB": [memory[0], max(memory), memory[-1]]}  # fmt: skip


async def mischief(studio: Studio, client: httpx.AsyncClient) -> dict:
    """Clients that misbehave, while a drawing is drawn."""
    host, port = studio.url.removeprefix("http://").rsplit(":", 1)
    writers = []
    hello = (f"GET /api/watch HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")  # fmt: skip
    for k in range(150):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write([hello.encode(), b"\x00\xff" * 4000, b"POST /api/drawings HTTP/1.1\r\nHost: "][k % 3])
        writers.append(writer)  # and never reads, nor says more
    _, rate = await draw(client, {**LONG, "seed": 77})
    for writer in writers:
        writer.close()
    return {"steps/s": rate, "clients": len(writers)}


def decoded(text: str) -> np.ndarray:
    from io import BytesIO

    from PIL import Image

    return np.asarray(Image.open(BytesIO(base64.b64decode(text))))


async def measure(options: argparse.Namespace) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        studio = Studio(Path(folder))
        try:
            async with httpx.AsyncClient(base_url=studio.url, timeout=300) as client:
                await draw(client, LONG)  # compiles, and warms up
                speeds = [await alone(client)]
                results = {"watching": await watching(studio, client, options.watchers)}
                speeds.append(await alone(client))
                results["mischief"] = await mischief(studio, client)
                results["asking"] = await asking(studio, client, options.seconds, options.clients, options.at_once)
                speeds.append(await alone(client))
                results["alone"] = {"steps/s": statistics.median(speeds), "each": speeds}
        finally:
            studio.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                studio.process.wait(10)
            studio.process.kill()
        results["log"] = studio.log.read_text()[-2000:]
    for part in ("watching", "mischief"):
        results[part]["of its speed alone"] = results[part]["steps/s"] / results["alone"]["steps/s"]
    asked = results["asking"]
    asked["of its speed alone"] = asked["pictures/s"] / asked["one by one"]
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studio", description=__doc__.splitlines()[0])
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--at-once", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=300.0)
    print(json.dumps(asyncio.run(measure(parser.parse_args())), indent=2))


if __name__ == "__main__":
    main()
