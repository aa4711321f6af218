"""`python -m tests.fuzz --cases 10000 --workers 2` tries the commands with spoilt inputs; see the package's docstring.

Exits with 1 if anything was found.  One case again, with everything that it printed: `--kind png --seed 123`.
"""
# ruff: noqa: E402  # what is imported first must know of the threads

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before NumPy is imported: its threads would not survive a fork

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.fuzz import kinds  # noqa: F401  # fills the table
from tests.fuzz.case import KINDS
from tests.fuzz.kinds.known import KNOWN
from tests.fuzz.kinds.planted import PLANTED
from tests.fuzz.runner import SECONDS, Runner
from tests.fuzz.table import Findings, clean, describe, planned, run_all
from tests.fuzz.verdict import MAX_PEAK, faults


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000, help="how many, shared among the kinds by their weights")
    parser.add_argument("--kind", action="append", help="only this kind; may be given several times")
    parser.add_argument("--seed", type=int, help="of one kind only this case, with everything that it prints")
    parser.add_argument("--first", type=int, default=0, help="number of each kind's first case")
    parser.add_argument("--known", action="store_true", help="also the cases that once failed")
    parser.add_argument("--planted", action="store_true", help="also faults that are there on purpose")
    parser.add_argument("--workers", type=int, default=2, help="cases at a time")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that a case may take")
    parser.add_argument("--megabytes", type=float, default=MAX_PEAK, help="that a case may hold")
    parser.add_argument("--out", type=Path, help="folder for a file a finding")
    parser.add_argument("--keep", type=Path, help="new folder in which the cases' files are left")
    parser.add_argument("--json", type=Path, help="file for the counts, for programs")
    asked = parser.parse_args()
    if unknown := set(asked.kind or ()) - set(KINDS):
        parser.error(f"no such kind: {', '.join(unknown)}; there are: {', '.join(KINDS)}")
    work = asked.keep or Path(tempfile.mkdtemp(prefix="minidiff-fuzz-"))
    try:
        runner = Runner(work, asked.seconds)
        if asked.seed is not None:
            (kind,) = asked.kind
            ended = runner.run(kind, asked.seed)
            print(describe(ended, faults(ended)))
            return bool(faults(ended))
        names = asked.kind or [name for name, each in KINDS.items() if each.weight]
        plan = planned(asked.cases, names, asked.first)
        plan += [(name, 0) for name in KNOWN] if asked.known else []
        plan += [(name, 0) for name in PLANTED] if asked.planted else []
        if any(name == "kernel cache" for name, _ in plan):
            runner.compile_kernels()
        findings = Findings(asked.out, asked.megabytes)
        for ended in run_all(runner, plan, asked.workers, bar=sys.stderr.isatty()):
            findings.take(ended)
            if asked.keep is None:
                runner.forget(ended)
    finally:
        if asked.keep is None:
            clean(work)
    print(findings.table())
    if findings.found:
        print(f"\n{findings.found} cases with faults, by cause:\n{findings.list_of_causes()}")
    if asked.json is not None:
        counts = {name: dict(count) for name, count in findings.counts.items()}
        asked.json.write_text(json.dumps({"counts": counts, "causes": findings.list_of_causes()}))
    return findings.found > 0


if __name__ == "__main__":
    sys.exit(main())
