"""Section `start`: what passes until something happens, each time in a fresh process.

Importing, `--help` of every command, and the first training step of the default network: with nothing compiled yet,
as after an installation, and with what the first run left.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.peers.records import Log, compare, show
from benchmarks.peers.settings import Settings
from benchmarks.peers.workers import OURS
from minidiff.__main__ import COMMANDS
from minidiff.errors import MinidiffError

ROOT = Path(__file__).parents[2]
FIRST_STEP = """
from benchmarks.peers.problems import DEFAULT, made_small
from benchmarks.peers.workers import first_step
first_step({engine!r}, {threads}, {problem})
"""
MAX_ROUNDS = 3  # a start takes seconds, and seconds are compared


def measure(settings: Settings, log: Log) -> None:
    """Measure every kind of start."""
    rounds = min(settings.rounds, MAX_ROUNDS)
    _measure("start/python", {OURS: ["-c", "pass"]}, rounds, log)
    _measure("start/import", {OURS: ["-c", "import minidiff"], "torch": ["-c", "import torch"]}, rounds, log)
    for command in COMMANDS:
        _measure(f"start/help/{command}", {OURS: ["-m", f"minidiff.{command}", "--help"]}, rounds, log)

    engines = [OURS, "torch eager", *([] if settings.quick else ["torch compile"])]
    problem = "made_small(DEFAULT)" if settings.quick else "DEFAULT"
    words = {e: ["-c", FIRST_STEP.format(engine=e, threads=settings.threads, problem=problem)] for e in engines}
    with tempfile.TemporaryDirectory(prefix="minidiff-start-") as folder:
        caches = {"NUMBA_CACHE_DIR": f"{folder}/numba", "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor"}
        _measure("start/first_step/cold", words, 1, log, caches)  # leaves behind what the next finds
        _measure("start/first_step/warm", words, rounds, log, caches)


def _measure(
    what: str, words: Mapping[str, Sequence[str]], rounds: int, log: Log, environment: Mapping[str, str] | None = None
) -> None:
    times: dict[str, list[float]] = {engine: [] for engine in words}
    for _ in range(rounds):
        for engine, arguments in words.items():
            times[engine].append(seconds(arguments, environment or {}))
    show(log.add(compare(what, times)))


def seconds(arguments: Sequence[str], environment: Mapping[str, str]) -> float:
    """Seconds from starting Python with these arguments to its end.  Raises MinidiffError in one line if it fails."""
    # without the variable Python keeps what it has parsed, as it does for a user
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | {
        **environment
    }
    begin = time.perf_counter()
    run = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=variables, capture_output=True, text=True)
    passed = time.perf_counter() - begin
    if run.returncode:
        said = (run.stderr.strip() or "no message").splitlines()[-1]
        raise MinidiffError(f"python {arguments[0]} {arguments[1].split()[0]} … ended with {run.returncode}: {said}")
    return passed
