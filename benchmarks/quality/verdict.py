"""What the runs say beside each other: the table, medians, and differences between two engines seed by seed.

Idea: both engines of a seed start from the same weights and see the same images and noise, so their difference is
taken within each seed; how much it is worth, the spread over seeds beside it says.  No adjectives: who reads, judges.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Record = dict[str, Any]


@dataclass(frozen=True)
class Measure:
    """A column: its key in the records, its title, a factor and digits to print it with, and which way is good.

    better: +1 if more is better, -1 if less is, 0 if neither.
    """

    key: str
    title: str
    digits: int
    better: int
    factor: float = 1.0
    unit: str = ""

    def show(self, value: float | None, signed: bool = False) -> str:
        if value is None:
            return "–"
        return f"{self.factor * value:{'+' if signed else ''}.{self.digits}f}{'' if signed else self.unit}"


MEASURES = (
    Measure("steps", "steps", 0, 0),
    Measure("training_seconds", "seconds", 1, 0),
    Measure("step_seconds", "ms a step", 1, 0, factor=1e3),
    Measure("held_out_loss", "held-out loss", 5, -1),
    Measure("frechet", "Fréchet", 3, -1),
    Measure("read_as_asked", "read as asked", 1, +1, factor=100, unit="%"),
)
COMPARED = tuple(measure for measure in MEASURES if measure.better)


def verdict(comparison: str, engines: tuple[str, str], records: Sequence[Record]) -> Record:
    """Return medians by engine, its standard deviation over seeds, and the first engine minus the second by seed.

    records: of runs; seeds for which one of the two engines is missing do not count.
    """
    runs = {(record["seed"], record["engine"]): record for record in records}
    seeds = sorted(seed for seed, engine in runs if engine == engines[0] and (seed, engines[1]) in runs)
    made: Record = {"what": f"{comparison}/verdict", "engines": list(engines), "seeds": seeds}
    made["medians"], made["deviations"], made["differences"] = {e: {} for e in engines}, {e: {} for e in engines}, {}
    for measure in MEASURES:
        first, second = ([runs[seed, engine][measure.key] for seed in seeds] for engine in engines)
        if not seeds or None in (*first, *second):
            continue
        for engine, values in zip(engines, (first, second)):
            made["medians"][engine][measure.key] = float(np.median(values))
            if len(values) > 1:
                made["deviations"][engine][measure.key] = float(np.std(values, ddof=1))
        by_seed = [a - b for a, b in zip(first, second)]
        made["differences"][measure.key] = {"by_seed": by_seed, "median": float(np.median(by_seed))}
        if measure.better:
            made["differences"][measure.key]["better"] = sum(measure.better * each > 0 for each in by_seed)
    if seeds:
        ratios = [runs[seed, engines[0]]["steps"] / runs[seed, engines[1]]["steps"] for seed in seeds]
        made["steps_ratio"] = {"by_seed": ratios, "median": float(np.median(ratios))}
    return made


def table(records: Sequence[Record], found: Record) -> str:
    """Return the runs, a line each, and the medians below them."""
    rows = [["seed", "engine", *(measure.title for measure in MEASURES)]]
    for record in records:
        rows.append([str(record["seed"]), record["engine"], *(m.show(record[m.key]) for m in MEASURES)])
    for engine, medians in found["medians"].items():
        rows.append(["median", engine, *(m.show(medians.get(m.key)) for m in MEASURES)])
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "  ".join(
            f"{cell:<{width}}" if i < 2 else f"{cell:>{width}}" for i, (cell, width) in enumerate(zip(row, widths))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def differences(found: Record) -> str:
    """Return the differences in lines: median, lowest and highest over seeds, and the spread that stands beside it."""
    seeds, (first, second) = found["seeds"], found["engines"]
    if not seeds:
        return f"no seed has both {first} and {second} yet"
    ratios = found["steps_ratio"]
    lines = [
        f"{first} beside {second}, the same seeds: median (lowest … highest) of {len(seeds)}",
        f"  steps          {ratios['median']:.3f} times as many ({min(ratios['by_seed']):.3f} … "
        f"{max(ratios['by_seed']):.3f})",
    ]
    for measure in COMPARED:
        if (each := found["differences"].get(measure.key)) is None:
            continue
        low, high = (measure.show(end, signed=True) for end in (min(each["by_seed"]), max(each["by_seed"])))
        points = " points" if measure.unit == "%" else ""
        lines.append(
            f"  {measure.title:<14} {measure.show(each['median'], signed=True)}{points} ({low} … {high}), "
            f"{'higher' if measure.better > 0 else 'lower'} at {each['better']} of {len(seeds)}"
        )
        spread = [found["deviations"][engine].get(measure.key) for engine in (first, second)]
        if None not in spread:
            shown = ", ".join(f"{engine} {measure.show(s).rstrip('%')}" for engine, s in zip((first, second), spread))
            lines.append(f"  {'':<14} standard deviation over seeds: {shown}")
    return "\n".join(lines)
