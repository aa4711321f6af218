"""Section `growth`: how the cost grows with the batch, the image, the width; and how it shrinks with threads."""

from dataclasses import replace

import numpy as np

from benchmarks.peers.problems import PLAIN, Convolution, Network, made_small
from benchmarks.peers.records import Log, Record, agree, compare, heading, row
from benchmarks.peers.settings import Settings
from benchmarks.peers.workers import OURS, Workers
from minidiff.images.chart import line_chart
from minidiff.images.files import save_png

PEER = "torch channels_last"
BATCHES, SIZES, WIDTHS = (1, 4, 16, 32, 64), (16, 32, 64), (16, 32, 64, 96)
AXES = {"batch": BATCHES, "size": SIZES, "width": WIDTHS}
LABELS = {"batch": "images a batch", "size": "pixels along each side", "width": "channels"}


def problem(kind: str, axis: str, value: int) -> Convolution | Network:
    """The plain training step, or a 3×3 convolution of its first level, with one of its numbers changed."""
    if kind == "conv":
        shape = {"batch": 32, "size": 32, "width": 64} | {axis: value}
        return Convolution(shape["batch"], shape["size"], shape["width"], shape["width"])
    if axis == "width":
        return replace(PLAIN, model=replace(PLAIN.model, model_channels=value))
    return replace(PLAIN, batch=value) if axis == "batch" else replace(PLAIN, size=value)


def measure(settings: Settings, log: Log) -> None:
    """Measure along every axis, then with one thread and with all; draw it beside the JSON file."""
    rounds = (settings.rounds + 1) // 2
    curves: dict[tuple[str, str], list[Record]] = {}
    with Workers((OURS, PEER), settings.threads) as workers:
        heading(workers)
        for kind in ("step", "conv"):
            for axis, values in AXES.items():
                for value in values[:1] if settings.quick else values:
                    what = f"growth/{kind}/{axis}/{value}"
                    chosen = problem(kind, axis, value)
                    chosen = made_small(chosen) if settings.quick else chosen
                    workers.make(chosen)
                    agree(what, workers.check())
                    record = compare(what, workers.in_turn(rounds, settings.least))
                    log.add(record | {"batch": chosen.batch, axis: value})
                    curves.setdefault((kind, axis), []).append(log.records[-1])
                    row(record)
    if log.path is not None:
        image = log.path.with_suffix(".png")
        save_png(image, chart(curves))
        print(f"\nthe curves: {image}")
    for kind in ("step", "conv"):
        measure_threads(kind, settings, log, rounds)


def measure_threads(kind: str, settings: Settings, log: Log, rounds: int) -> None:
    """Measure the speed-up from one thread to all, in the same rounds."""
    if settings.threads == 1:
        print("\ngrowth/threads: left out, because there is one thread")
        return
    wanted = {f"{engine} × {n}": (engine, n) for n in (1, settings.threads) for engine in (OURS, PEER)}
    chosen = problem(kind, "batch", 32)
    with Workers(wanted) as workers:
        workers.make(made_small(chosen) if settings.quick else chosen)
        workers.check()
        times = workers.in_turn(rounds, settings.least)
    record = thread_record("growth/threads" + ("" if kind == "step" else f"/{kind}"), times, settings.threads)
    log.add(record)
    speedups = ", ".join(f"{name} {value:.2f}" for name, value in record["speedup"].items())
    print(f"\n{record['what']}: from 1 thread to {settings.threads}, times as fast: {speedups}")


def thread_record(what: str, times: dict[str, list[float]], threads: int) -> Record:
    """Return the record of times by "engine × threads": speed-ups as medians over rounds, seconds as medians."""
    speedup = {
        engine: float(np.median(np.asarray(times[f"{engine} × 1"]) / np.asarray(times[f"{engine} × {threads}"])))
        for engine in (OURS, PEER)
    }
    seconds = {name: float(np.median(values)) for name, values in times.items()}
    return {"what": what, "threads": [1, threads], "speedup": speedup, "seconds": seconds}


def chart(curves: dict[tuple[str, str], list[Record]]) -> np.ndarray:
    """Draw a row of panels a kind, a panel an axis: (height, width, 3) uint8.

    ms an image against the batch, images a second against size and width: all of them fall, away from the legend.
    """
    rows = []
    for kind, title in (("step", "training step"), ("conv", "convolution 3x3")):
        panels = []
        for axis in AXES:
            records = curves[kind, axis]
            x, lines = [record[axis] for record in records], {}
            for engine in (OURS, PEER):
                seconds = [record["ours_s"] if engine == OURS else record["peers"][engine] for record in records]
                a_image = [1e3 * s / record["batch"] for s, record in zip(seconds, records)]
                lines[engine] = (x, a_image if axis == "batch" else [1e3 / ms for ms in a_image])
            unit = "ms an image" if axis == "batch" else "images a second"
            panels.append(line_chart(lines, title, LABELS[axis], unit, log_y=True, size=(560, 400)))
        rows.append(np.concatenate(panels, axis=1))
    return np.concatenate(rows, axis=0)
