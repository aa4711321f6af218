"""One case in a process of its own, under limits, watched from outside.

Idea: this process imports minidiff once and computes nothing; each case is a fork of it, so that it starts in
milliseconds and whatever it spoils dies with it.  Nothing here may run a parallel kernel of Numba's: its threads do not
survive a fork.
"""

import contextlib
import faulthandler
import gc
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import threading
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TextIO

from PIL import Image
from tqdm import tqdm

from minidiff import backend
from minidiff.evaluation.convnet import TrainConfig
from minidiff.training import preview
from tests.fuzz.case import KINDS, Case
from tests.fuzz.kinds import planted
from tests.fuzz.kinds.devices import compile_kernels
from tests.fuzz.samples import Samples
from tests.fuzz.verdict import Ended, tree

COMMANDS = ("train", "sample", "evaluate", "export", "gradcheck")
SECONDS = 20.0
MAX_BYTES = 3 << 30  # of address space beyond what a process begins with; peaks are told from less
MAX_FILE = 1 << 29
WHERE_SECONDS = 0.3  # for a case that hangs to say where it is
BROKEN = 99  # exit code: the case itself could not be made


def prepare() -> dict[str, object]:
    """Import what commands need and make their images small; return the commands by name."""
    tqdm.set_lock(threading.RLock())  # its own is shared between processes: one that dies with it would stop the others
    for late in ("asyncio", "httpcore2", "ssl"):  # what commands import when they need it: here once, not in every fork
        importlib.import_module(late)
    Image.preinit()
    modules = {name: importlib.import_module(f"minidiff.{name}") for name in COMMANDS}
    backend.use("numpy")
    preview.PREVIEW, preview.FINAL = preview.SampleGrid(count=2, steps=2), preview.SampleGrid(count=2, steps=2)
    modules["evaluate"].train_config_for = lambda dataset: TrainConfig(steps=2, batch_size=4)  # type: ignore[attr-defined]
    return {name: module.main for name, module in modules.items()} | {"planted": planted.main}


@dataclass
class Running:
    """A case that was started."""

    kind: str
    seed: int
    folder: Path
    pid: int
    started: float
    asked: float = 0.0  # when it was asked where it is, having taken too long

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started


class Runner:
    """Starts cases and tells how they ended.

    folder: where each gets a folder of its own.  seconds: how long a case may take.
    """

    def __init__(self, folder: Path, seconds: float = SECONDS) -> None:
        self.folder, self.seconds = folder.resolve(), seconds
        self.folder.mkdir(parents=True, exist_ok=True)
        self.commands = prepare()
        self.samples = Samples(self.folder / "samples")
        gc.collect()
        gc.freeze()  # forks need not look for garbage in what they share
        if not self.samples.folder.exists():
            _in_a_fork(self.samples.make)

    def compile_kernels(self) -> None:
        """Fill a cache with compiled kernels, for cases that spoil it."""
        _in_a_fork(lambda: compile_kernels(self.samples))

    def start(self, kind: str, seed: int) -> Running:
        """Start a case."""
        folder = self.folder / f"{kind}-{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "here").mkdir(parents=True)
        sys.stdout.flush()
        sys.stderr.flush()
        started = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            try:
                self._be(kind, seed, folder)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(BROKEN)
        return Running(kind, seed, folder, pid, started)

    def ended(self, running: Running) -> Ended | None:
        """Return how a case ended, None if it is still at work; one that takes too long is killed."""
        pid, status, usage = os.wait4(running.pid, os.WNOHANG)
        if pid == 0:
            if not running.asked and running.seconds > self._limit(running):
                running.asked = running.seconds
                os.kill(running.pid, signal.SIGUSR1)
            elif running.asked and running.seconds > running.asked + WHERE_SECONDS:
                os.kill(running.pid, signal.SIGKILL)
            return None
        seconds = running.seconds
        with contextlib.suppress(ProcessLookupError, PermissionError):  # what it left running
            os.killpg(running.pid, signal.SIGKILL)
        about = json.loads(_read(running.folder / "case.json", MAX_WORDS) or "{}")
        return Ended(
            kind=running.kind,
            seed=running.seed,
            words=about.get("words", []),
            command=about.get("command", ""),
            code=os.waitstatus_to_exitcode(status),
            codes=tuple(about.get("codes", ())),
            hung=running.asked > 0,
            seconds=seconds,
            cpu=usage.ru_utime + usage.ru_stime,
            peak=usage.ru_maxrss * 1024,
            out=_read(running.folder / "stdout"),
            err=_read(running.folder / "stderr"),
            before=about.get("before", {}),
            after=tree(running.folder / "here"),
            stack=_read(running.folder / "stack").decode("utf-8", "replace"),
            encoding=about.get("encoding", "utf-8"),
            note=about.get("note", ""),
            heard=about.get("heard", True),
        )

    def run(self, kind: str, seed: int) -> Ended:
        """Run one case to its end."""
        running = self.start(kind, seed)
        while (ended := self.ended(running)) is None:
            time.sleep(0.005)
        return ended

    def forget(self, ended: Ended) -> None:
        """Remove a case's folder."""
        shutil.rmtree(self.folder / f"{ended.kind}-{ended.seed}", ignore_errors=True)

    def _limit(self, running: Running) -> float:
        own = json.loads(_read(running.folder / "case.json", MAX_WORDS) or "{}").get("seconds")
        return own or self.seconds

    # -- in the case's own process ----------------------------------------------------------------------------------

    def _be(self, kind: str, seed: int, folder: Path) -> None:
        """Make the case, say what it is, and become the command."""
        os.setsid()
        self.stack = (folder / "stack").open("w")
        faulthandler.register(signal.SIGUSR1, self.stack)
        os.chdir(folder / "here")
        sys.stdin = Path(os.devnull).open()  # noqa: SIM115
        os.dup2(sys.stdin.fileno(), 0)
        sys.stdout = sys.__stdout__ = _stream(folder / "stdout", 1)  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = _stream(folder / "stderr", 2)  # type: ignore[misc]
        case = KINDS[kind].make(Random(f"{kind} {seed}"), folder / "here", self.samples)
        about = {
            "command": case.command,
            "words": case.words,
            "codes": case.codes,
            "seconds": case.seconds,
            "encoding": case.encoding,
            "note": case.note,
            "heard": case.heard,
            "before": tree(folder / "here"),
        }
        (folder / "unfinished").write_text(json.dumps(about))
        (folder / "unfinished").rename(folder / "case.json")
        _limit_memory()
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        os.environ.pop("NUMBA_CACHE_DIR", None)
        if case.before is not None:
            case.before()
        os._exit(self._command(case))

    def _command(self, case: Case) -> int:
        """Run a command as the interpreter would, and return the exit code."""
        warnings.resetwarnings()
        warnings.simplefilter("default")
        for hidden in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", hidden)
        sys.argv = [f"python -m minidiff.{case.command}", *case.words]
        try:
            self.commands[case.command](case.words)  # type: ignore[operator]
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        except BaseException:
            traceback.print_exc(file=self.stack)
            self.stack.flush()
            if sys.stderr is not None:
                with contextlib.suppress(OSError, ValueError):  # it may be what the fault is about
                    traceback.print_exc()
            code = 1
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                try:
                    stream.flush()
                except (OSError, ValueError):
                    code = code or 120  # as Python's own end reports it
        return code


def _stream(path: Path, descriptor: int) -> TextIO:
    """Let a standard stream write into a file; bytes and errors as Python's own streams have them under UTF-8."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, descriptor)
    os.close(file)
    errors = "strict" if descriptor == 1 else "backslashreplace"
    return open(descriptor, "w", encoding="utf-8", errors=errors, buffering=1, closefd=False)


def _limit_memory() -> None:
    """No more address space than a case may ever need: it must not take the machine with it."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + MAX_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE, MAX_FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _in_a_fork(work: object) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            work()  # type: ignore[operator]
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise RuntimeError("what the cases need could not be made")


MAX_WORDS = 1 << 28  # bytes of case.json, which has the words of a command, and these may be long


def _read(path: Path, most: int = 1 << 20) -> bytes:
    """Return what a case wrote, at most a megabyte of it."""
    try:
        with path.open("rb") as file:
            return file.read(most)
    except FileNotFoundError:
        return b""
