"""`python -m tests.mutations` plants each fault into a copy, runs its tests there, and says which test noticed it.

Exits with 1 if any fault was not caught.  One fault again: `--only slerp-cosine-not-clipped`.  The faults in .cu files
need g++.  The kernels without a fault are compiled once, those with one each time: a fault in kernels/ takes minutes.
"""

import argparse
import json
import shlex
import signal
import sys
from pathlib import Path

from minidiff.errors import exit_with_one_line
from tests.mutations.faults import FAULTS, Fault
from tests.mutations.runner import Outcome, copied, planted, run

SECONDS, SECONDS_OF_ALL = 1200.0, 7200.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these faults")
    parser.add_argument("--json", type=Path, help="file for the results, for programs")
    parser.add_argument("--all-tests", action="store_true", help="run the whole suite for each fault")
    parser.add_argument("--pytest", default="", metavar="WORDS", help="further words for pytest, as one text")
    parser.add_argument(
        "--seconds", type=float, help="that the tests of a fault may take (1200, with --all-tests 7200)"
    )
    parser.add_argument("--check-first", action="store_true", help="first run the same tests without a fault")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # then, too, the tests end and the copy goes
    known = [fault.name for fault in FAULTS]
    if unknown := [name for name in asked.only or () if name not in known]:
        parser.error(f"no such fault: {', '.join(unknown)}; there are: {', '.join(known)}")
    faults = [fault for fault in FAULTS if asked.only is None or fault.name in asked.only]
    seconds = asked.seconds or (SECONDS_OF_ALL if asked.all_tests else SECONDS)
    words = shlex.split(asked.pytest)
    results: list[tuple[Fault, Outcome]] = []
    with copied() as copy:
        if asked.check_first:
            every = [] if asked.all_tests else list(dict.fromkeys(path for fault in faults for path in fault.tests))
            without = run(copy, [*every, *words], SECONDS_OF_ALL)
            if without.failed or without.problem:
                print(f"{without.said}\nwithout any fault: {without.failed or without.problem}")
                return 2
            print(f"without any fault all tests pass, {without.seconds:.0f} s", flush=True)
        for fault in faults:
            with planted(fault, copy):
                outcome = run(copy, [*([] if asked.all_tests else fault.tests), *words], seconds)
            results.append((fault, outcome))
            print(line(fault, outcome), flush=True)
            if asked.json is not None:  # each time: a run takes hours, and may be stopped
                asked.json.write_text(json.dumps([record(*result) for result in results], indent=1))
            if outcome.problem:
                print("\n".join(outcome.said.splitlines()[-20:]), file=sys.stderr)
    missed = [fault.name for fault, outcome in results if not outcome.failed]
    print(f"{len(results)} faults, {len(results) - len(missed)} caught, {len(missed)} not caught")
    return bool(missed)


def line(fault: Fault, outcome: Outcome) -> str:
    """Return the line of a fault."""
    problem = f" ({outcome.problem})" if outcome.problem else ""
    caught = f"caught by {outcome.failed}" if outcome.failed else f"NOT CAUGHT{problem}"
    return f"{fault.name:<44} {caught}  {outcome.seconds:.0f} s"


def record(fault: Fault, outcome: Outcome) -> dict[str, object]:
    """Return the same for programs."""
    return {
        "name": fault.name,
        "kind": fault.kind,
        "file": fault.file,
        "caught_by": outcome.failed,
        "problem": outcome.problem,
        "seconds": round(outcome.seconds, 1),
    }


if __name__ == "__main__":
    sys.exit(exit_with_one_line(main)())
