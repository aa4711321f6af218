"""Many cases, some at a time, and what came of them: a table by kind, a list of causes, a folder of findings."""

import itertools
import json
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from tests.fuzz.case import KINDS
from tests.fuzz.runner import Runner, Running
from tests.fuzz.verdict import FAULTS, MAX_PEAK, Ended, faults, signature

COLUMNS = ("cases", "ok", "refused", *FAULTS)


def planned(cases: int, kinds: Iterable[str], first: int = 0) -> list[tuple[str, int]]:
    """Share cases among kinds by their weights, mixed, each kind's numbered from `first` on."""
    weights = {name: KINDS[name].weight or 1.0 for name in kinds}
    total = sum(weights.values())
    counts = {name: max(1, round(cases * weight / total)) for name, weight in weights.items()}
    order = [((k + 0.5) / count, name, first + k) for name, count in counts.items() for k in range(count)]
    return [(name, seed) for _, name, seed in sorted(order)]


def run_all(runner: Runner, plan: list[tuple[str, int]], workers: int, bar: bool = True) -> Iterator[Ended]:
    """Yield how each case of the plan ended, `workers` of them at work at a time."""
    waiting = iter(plan)
    running: list[Running] = []
    tqdm.monitor_interval = 0  # its thread would be forked
    with tqdm(total=len(plan), unit="case", desc="fuzzing", disable=not bar, dynamic_ncols=True) as progress:
        while True:
            for kind, seed in itertools.islice(waiting, workers - len(running)):
                running.append(runner.start(kind, seed))
            if not running:
                return
            for each in list(running):
                if (ended := runner.ended(each)) is not None:
                    running.remove(each)
                    progress.update()
                    yield ended
            time.sleep(0.003)


class Findings:
    """Counts by kind, and every finding, written into `out` as it comes."""

    def __init__(self, out: Path | None, most_peak: float = MAX_PEAK) -> None:
        self.out, self.most_peak = out, most_peak
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.causes: dict[str, list[Ended]] = defaultdict(list)
        self.slowest: dict[str, float] = defaultdict(float)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)

    def take(self, ended: Ended) -> dict[str, str]:
        """Count a case; write down what is wrong with it, and return that."""
        count, wrong = self.counts[ended.kind], faults(ended, self.most_peak)
        count["cases"] += 1
        count["ok"] += not wrong and ended.code != 2
        count["refused"] += not wrong and ended.code == 2
        count.update(wrong.keys())
        self.slowest[ended.kind] = max(self.slowest[ended.kind], ended.seconds)
        for fault, line in wrong.items():
            self.causes[signature(fault, line)].append(ended)
        if wrong and self.out is not None:
            (self.out / f"{ended.kind}-{ended.seed}.txt").write_text(describe(ended, wrong), errors="backslashreplace")
        return wrong

    @property
    def found(self) -> int:
        """How many cases something was wrong with."""
        return len({(each.kind, each.seed) for ended in self.causes.values() for each in ended})

    def table(self) -> str:
        """Return a line a kind, and one for all."""
        total: Counter[str] = sum(self.counts.values(), Counter())
        rows = [*sorted(self.counts.items()), ("all", total)]
        width = max(len(name) for name, _ in rows)
        slowest = self.slowest | {"all": max(self.slowest.values(), default=0)}
        lines = [f"{'kind':{width}}" + "".join(f"{name:>10}" for name in COLUMNS) + "   slowest"]
        for name, count in rows:
            lines.append(f"{name:{width}}" + "".join(f"{count[c]:10d}" for c in COLUMNS) + f"{slowest[name]:8.1f} s")
        return "\n".join(lines)

    def list_of_causes(self) -> str:
        """Return, for each cause, how often it came and how to see it again."""
        lines = []
        for cause, ended in sorted(self.causes.items(), key=lambda item: -len(item[1])):
            first = min(ended, key=lambda each: each.seed)
            lines.append(f"{len(ended):5d}  {cause}\n       {again(first)}")
        return "\n".join(lines)


def again(ended: Ended) -> str:
    """Return the command that repeats a case."""
    return f'python -m tests.fuzz --kind "{ended.kind}" --seed {ended.seed}'


def describe(ended: Ended, wrong: dict[str, str]) -> str:
    """Return everything about one case, for people."""
    lines = [
        again(ended),
        "",
        f"python -m minidiff.{ended.command} {' '.join(json.dumps(w[:300]) for w in ended.words)}",
        "",
    ]
    lines += [ended.note] if ended.note else []
    lines += [f"{fault}: {line}" for fault, line in wrong.items()] or ["nothing is wrong"]
    lines += [
        "",
        f"exit code {ended.code}, {ended.seconds:.2f} s, {ended.cpu:.2f} s computing, {ended.peak / 1e6:.0f} MB",
    ]
    streams = [
        (n, data.decode(ended.encoding, "backslashreplace"))
        for n, data in (("stdout", ended.out), ("stderr", ended.err))
    ]
    for name, text in [*streams, ("where it was", ended.stack)]:
        text = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
        lines += ["", f"--- {name}", text if len(text) < 20_000 else text[:10_000] + "\n…\n" + text[-10_000:]]
    return "\n".join(lines)


def clean(folder: Path) -> None:
    """Remove the folder of a run."""
    shutil.rmtree(folder, ignore_errors=True)
