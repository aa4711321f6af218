"""The command: `python -m benchmarks.scaling --help`."""

import contextlib
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks.peers.machine import processor, versions
from benchmarks.peers.records import agree, paired_ratio
from benchmarks.peers.workers import OURS, cores, require_torch
from benchmarks.scaling import hosts as networks
from benchmarks.scaling.group import Group, Kind
from benchmarks.scaling.hosts import FAST, SLOW
from benchmarks.scaling.model import Link, Step, fit_compute, fit_link, pays_until, sum_seconds
from minidiff.errors import exit_with_one_line
from minidiff.files import write_atomically
from minidiff.images.chart import line_chart
from minidiff.images.files import save_png

DESCRIPTION = """\
Measure how a training step scales: with processes here, beside threads and beside PyTorch's DistributedDataParallel; \
on hosts that a slow network connects (network namespaces, for root on Linux); and what that means for up to 1,024 \
processes.

Gradients are first compared, and a disagreement ends the run. Then all groups of processes take turns, round after \
round; medians are printed, and medians of ratios by round. Leave the machine alone meanwhile.

  python -m benchmarks.scaling --json scaling.json"""

BATCH = 32
HIDDEN = 0.4  # of a step's computing: the backward pass, two thirds, without what comes before the first piece
SIZES = (1 << 10, 1 << 14, 1 << 18, 1 << 20)  # numbers of the sums that are timed between hosts


@dataclass(frozen=True)
class Arguments:
    """What to measure, and where to write it."""

    json: Path | None = None
    """File for the results; the chart of the model is drawn beside it, as .png."""
    rounds: int = 9
    """Timings of each group; more help on a machine that is not quiet."""
    quick: bool = False
    """Small batches, once: tries the benchmark and measures nothing."""
    hosts: bool = True
    """Measure hosts as well, where that is possible."""


@exit_with_one_line
def main(words: Sequence[str] | None = None) -> None:
    """Parse and measure; exits with 2 for a mistake or a disagreement, 130 after Ctrl-C."""
    arguments = tyro.cli(Arguments, args=words, prog="python -m benchmarks.scaling", description=DESCRIPTION)
    require_torch()
    results: dict[str, Any] = {
        "cpu": processor(),
        "cores": cores(),
        "versions": versions(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    batch, rounds = (8, 1) if arguments.quick else (BATCH, arguments.rounds)

    def add(name: str, found: Any) -> None:
        results[name] = found
        if arguments.json is not None:
            write_atomically(arguments.json, json.dumps(results, indent=1).encode())

    for network in ("default", "plain"):
        add(network, here(network, batch, rounds))
    if arguments.hosts and networks.available():
        for link in (FAST, SLOW):
            add(link.name, between_hosts(link, 1 if arguments.quick else 20, batch))
    elif arguments.hosts:
        print("no hosts: they need root, and ip and tc of iproute2")
    for network in ("default", "plain"):
        add(f"model of {network}", predict(results, network, batch))
    if arguments.json is not None:
        draw(results, arguments.json.with_suffix(".png"))


def here(network: str, batch: int, rounds: int) -> dict[str, Any]:
    """Compare processes with threads on this machine, strong and weak, beside PyTorch; return what was found."""
    kinds = {
        "1 process": Kind(OURS, network, batch, 1, 1),
        "2 threads": Kind(OURS, network, batch, 1, 2),
        "2 processes": Kind(OURS, network, batch, 2, 1),
        "1 process, PyTorch": Kind("torch", network, batch, 1, 1),
        "2 threads, PyTorch": Kind("torch", network, batch, 1, 2),
        "2 processes, PyTorch": Kind("torch", network, batch, 2, 1),
        "2 processes, twice the batch": Kind(OURS, network, 2 * batch, 2, 1),
        "2 processes, twice the batch, PyTorch": Kind("torch", network, 2 * batch, 2, 1),
        "1 process, 8 parts": Kind(OURS, network, batch, 1, 1, 8),
        "1 process, half the batch": Kind(OURS, network, batch // 2, 1, 1),
        "1 process, a quarter of the batch": Kind(OURS, network, batch // 4, 1, 1),
    }
    print(f"\n==== {network}")
    with contextlib.ExitStack() as stack:
        groups = {name: stack.enter_context(Group(kind)) for name, kind in kinds.items()}
        compare_gradients(network, groups)
        number = {name: calls(group.ask("steps 2 early")["seconds"], rounds) for name, group in groups.items()}
        answers: dict[str, list[dict[str, float]]] = {name: [] for name in (*kinds, "late")}
        for k in range(rounds):
            for name in list(kinds)[:: 1 if k % 2 == 0 else -1]:
                answers[name].append(groups[name].ask(f"steps {number[name]} early"))
            answers["late"].append(groups["2 processes"].ask(f"steps {number['2 processes']} late"))
    found: dict[str, Any] = {
        name: {key: float(np.median([one[key] for one in each])) for key in each[0]} for name, each in answers.items()
    }
    for name in kinds:
        print(f"  {name:38} {found[name]['seconds'] * 1e3:8.1f} ms")
    seconds = {name: [one["seconds"] for one in each] for name, each in answers.items()}
    faster = lambda one, other: paired_ratio(seconds[one], seconds[other])
    found["ratios"] = {
        "2 processes beside 1": faster("2 processes", "1 process"),
        "2 threads beside 1": faster("2 threads", "1 process"),
        "2 processes beside 2 threads": faster("2 processes", "2 threads"),
        "2 processes beside 1, PyTorch": faster("2 processes, PyTorch", "1 process, PyTorch"),
        "2 threads beside 1, PyTorch": faster("2 threads, PyTorch", "1 process, PyTorch"),
        "2 processes beside PyTorch's 2": faster("2 processes", "2 processes, PyTorch"),
        "weak": 2 * faster("2 processes, twice the batch", "1 process"),
        "weak, PyTorch": 2 * faster("2 processes, twice the batch, PyTorch", "1 process, PyTorch"),
        "1 process beside one in 8 parts": faster("1 process", "1 process, 8 parts"),
    }
    for name, value in found["ratios"].items():
        print(f"  {name:38} {value:8.2f} times as fast")
    early, late = (found[name]["waited"] for name in ("2 processes", "late"))
    found["hidden"] = 1 - early / late
    print(f"  bytes sent a step                      {found['2 processes']['sent'] / 1e6:8.2f} MB")
    print(f"  waiting for gradients                  {early * 1e3:8.1f} ms; {late * 1e3:.1f} ms if sent at the end")
    print(f"  hidden behind the backward pass        {found['hidden']:8.0%}")
    return found


def compare_gradients(network: str, groups: dict[str, Group]) -> None:
    """Compare the gradients of groups with the same batch.  Raises MinidiffError if they disagree."""
    for batch in sorted({group.kind.batch for group in groups.values()}):
        first, *others = [name for name, group in groups.items() if group.kind.batch == batch]
        answers = {name: groups[name].check() for name in (first, *others)}
        differences = agree(f"{network}, batch {batch}", {OURS: answers.pop(first), **answers})
        for name, (difference, _) in differences.items():
            print(f"  gradients, batch {batch:3}, {name}: {difference:.1e} of the largest number from {first}")


def calls(seconds: float, rounds: int) -> int:
    """How many steps make a timing of about a second; one, if this is only tried."""
    return 1 if rounds == 1 else max(1, round(1 / seconds))


def between_hosts(network: networks.Network, number: int, batch: int) -> dict[str, Any]:
    """Time sums and steps between two and four hosts; return what was found."""
    print(f"\n==== hosts, {network.name}")
    sums, found = [], {}
    for processes in (2, 4):
        with networks.hosts(processes, network) as made:
            kind = Kind(OURS, "default", batch, processes, 1, late=made.late * 1e6)
            with Group(kind, made.launcher(processes)) as group, Group(Kind(OURS, "default", batch, 1, 1)) as alone:
                differences = agree(network.name, {OURS: alone.check(), kind.name: group.check()})
                print(f"  gradients on {processes} hosts: {max(differences.values())[0]:.1e} from one process")
                for numbers in SIZES:
                    seconds = float(np.median([group.ask(f"sums 1 {numbers}")["seconds"] for _ in range(number)]))
                    sums.append((processes, 4 * numbers, seconds))
                    print(f"  {processes} hosts, sum of {4 * numbers / 1e6:8.3f} MB {seconds * 1e3:8.2f} ms")
                early, late = (
                    [group.ask(f"steps 3 {when}") for _ in range(max(number // 4, 1))] for when in ("early", "late")
                )
                waited, waited_late = (float(np.median([one["waited"] for one in each])) for each in (early, late))
                found[f"{processes} hosts"] = {
                    "step": float(np.median([one["seconds"] for one in early])),
                    "late": float(np.median([one["seconds"] for one in late])),
                    "hidden": 1 - waited / waited_late,
                }
                print(f"  {processes} hosts, step {found[f'{processes} hosts']}")
    link = fit_link(sums)
    print(f"  fitted: {link.latency * 1e6:.0f} µs a message, {link.bandwidth * 8 / 1e9:.2f} Gbit/s")
    errors = [sum_seconds(n, size, link) / seconds for n, size, seconds in sums]
    print(f"  the model gives {min(errors):.2f} to {max(errors):.2f} of what was measured")
    return {**found, "sums": sums, "latency": link.latency, "bandwidth": link.bandwidth}


def predict(results: dict[str, Any], network: str, batch: int) -> dict[str, Any]:
    """Return the model of a network's step, and until how many processes it pays."""
    found, parts = results[network], ("", ", half the batch", ", a quarter of the batch")
    once, each = fit_compute([(batch >> k, found[f"1 process{part}"]["seconds"]) for k, part in enumerate(parts)])
    step = Step(once, each, found["2 processes"]["sent"], HIDDEN)
    print(f"\n==== model of {network}: {once * 1e3:.1f} ms a step and {each * 1e3:.2f} ms an image on one core")
    pays: dict[str, dict[str, int]] = {}
    for name, link in links(results).items():
        pays[name] = {str(size): pays_until(step, size, link) for size in (32, 256, 2048)}
        print(f"  {name}: half of each core is used up to {pays[name]} processes, by batch")
    return {"once": once, "each": each, "bytes": step.size, "hidden": step.hidden, "pays until": pays}


def links(results: dict[str, Any]) -> dict[str, Link]:
    """Return the fitted links by name."""
    return {
        each.name: Link(results[each.name]["latency"], results[each.name]["bandwidth"])
        for each in (FAST, SLOW)
        if each.name in results
    }


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw the parallel efficiency of up to 1,024 processes, for a batch of 2,048 images."""
    known = results["model of plain"]
    step = Step(known["once"], known["each"], known["bytes"], known["hidden"])
    counts = [2**k for k in range(11)]
    alone = step.compute(2048)
    curves = {"without a network": (counts, [alone / (n * step.compute(2048 / n)) for n in counts])}
    for (name, link), ring in itertools.product(links(results).items(), (False, True)):
        efficiency = [alone / (n * step.seconds(n, 2048, link, ring)) for n in counts]
        curves[f"{name.replace('µ', 'u')}, {'ring' if ring else 'tree'}"] = (counts, efficiency)
    save_png(path, line_chart(curves, "", "processes", "efficiency", log_x=True, legend_below=True))


if __name__ == "__main__":
    main()
