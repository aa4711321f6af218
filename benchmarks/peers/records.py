"""What the times say: medians, spread, ratios of pairs; and the file that they are written to.

Idea: a machine's speed drifts, so a ratio is taken within each round, between neighbours in time, and the median of
those is reported; the median seconds beside it are for reading.
Every record is written as soon as it is there: Ctrl-C loses none.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.workers import OURS
from minidiff.errors import MinidiffError
from minidiff.files import write_atomically

Record = dict[str, Any]
Times = Mapping[str, Sequence[float]]

# ---- agreement ------------------------------------------------------------------------------------------------------

# Largest difference, of the largest number.  A Winograd convolution is off by 1.5e-5, and a gradient has passed up to
# forty of them and of the normalisations between; a wrong formula is off by 1e-1 or more.
BOUND_FLOAT32 = 1e-3
# bfloat16 rounds by 4e-3 each time; this only tells a calculation in bfloat16 from another calculation.
BOUND_BFLOAT16 = 0.1
# Some gradients are zero but for rounding (the bias of keys, of what is normalised channel by channel): a gradient's
# rounding is measured against at least this much of the largest of all gradients.
LEAST_GRADIENT = {BOUND_FLOAT32: 1e-3, BOUND_BFLOAT16: 1.0}


def bound_of(peer: str) -> float:
    """What a peer may differ by."""
    return BOUND_BFLOAT16 if "bfloat16" in peer else BOUND_FLOAT32


def difference(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], bound: float) -> tuple[float, str]:
    """Return the largest difference, relative to the largest number of its array, and the array's name."""
    gradients = [float(np.abs(array).max()) for name, array in ours.items() if name.startswith("gradient")]
    least = LEAST_GRADIENT[bound] * max(gradients, default=0.0)
    found = (-1.0, "")
    for name, array in ours.items():
        if theirs[name].shape != array.shape:
            raise MinidiffError(f"{name}: ours has shape {array.shape}, the peer's {theirs[name].shape}")
        scale = max(float(np.abs(array).max()), least if name.startswith("gradient") else 0.0, 1e-30)
        error = float(np.abs(array - theirs[name]).max()) / scale
        found = max(found, (error if np.isfinite(error) else np.inf, name))
    return found


def agree(what: str, answers: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, tuple[float, str]]:
    """Return each peer's difference from ours; raise MinidiffError in one line if one is above its bound."""
    found = {}
    for peer in [name for name in answers if name != OURS]:
        error, where = found[peer] = difference(answers[OURS], answers[peer], bound_of(peer))
        if error > bound_of(peer):
            raise MinidiffError(
                f"{what}: {peer} and ours disagree: {where} differs by {error:.1e} of its largest number, "
                f"at most {bound_of(peer):.0e} is expected"
            )
    return found


# ---- comparison -----------------------------------------------------------------------------------------------------


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median over rounds of theirs / ours: above 1 where ours is faster."""
    return float(np.median(np.asarray(theirs) / np.asarray(ours)))


def geometric_mean(values: Iterable[float]) -> float:
    """Return exp(mean(log(values))): the mean that treats twice as fast and twice as slow alike."""
    return float(np.exp(np.mean(np.log(list(values)))))


def compare(what: str, times: Times, unit: str = "s") -> Record:
    """Return the record of one measurement.

    times: seconds (or MiB) by engine, a number a round; the n-th numbers of all of them are neighbours in time.
    ratio_best_float32, ratio_bfloat16: how many times as much as ours the best peer of that precision takes, the
    median of its ratios to ours by round; left out where no such peer was measured.
    """
    peers = [name for name in times if name != OURS]
    record: Record = {
        "what": what,
        "rounds": len(times[OURS]),
        f"ours_{unit.lower()}": float(np.median(times[OURS])),
        "peers": {name: float(np.median(times[name])) for name in peers},
        "unit": unit,
        "ratios": {name: paired_ratio(times[OURS], times[name]) for name in peers},
        "spread": {name: [float(q) for q in np.quantile(values, (0.25, 0.75))] for name, values in times.items()},
    }
    for key, low in (("float32", False), ("bfloat16", True)):
        of_kind = [name for name in peers if ("bfloat16" in name) == low]
        if of_kind:
            best = min(of_kind, key=record["peers"].__getitem__)
            record[f"best_{key}"] = best
            record["ratio_bfloat16" if low else "ratio_best_float32"] = record["ratios"][best]
    return record


def mean_record(what: str, records: Sequence[Record]) -> Record:
    """Return the geometric means over records of the same engines: of the seconds, and of the ratios."""
    made: Record = {"what": what, "of": [record["what"] for record in records], "unit": "s"}
    made["ours_s"] = geometric_mean(record["ours_s"] for record in records)
    made["peers"] = {name: geometric_mean(r["peers"][name] for r in records) for name in records[0]["peers"]}
    for key in ("ratio_best_float32", "ratio_bfloat16"):
        if all(key in record for record in records):
            made[key] = geometric_mean(record[key] for record in records)
    return made


# ---- writing --------------------------------------------------------------------------------------------------------


@dataclass
class Log:
    """The records so far.  path: a JSON file, replaced as a whole with every record, or None."""

    path: Path | None = None
    records: list[Record] = field(default_factory=list)

    def add(self, record: Record) -> Record:
        self.records.append(record)
        if self.path is not None:
            write_atomically(self.path, (json.dumps(self.records, indent=1, ensure_ascii=False) + "\n").encode())
        return record


def show(record: Record) -> None:
    """Print a record, a line an engine: median, the quartiles around it, how many times ours."""
    factor, unit, digits = (1e3, "ms", 2) if record["unit"] == "s" else (1, "MiB", 0)
    print(f"\n{record['what']}  ({record['rounds']} rounds)")
    ours = {OURS: record[f"ours_{record['unit'].lower()}"]}
    for name, value in {**ours, **record["peers"]}.items():
        low, high = record["spread"][name]
        ratio = f"  {record['ratios'][name]:6.2f} × ours" if name != OURS else ""
        spread = f"({factor * low:.{digits}f} … {factor * high:.{digits}f})"
        print(f"  {name:24s}{factor * value:11.{digits}f} {unit}  {spread:24s}{ratio}")


def heading(engines: Iterable[str]) -> None:
    """Print what stands above the lines of `row`."""
    names = [name.removeprefix("torch ") for name in engines]
    print(f"\n{'median ms':36s}" + "".join(f"{name:>15s}" for name in names) + "   ratio: float32 bfloat16")


def row(record: Record) -> None:
    """Print a record of seconds in one line: ours (and half its quartile range), the peers, the two ratios."""
    low, high = record["spread"][OURS] if "spread" in record else (0.0, 0.0)
    percent = f"±{50 * (high - low) / record['ours_s']:.0f}%" if high else ""
    cells = [f"{1e3 * record['ours_s']:9.3f} {percent:5s}", *(f"{1e3 * s:15.3f}" for s in record["peers"].values())]
    ratios = [record.get(key) for key in ("ratio_best_float32", "ratio_bfloat16")]
    print(f"{record['what']:36s}{''.join(cells)}{ratios[0]:17.2f}" + (f"{ratios[1]:9.2f}" if ratios[1] else ""))
