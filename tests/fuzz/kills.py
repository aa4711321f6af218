"""`python -m tests.fuzz.kills --count 100`: trainings that are killed at any moment, and must lose nothing.

Idea: a short training that saves often gets a signal at a random moment: SIGKILL, as when power fails, or one that asks
it to stop, sometimes two of them at once.  Afterwards every checkpoint in its folder must be whole, the newest no older
than what it had saved, and `--resume` must end with the same bytes as a training that was left alone.
"""
# ruff: noqa: E402  # what is imported first must know of the threads

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tqdm import tqdm

from minidiff import checkpoint as checkpoints
from minidiff.errors import MinidiffError
from tests.fuzz.runner import prepare
from tests.fuzz.samples import Samples
from tests.fuzz.verdict import where

STEPS, EVERY = 24, 2
SIGNALS = [signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
SECONDS = 60.0  # for which a command may go on after a signal
ROOT = Path(__file__).parents[2]


@dataclass
class Done:
    """How a command ended, and what it printed."""

    code: int
    said: str


class Command:
    """A training in another process: a fork of this one, which starts at once, or an interpreter of its own."""

    def __init__(self, words: list[str], log: Path, real: bool) -> None:
        self.log = log
        if real:
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            command = [sys.executable, "-m", "minidiff.train", *words]
            with log.open("wb") as file:
                self.process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, cwd=log.parent)
            self.pid = self.process.pid
            return
        self.process = None
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _be(words, log)
            finally:
                os._exit(99)

    def ended(self) -> int | None:
        """Return the exit code, None while it is at work."""
        if self.process is not None:
            return self.process.poll()
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def wait(self, seconds: float) -> int | None:
        """Wait for the end, so many seconds at most."""
        end = time.perf_counter() + seconds
        while (code := self.ended()) is None and time.perf_counter() < end:
            time.sleep(0.001)
        return code

    def done(self) -> Done:
        """Wait for the end; kill what does not end."""
        code = self.wait(SECONDS)
        if code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait(SECONDS)
        return Done(-100 if code is None else code, self.log.read_text(errors="replace"))


def _be(words: list[str], log: Path) -> None:
    """Be a training: what its interpreter would do with a signal before and after its `main` is the same here."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    os.chdir(log.parent)
    code: object = 1
    try:
        COMMANDS["train"](words)
        code = 0
    except SystemExit as stop:
        code = stop.code
    except KeyboardInterrupt:
        code = -signal.SIGINT  # before or after main, as for any program
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code % 256 if isinstance(code, int) else 0 if code is None else 1)


COMMANDS: dict = {}


class Kills:
    """Trials, each in a folder of its own below `folder`."""

    def __init__(self, folder: Path) -> None:
        COMMANDS.update(prepare())
        self.folder, self.samples = folder, Samples(folder / "samples")
        pid = os.fork()
        if pid == 0:
            try:
                self.samples.make()
                os._exit(0)
            finally:
                os._exit(1)
        if os.waitpid(pid, 0)[1]:
            raise RuntimeError("the samples could not be made")
        self.seconds = {}
        for real in (False, True):
            start = time.perf_counter()
            done = Command(self.words("whole" + "_real" * real), folder / f"whole{real}.log", real).done()
            if done.code:
                raise RuntimeError(f"a training that nobody disturbs fails: {done.said}")
            self.seconds[real] = time.perf_counter() - start
        self.last = checkpoints.path_of(folder / "whole", STEPS).read_bytes()

    def words(self, name: str) -> list[str]:
        every = ["--steps", str(STEPS), "--save-every", str(EVERY), "--preview-every", "7", "--keep", "2"]
        return [*self.samples.training(), *every, "--out", str(self.folder / name)]

    def trial(self, seed: int) -> str:
        """Kill a training, look at what is left, let it go on; return what is wrong, "" for nothing."""
        random = Random(f"kill {seed}")
        real, number, twice = seed % 5 == 4, random.choice(SIGNALS), random.random() < 0.2
        run = self.folder / f"run{seed}"
        command = Command(self.words(run.name), self.folder / f"run{seed}.log", real)
        code = self._wait(command, run, random)
        sent = code is None
        if sent:
            os.kill(command.pid, number)
            if twice:
                time.sleep(random.random() / 1000)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(command.pid, random.choice([signal.SIGINT, signal.SIGTERM]))
        done = command.done() if sent else Done(code or 0, command.log.read_text(errors="replace"))
        what = f"{signal.Signals(number).name}{' and another' * twice}{' in its own interpreter' * real}"
        wrong = wrong_at_once(run, done, number, sent, twice) or self._wrong_later(run, seed)
        for path in (run, command.log, self.folder / f"again{seed}.log"):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        return f"{what}: {wrong}" if wrong else ""

    def _wait(self, command: Command, run: Path, random: Random) -> int | None:
        """Wait for the moment: half of the time any, else just when a checkpoint is being written."""
        code = command.wait(random.random() * 1.1 * self.seconds[command.process is not None])
        if code is None and random.random() < 0.5:
            before, end = _names(run), time.perf_counter() + SECONDS
            while (code := command.ended()) is None and _names(run) == before and time.perf_counter() < end:
                time.sleep(0.0002)
            if code is None:
                time.sleep(random.choice([0.0, 0.0005, 0.002, 0.005]) * random.random())
        return code

    def _wrong_later(self, run: Path, seed: int) -> str:
        if not checkpoints.paths_in(run):
            return ""
        done = Command(["--resume", str(run), "--backend", "numpy"], self.folder / f"again{seed}.log", False).done()
        if done.code or "Traceback" in done.said:
            return f"it cannot go on, exit code {done.code}: {done.said[-300:]}"
        if checkpoints.path_of(run, STEPS).read_bytes() != self.last:
            return "gone on with, it ends with other bytes"
        if _told(run) != list(range(1, STEPS + 1)):
            return f"its metrics tell of the steps {_told(run)}"
        if left := [path.name for path in run.rglob(".*.tmp")]:
            return f"left behind: {left[0]}"
        return ""


def wrong_at_once(run: Path, done: Done, number: int, sent: bool, twice: bool) -> str:
    """Return what is wrong with a training that ended by signal `number`, "" for nothing.

    sent: whether the signal came before its end.  twice: whether another came right after it.
    """
    if "Traceback" in done.said:
        return f"a traceback: {where(done.said)}"
    right = {0, -number % 256, 128 + number, -number} if sent else {0}
    if sent and twice:
        right |= {-15, -15 % 256, 143, -2, -2 % 256, 130}
    if done.code not in right:
        return f"exit code {done.code}: {done.said[-300:]}"
    saved = []
    for path in checkpoints.paths_in(run):
        try:
            saved.append(checkpoints.load(path).step)
        except MinidiffError as error:
            return f"a checkpoint is lost: {error}"
    told = _told(run)
    polite = done.code > 128 and done.code < 160
    least = (told[-1] if polite and not twice else (told[-1] - 1) // EVERY * EVERY) if told else 0
    if max(saved, default=0) < least:
        return f"steps are lost: {told[-1]} were made, the newest checkpoint is of {max(saved, default=0)}"
    return ""


def _names(run: Path) -> set[str]:
    """Return what is in the folder of checkpoints, the unfinished ones as well."""
    try:
        return set(os.listdir(run / "checkpoints"))  # noqa: PTH208
    except FileNotFoundError:
        return set()


def _told(run: Path) -> list[int]:
    """Return the steps in metrics.jsonl; a killed process may leave the last line half."""
    steps = []
    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
        for line in (run / "metrics.jsonl").read_text().splitlines():
            steps.append(json.loads(line)["step"])
    return steps


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first trial")
    asked = parser.parse_args()
    tqdm.monitor_interval = 0  # its thread would be forked
    folder = Path(tempfile.mkdtemp(prefix="minidiff-kills-"))
    wrong: Counter[str] = Counter()
    try:
        kills = Kills(folder)
        for seed in tqdm(range(asked.first, asked.first + asked.count), unit="kill", disable=not sys.stderr.isatty()):
            if said := kills.trial(seed):
                wrong[said] += 1
                print(f"{seed}: {said}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{asked.count} kills, {sum(wrong.values())} with faults, {sum('lost' in said for said in wrong)} lost")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
